//! The tarball: one directory with the static program and what belongs to it, for every Linux of its architecture.

use super::contents::{Contents, Kind, Tree, fresh};
use super::program::Program;
use super::{Date, version};
use crate::{step, workspace};
use anyhow::{Context as _, Result, ensure};
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

/// Unpacks it and runs the program where there is nothing else: no library, no loader, no file.
///
/// # Errors
/// If it asks for something, is not this version, or something is missing beside it.
pub fn try_out(tarball: &Path) -> Result<()> {
    let root = fresh(&workspace::scratch().join("dist/unpacked"))?;
    let mut unpack = Command::new("tar");
    unpack.args(["--extract", "--strip-components=1", "--file"]).arg(tarball);
    step::run(unpack.arg("--directory").arg(&root))?;
    for path in ["NOTICES", "LICENSE-MIT", "man/man1/fwnet.1", "systemd/fwnet-agent.service"] {
        ensure!(root.join(path).is_file(), "it has no {path}");
    }
    let program = root.join("fwnet");
    // It says so and ends with 1 where a program is not dynamic; of musl's kind of static program, that it is static.
    let listed = Command::new("ldd").arg(&program).output().context("run ldd")?;
    let listed = [listed.stdout, listed.stderr].concat();
    let listed = String::from_utf8_lossy(&listed);
    let is_static = listed.contains("statically linked") || listed.contains("not a dynamic");
    ensure!(is_static, "ldd says: {listed}");
    let alone = |arguments: &[&str]| {
        let mut command = Command::new("chroot");
        // chroot is in sbin, where nobody looks who has no PATH.
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .arg(&root)
            .arg("/fwnet")
            .args(arguments);
        command
    };
    let said = step::output(&mut alone(&["--version"]))?;
    ensure!(said == format!("fwnet {}", version()), "fwnet --version says {said}");
    let said = step::output(Command::new(&program).arg("doctor"))?;
    ensure!(said.contains("cgroup/connect4"), "fwnet doctor says: {said}");
    fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))
}
