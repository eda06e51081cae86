//! Where the repository is and what is in it.

use anyhow::{Context as _, Result};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// The root of the repository. Cargo says at run time where that is, for `cargo xtask` and for tests; the path at
/// compile time may be another clone's, when clones share a target directory.
pub fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let xtask =
            env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        Path::new(&xtask).parent().expect("xtask is a directory of the repository").to_owned()
    });
    &ROOT
}

/// What is made and thrown away: inside the target directory of the repository, whatever the build's own is.
pub fn scratch() -> PathBuf {
    root().join("target").join("xtask")
}

/// The cargo that runs this program, in the root of the repository.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Cargo's home, where its registry and installed programs are.
pub fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")))
}

/// This program once more. By the kernel's name for it (proc(5)), because cargo may have built another one at its path.
pub fn this_program() -> Command {
    Command::new("/proc/self/exe")
}

/// The path of a program found in `PATH` or among cargo's installed programs.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let installed = cargo_home().map(|home| home.join("bin"));
    env::split_paths(&path)
        .chain(installed)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

/// Every file below `directory`, sorted by path; hidden entries and directories named `target` are left out.
///
/// # Errors
/// If a directory cannot be read.
pub fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("read directory {}", directory.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("read directory {}", directory.display()))?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") || name == "target" {
                continue;
            }
            match entry
                .file_type()
                .with_context(|| format!("look at {}", entry.path().display()))?
            {
                kind if kind.is_dir() => directories.push(entry.path()),
                _ => files.push(entry.path()),
            }
        }
    }
    files.sort();
    Ok(files)
}

/// `path` as it is written in the repository: relative to the root, with slashes.
pub fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
