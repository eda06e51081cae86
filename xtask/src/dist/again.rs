//! Whether the same source gives the same bytes: everything is built once more, from a copy of the source in another
//! directory, with nothing that was built before, at another time; and compared.

use super::{Date, contents::fresh};
use crate::{step, workspace};
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Other than the name of any clone in length too: a path that slips into a program moves what comes after it.
const ELSEWHERE: &str = "dist/a-copy-of-the-source-in-another-directory";

/// Builds what is in `made` once more, and holds each file to it; `arguments` are those of `cargo xtask dist` that `made` was
/// built with.
///
/// # Errors
/// If it does not build there, or a byte differs.
pub fn compare(made: &[PathBuf], arguments: &[&str], date: &Date) -> Result<()> {
    let copy = copied()?;
    let mut build = workspace::cargo();
    build.current_dir(&copy).args([
        "run",
        "--quiet",
        "--locked",
        "--package",
        "xtask",
        "--",
        "dist",
    ]);
    build.args(arguments).args(["--out", "again"]);
    // The one of this build would be used instead of an empty one of its own.
    build.env_remove("CARGO_TARGET_DIR").env("SOURCE_DATE_EPOCH", date.epoch());
    step::run(&mut build)?;
    let again = files(&copy.join("again"))?;
    let names: Vec<_> = made.iter().filter_map(|path| path.file_name()).collect();
    ensure!(
        names.len() == again.len() && names.iter().all(|name| again.contains_key(*name)),
        "one build makes {names:?}, another {:?}",
        again.keys()
    );
    let mut differing = Vec::new();
    for path in made {
        let name = path.file_name().context("a package has a name")?;
        let first = fs::read(path).with_context(|| path.display().to_string())?;
        let second = fs::read(&again[name]).context("read what was built again")?;
        if first == second {
            eprintln!("    {}: the same {} bytes", name.display(), first.len());
        } else {
            differing.push(name.display().to_string());
        }
    }
    if !differing.is_empty() {
        bail!("{} differ from those in {}", differing.join(" and "), copy.join("again").display());
    }
    fs::remove_dir_all(&copy).with_context(|| format!("remove {}", copy.display()))
}

/// A copy of the source as it is now: what is checked in, with the changes that are not.
fn copied() -> Result<PathBuf> {
    let copy = fresh(&workspace::scratch().join(ELSEWHERE))?;
    let mut list = Command::new("git");
    list.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let list = step::output(list.current_dir(workspace::root()))?;
    for path in list.lines() {
        let (from, to) = (workspace::root().join(path), copy.join(path));
        // One that was removed and is still checked in.
        if !from.exists() {
            continue;
        }
        let directory = to.parent().context("a file is in a directory")?;
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        fs::copy(&from, &to).with_context(|| format!("copy {path}"))?;
    }
    Ok(copy)
}

fn files(directory: &Path) -> Result<BTreeMap<OsString, PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let named = entries.map(|entry| entry.map(|entry| (entry.file_name(), entry.path())));
    Ok(named.collect::<std::io::Result<_>>()?)
}
