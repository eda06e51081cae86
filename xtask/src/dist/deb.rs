//! The Debian package: where its files go, what it says of itself, and its maintainer scripts (`packaging/deb`).

use super::Date;
use super::contents::{Contents, Kind, Tree};
use super::program::Program;
use crate::{step, workspace};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The scripts, and what else of `packaging/deb` is copied as it is.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// The one file that an administrator edits, as dpkg knows it.
const CONFFILE: &str = "etc/default/fwnet";
/// Kept where Debian keeps documents.
const DOC: &str = "usr/share/doc/fwnet";

/// Writes version `version` of it into `out`.
///
/// # Errors
/// If it cannot be written, or the program asks for more than Debian 12 has.
pub fn write(
    contents: &Contents,
    program: &Program,
    version: &str,
    date: &Date,
    out: &Path,
) -> Result<PathBuf> {
    let tree = Tree::at(&workspace::scratch().join("dist/deb"))?;
    for item in contents.items() {
        place(&tree, &item.kind, &item.name, &item.bytes)?;
    }
    tree.put(CONFFILE, &source("default")?, false)?;
    let version = format!("{version}-1");
    tree.put(&format!("{DOC}/copyright"), &copyright(contents)?, false)?;
    let entry = changelog(&version, date)?;
    tree.put_compressed(&format!("{DOC}/changelog.Debian"), entry.as_bytes())?;
    control(&tree, program, &version)?;
    fs::create_dir_all(out).with_context(|| format!("make {}", out.display()))?;
    let deb = out.join(format!("fwnet_{version}_{}.deb", architecture()));
    step::run(
        Command::new("dpkg-deb")
            // More than one thread makes other bytes on other machines.
            .args(["--root-owner-group", "-Zxz", "--threads-max=1", "--build"])
            .arg(tree.root())
            .arg(&deb)
            .env("SOURCE_DATE_EPOCH", date.epoch()),
    )?;
    Ok(deb)
}

/// Puts one file where Debian has such files.
fn place(tree: &Tree, kind: &Kind, name: &str, bytes: &[u8]) -> Result<()> {
    match kind {
        Kind::Program => tree.put(&format!("usr/bin/{name}"), bytes, true),
        Kind::Manual => tree.put_compressed(&format!("usr/share/man/man1/{name}"), bytes),
        Kind::Completion(shell) => {
            let directory = match *shell {
                "bash" => "usr/share/bash-completion/completions",
                "zsh" => "usr/share/zsh/vendor-completions",
                _ => "usr/share/fish/vendor_completions.d",
            };
            tree.put(&format!("{directory}/{name}"), bytes, false)
        }
        Kind::Unit => tree.put(&format!("lib/systemd/system/{name}"), bytes, false),
        Kind::Text => match name {
            // `copyright` has the one and names where Debian keeps the other.
            "LICENSE-MIT" | "LICENSE-APACHE" => Ok(()),
            "CHANGELOG.md" => tree.put_compressed(&format!("{DOC}/changelog"), bytes),
            "NOTICES" => tree.put_compressed(&format!("{DOC}/{name}"), bytes),
            _ => tree.put(&format!("{DOC}/{name}"), bytes, false),
        },
    }
}

fn control(tree: &Tree, program: &Program, version: &str) -> Result<()> {
    let (files, size) = measured(tree)?;
    let mut sums = Command::new("md5sum");
    sums.current_dir(tree.root()).args(&files);
    let sums = step::output(&mut sums)? + "\n";
    let text = String::from_utf8(source("control")?)?
        .replace("@VERSION@", version)
        .replace("@ARCHITECTURE@", architecture())
        .replace("@SIZE_KIB@", &size.div_ceil(1024).to_string())
        .replace("@DEPENDS@", &program.depends()?);
    tree.put("DEBIAN/control", text.as_bytes(), false)?;
    tree.put("DEBIAN/md5sums", sums.as_bytes(), false)?;
    tree.put("DEBIAN/conffiles", format!("/{CONFFILE}\n").as_bytes(), false)?;
    for script in SCRIPTS {
        tree.put(&format!("DEBIAN/{script}"), &source(script)?, true)?;
    }
    Ok(())
}

/// The paths of all files, and their size in bytes.
fn measured(tree: &Tree) -> Result<(Vec<PathBuf>, u64)> {
    let mut size = 0;
    let mut files = Vec::new();
    for file in workspace::files_below(tree.root())? {
        size += fs::metadata(&file).with_context(|| file.display().to_string())?.len();
        files.push(file.strip_prefix(tree.root())?.to_owned());
    }
    Ok((files, size))
}

fn source(name: &str) -> Result<Vec<u8>> {
    let path = workspace::root().join("packaging/deb").join(name);
    fs::read(&path).with_context(|| format!("read {}", path.display()))
}

/// In the machine-readable form of Debian (DEP-5); the licences of what is linked in are in NOTICES.gz.
fn copyright(contents: &Contents) -> Result<Vec<u8>> {
    let mit = String::from_utf8(contents.text("LICENSE-MIT")?.to_vec())?;
    let (holder, licence) = mit
        .split_once("\n\n")
        .and_then(|(_, rest)| rest.split_once("\n\n"))
        .context("LICENSE-MIT has a title, a holder and a text")?;
    let holder = holder.trim_start_matches("Copyright (c) ");
    let licence: String = licence
        .trim_end()
        .lines()
        .map(|line| if line.is_empty() { " .\n".to_owned() } else { format!(" {line}\n") })
        .collect();
    Ok(format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: fwnet\n\n\
         Files: *\nCopyright: {holder}\nLicense: Expat or Apache-2.0\n\
         Comment: The libraries linked into the program and their licences are in NOTICES.gz.\n\n\
         License: Expat\n{licence}\n\
         License: Apache-2.0\n On Debian systems, the text of the Apache License, version 2.0, is in\n \
         /usr/share/common-licenses/Apache-2.0.\n"
    )
    .into_bytes())
}

fn changelog(version: &str, date: &Date) -> Result<String> {
    let control = String::from_utf8(source("control")?)?;
    let maintainer = control
        .lines()
        .find_map(|line| line.strip_prefix("Maintainer: "))
        .context("control names the maintainer")?;
    Ok(format!(
        "fwnet ({version}) unstable; urgency=medium\n\n  * See changelog.gz for what changed.\n\n -- {maintainer}  {}\n",
        date.in_words()?
    ))
}

/// Debian's word for this machine's architecture.
#[must_use]
pub fn architecture() -> &'static str {
    match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
