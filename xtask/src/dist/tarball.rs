//! The tarball: one directory with the static program and what belongs to it, for every Linux of its architecture.

use super::contents::{Contents, Kind, Tree};
use super::program::Program;
use super::{Date, version};
use crate::{step, workspace};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, iter};

/// Writes it into `out`.
///
/// # Errors
/// If it cannot be written.
pub fn write(contents: &Contents, program: &Program, date: &Date, out: &Path) -> Result<PathBuf> {
    let name = format!("fwnet-{}-{}", version(), program.linking.name());
    let above = workspace::scratch().join("dist/tarball");
    let tree = Tree::at(&above.join(&name))?;
    for item in contents.items() {
        let directory = match item.kind {
            Kind::Program | Kind::Text => "",
            Kind::Manual => "man/man1/",
            Kind::Completion(_) => "completions/",
            Kind::Unit => "systemd/",
        };
        let path = format!("{directory}{}", item.name);
        tree.put(&path, &item.bytes, item.kind == Kind::Program)?;
    }
    fs::create_dir_all(out).with_context(|| format!("make {}", out.display()))?;
    let tarball = out.join(format!("{name}.tar.gz"));
    let fixed = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"];
    let mtime = format!("--mtime=@{}", date.epoch());
    let arguments = fixed.into_iter().chain(iter::once(mtime.as_str()));
    step::run(
        Command::new("tar")
            .args(arguments)
            .args(["--use-compress-program", "gzip -9 --no-name", "--create", "--file"])
            .arg(&tarball)
            .arg("--directory")
            .arg(&above)
            .arg(&name),
    )?;
    Ok(tarball)
}
