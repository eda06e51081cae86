//! The licences of everything that is linked into the program: most ask that their text goes with it.

use super::program::Linking;
use crate::{step, workspace};
use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What such files are called.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];

/// Every library with its licence, then every text once, with the libraries it belongs to.
///
/// # Errors
/// If cargo does not say what is linked, or a library's directory cannot be read.
pub fn collect(linking: Linking) -> Result<String> {
    let libraries = libraries()?;
    let mut text = String::from(
        "fwnet is linked with these libraries. Where a licence says \"or\", any of them may be chosen.\n\n",
    );
    let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for library in &libraries {
        writeln!(text, "{}: {}", library.name, library.licence)?;
        for licence in texts(&library.directory)? {
            owners.entry(licence).or_default().insert(library.name.clone());
        }
    }
    if linking == Linking::StaticMusl {
        writeln!(text, "musl: MIT (Copyright 2005-2020 Rich Felker, et al.)")?;
    }
    for (licence, names) in owners {
        let names: Vec<_> = names.into_iter().collect();
        let rule = "-".repeat(80);
        write!(text, "\n{rule}\n{}\n{rule}\n{}\n", names.join(", "), licence.trim_end())?;
    }
    Ok(text)
}

struct Library {
    name: String,
    licence: String,
    directory: PathBuf,
}

/// What the program depends on when it runs, from cargo's own answer; our own crates are not among them.
fn libraries() -> Result<Vec<Library>> {
    let format = "{p}\t{l}";
    let tree = step::output(workspace::cargo().args([
        "tree",
        "--locked",
        "--package",
        "fwnet",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--no-dedupe",
        "--format",
        format,
    ]))?;
    let metadata =
        step::output(workspace::cargo().args(["metadata", "--locked", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;
    let linked: BTreeSet<String> = tree
        .lines()
        .filter_map(|line| line.split('\t').next())
        .filter_map(|package| {
            let mut words = package.split(' ');
            Some(format!("{} {}", words.next()?, words.next()?.trim_start_matches('v')))
        })
        .collect();
    let mut libraries = Vec::new();
    for package in packages.iter().filter(|package| !package["source"].is_null()) {
        let word = |member: &str| package[member].as_str().unwrap_or_default();
        let name = format!("{} {}", word("name"), word("version"));
        if linked.contains(&name) {
            let directory = Path::new(word("manifest_path")).parent().context("a manifest")?;
            let licence = word("license").to_owned();
            libraries.push(Library { name, licence, directory: directory.to_owned() });
        }
    }
    libraries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(libraries)
}

/// The texts in a library's own directory.
fn texts(directory: &Path) -> Result<BTreeSet<String>> {
    let mut texts = BTreeSet::new();
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if path.is_file() && NAMES.iter().any(|start| name.starts_with(start)) {
            let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
            texts.insert(String::from_utf8_lossy(&bytes).replace('\r', ""));
        }
    }
    Ok(texts)
}
