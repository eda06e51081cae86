//! What both forms of package hold, made once: the program, what it says of itself, the units, and texts.

use super::program::Program;
use super::{Date, notices};
use crate::{step, workspace};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The shells whose completions are packaged, and the file names they look for.
const SHELLS: [(&str, &str); 3] = [("bash", "fwnet"), ("zsh", "_fwnet"), ("fish", "fwnet.fish")];

/// A file, by its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The program.
    Program,
    /// A man page of section 1.
    Manual,
    /// What this shell needs to complete command lines.
    Completion(&'static str),
    /// A unit of systemd.
    Unit,
    /// Something to read: documents and licences.
    Text,
}

/// A file of a package.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is, which says where it goes.
    pub kind: Kind,
    /// Its name there.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Everything in a package, sorted by kind and name.
#[derive(Clone, Debug)]
pub struct Contents(Vec<Item>);

impl Contents {
    /// Asks `program` for its man pages and completions, and reads the rest from the repository.
    ///
    /// # Errors
    /// If the program does not answer or a file is missing.
    pub fn of(program: &Program, date: &Date) -> Result<Self> {
        let bytes =
            fs::read(&program.path).with_context(|| format!("read {}", program.path.display()))?;
        let mut items = vec![Item { kind: Kind::Program, name: "fwnet".to_owned(), bytes }];
        let pages = fresh(&workspace::scratch().join("dist/manual"))?;
        step::run(
            Command::new(&program.path)
                .arg("manual")
                .arg(&pages)
                .env("SOURCE_DATE_EPOCH", date.epoch()),
        )?;
        for page in workspace::files_below(&pages)? {
            items.push(item(Kind::Manual, &page)?);
        }
        for (shell, name) in SHELLS {
            let script = step::output(Command::new(&program.path).args(["completions", shell]))?;
            let bytes = (script + "\n").into_bytes();
            items.push(Item { kind: Kind::Completion(shell), name: name.to_owned(), bytes });
        }
        for unit in workspace::files_below(&workspace::root().join("packaging/systemd"))? {
            items.push(item(Kind::Unit, &unit)?);
        }
        for text in ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            items.push(item(Kind::Text, &workspace::root().join(text))?);
        }
        for text in ["install.md", "policy.md"] {
            items.push(item(Kind::Text, &workspace::root().join("docs").join(text))?);
        }
        let bytes = notices::collect(program.linking)?.into_bytes();
        items.push(Item { kind: Kind::Text, name: "NOTICES".to_owned(), bytes });
        items.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
        Ok(Self(items))
    }

    /// Every file.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.0.iter()
    }

    /// The text `name`.
    ///
    /// # Errors
    /// If there is none.
    pub fn text(&self, name: &str) -> Result<&[u8]> {
        let found = self.0.iter().find(|item| item.kind == Kind::Text && item.name == name);
        Ok(&found.with_context(|| format!("no text {name}"))?.bytes)
    }
}

fn item(kind: Kind, path: &Path) -> Result<Item> {
    let name = path.file_name().context("a file has a name")?.to_string_lossy().into_owned();
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(Item { kind, name, bytes })
}

/// `directory`, there and empty.
///
/// # Errors
/// If it cannot be made so.
pub fn fresh(directory: &Path) -> Result<PathBuf> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("empty {}", directory.display()))?;
    }
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    Ok(directory.to_owned())
}

/// A tree of files that a package is made of.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// An empty one at `root`; what was there is gone.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn at(root: &Path) -> Result<Self> {
        Ok(Self { root: fresh(root)? })
    }

    /// Where it is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Puts a file at `path` below the root, readable by all; `program` says that it can be run.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn put(&self, path: &str, bytes: &[u8], program: bool) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.root.join(path);
        let directory = file.parent().context("a file is in a directory")?;
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        fs::write(&file, bytes).with_context(|| file.display().to_string())?;
        let mode = if program { 0o755 } else { 0o644 };
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        // Whatever umask made of the directories.
        let mut directory = directory;
        while directory.starts_with(&self.root) {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
            let Some(above) = directory.parent() else { break };
            directory = above;
        }
        Ok(())
    }

    /// Puts a file there and compresses it, without a time or a name in it; `.gz` is added to `path`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn put_compressed(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.put(path, bytes, false)?;
        step::run(Command::new("gzip").args(["-9", "--no-name"]).arg(self.root.join(path)))
    }
}
