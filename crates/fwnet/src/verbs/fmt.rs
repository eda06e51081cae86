//! `fwnet fmt`: policies written the one way they are written. Comments stay. A JSON document stays JSON.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Args;
use policy::{Diagnostics, Document};

use crate::{
    answer::{exit, finding_if, print},
    documents::{is_standard_input, name, read, write_whole},
};

/// Command line of `fwnet fmt`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// The policies; standard input without one
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A policy (the same as FILE)
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Print the names of files that are written differently, and exit with 1 if there is one
    #[arg(long, conflicts_with = "write")]
    check: bool,
    /// Write the files in place
    #[arg(long)]
    write: bool,
}

/// Exit code 0, with `--check` 1 if a file would change, 2 if one cannot be read.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    exit(format_all(typed))
}

fn format_all(typed: &Typed) -> anyhow::Result<u8> {
    let mut files: Vec<PathBuf> = typed.files.iter().chain(&typed.policy).cloned().collect();
    if files.is_empty() {
        files.push("-".into());
    }
    if typed.write && files.iter().any(|file| is_standard_input(file)) {
        bail!("--write has no file to write to: name one");
    }
    let mut changed = false;
    for file in &files {
        let written = Written::read(file)?;
        let formatted = written.formatted();
        let differs = formatted.as_bytes() != written.bytes;
        changed |= differs;
        match (typed.check, typed.write) {
            (true, _) if differs => print(&format!("{}\n", name(file)))?,
            (true, _) => {}
            (false, true) if differs => replace(file, &formatted)?,
            (false, true) => {}
            (false, false) => print(&formatted)?,
        }
    }
    Ok(finding_if(typed.check && changed))
}

/// A document that can be read, whatever it means.
pub(crate) struct Written {
    /// The file's content.
    pub(crate) bytes: Vec<u8>,
    /// Whether it is the JSON form.
    pub(crate) json: bool,
    /// What it says.
    pub(crate) document: Document,
}

impl Written {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or is no policy: its faults are then on standard error.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let (name, bytes) = read(file)?;
        let json = bytes.trim_ascii_start().first() == Some(&b'{');
        let mut report = Diagnostics::default();
        let (document, text) = if json {
            let read = policy::from_json(&bytes, 0, &mut report);
            (read.parsed.document, read.text)
        } else {
            (policy::parse(&bytes, 0, &mut report).document, String::new())
        };
        if report.has_errors() {
            // Faults of what a JSON document says point into its text form.
            let lossy = String::from_utf8_lossy(&bytes);
            let text = if text.is_empty() { &*lossy } else { &text };
            eprint!("{}", policy::render(&report, &[(name.as_str(), text)]));
            bail!("{name} is not a policy");
        }
        Ok(Self { bytes, json, document })
    }

    /// In the form it has.
    pub(crate) fn formatted(&self) -> String {
        if self.json { json(&self.document) } else { policy::format(&self.document) }
    }
}

/// The JSON form as a file.
pub(crate) fn json(document: &Document) -> String {
    policy::to_json(document) + "\n"
}

/// Replaces a file's content, never leaving half of it: the new content is written beside it and renamed.
fn replace(file: &Path, content: &str) -> anyhow::Result<()> {
    // A link stays a link.
    let target = fs::canonicalize(file).with_context(|| name(file))?;
    let written = fs::metadata(&target)
        .and_then(|like| write_whole(&target, content, Some(like.permissions())));
    written.with_context(|| format!("write {}", name(file)))
}
