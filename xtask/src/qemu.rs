//! QEMU, from Debian's packages. Nothing is installed: packages are unpacked into the scratch directory, where they stay for
//! the next time. (Debian's QEMU may clash with what a machine has of it.)

use crate::step::{announce, output, run};
use crate::workspace;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Memory of a machine, in MiB.
const MEMORY: &str = "1024";
/// What emulates.
const QEMU: &str = "qemu-system-x86";

/// QEMU for machines of x86_64.
#[derive(Debug)]
pub enum Emulator {
    /// Installed here.
    Installed(PathBuf),
    /// Unpacked below this directory.
    Unpacked(PathBuf),
}

impl Emulator {
    /// Finds it, or downloads it.
    ///
    /// # Errors
    /// If Debian's package cannot be had.
    pub fn provide() -> Result<Self> {
        qemu(&workspace::scratch().join("vm"))
    }

    /// Its command line so far: a machine without a disk, a network, and a display, with as many processors, each emulated
    /// by a thread. Four levels of page tables are walked faster than five; and without cmpxchg16b, whose flags QEMU 7.2
    /// gets wrong now and then, which ends a kernel that allocates memory by it.
    #[must_use]
    pub fn command(&self, processors: u8) -> Command {
        let mut command = match self {
            Self::Installed(program) => Command::new(program),
            Self::Unpacked(root) => {
                let mut command = Command::new(root.join("usr/bin/qemu-system-x86_64"));
                let libraries = ["usr/lib", "lib"]
                    .map(|path| root.join(path).join("x86_64-linux-gnu").display().to_string());
                command.env("LD_LIBRARY_PATH", libraries.join(":"));
                for data in ["usr/share/qemu", "usr/share/seabios"] {
                    command.arg("-L").arg(root.join(data));
                }
                command
            }
        };
        command
            .args([
                "-accel",
                "tcg,thread=multi",
                "-cpu",
                "max,la57=off,cx16=off",
                "-machine",
                "q35",
            ])
            .args(["-m", MEMORY, "-smp", &processors.to_string()])
            .args(["-nodefaults", "-no-user-config"])
            .args(["-display", "none", "-no-reboot", "-nic", "none"]);
        command
    }
}

fn qemu(here: &Path) -> Result<Emulator> {
    if let Some(program) = workspace::find_program("qemu-system-x86_64") {
        return Ok(Emulator::Installed(program));
    }
    let root = here.join("qemu");
    if root.exists() {
        return Ok(Emulator::Unpacked(root));
    }
    let packages = here.join("qemu-packages");
    fs::create_dir_all(packages.join("partial")).context("make a directory for packages")?;
    // As if no part of QEMU were installed: else apt would have to remove what clashes.
    let status = fs::read_to_string("/var/lib/dpkg/status").context("read dpkg's status")?;
    let others = status.split("\n\n").filter(|package| !package.starts_with("Package: qemu"));
    let pretended = here.join("status");
    fs::write(&pretended, others.collect::<Vec<_>>().join("\n\n")).context("write a status")?;
    apt_get(|| {
        let mut download = Command::new("apt-get");
        download
            .args(["--quiet", "--yes", "--no-install-recommends", "--download-only"])
            .arg("-o")
            .arg(format!("Dir::State::status={}", pretended.display()))
            .arg("-o")
            .arg(format!("Dir::Cache::archives={}", packages.display()))
            .args(["install", QEMU]);
        download
    })?;
    unpack(&packages, &root)?;
    Ok(Emulator::Unpacked(root))
}

/// Runs what asks apt for packages; if it does not work, once more with new lists.
pub(crate) fn apt_get(command: impl Fn() -> Command) -> Result<()> {
    if output(&mut command()).is_ok() {
        return Ok(());
    }
    announce("the package lists may be old: fetching new ones");
    run(Command::new("apt-get").args(["--quiet", "update"]))?;
    output(&mut command()).map(drop)
}

/// Unpacks every package of a directory, and names the result once it is whole.
pub(crate) fn unpack(packages: &Path, root: &Path) -> Result<()> {
    let making = root.with_extension("making");
    crate::dist::contents::fresh(&making)?;
    for entry in fs::read_dir(packages).context("list the packages")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg-deb").arg("--extract").arg(path).arg(&making))?;
        }
    }
    fs::rename(&making, root).with_context(|| format!("name {}", root.display()))
}
