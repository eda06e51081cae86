//! QEMU and a kernel, from Debian's packages. Nothing is installed: packages are unpacked into the scratch directory, where
//! they stay for the next time. (Debian's QEMU may clash with what a machine has of it.)

use crate::step::{announce, output, run};
use crate::workspace;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the newest of Debian's kernels for virtual machines. That one has drivers for NVMe and ext4 inside, so that it needs
/// no initramfs.
const KERNEL: &str = "linux-image-cloud-amd64";
/// What emulates.
const QEMU: &str = "qemu-system-x86";

/// What a machine is started with.
#[derive(Debug)]
pub(super) struct Supplies {
    qemu: Qemu,
    /// The kernel's image.
    pub(super) kernel: PathBuf,
    /// Its modules, as they lie in `/lib/modules`.
    pub(super) modules: PathBuf,
}

#[derive(Debug)]
enum Qemu {
    /// Installed here.
    Installed(PathBuf),
    /// Unpacked below this directory.
    Unpacked(PathBuf),
}

impl Supplies {
    /// Downloads what is not there.
    pub(super) fn provide() -> Result<Self> {
        let here = workspace::scratch().join("vm");
        let qemu = qemu(&here)?;
        let root = kernel(&here)?;
        let kernel = only(&root.join("boot"), "vmlinuz-")?;
        let modules = only(&root.join("lib/modules"), "")?;
        Ok(Self { qemu, kernel, modules })
    }

    /// QEMU's command line so far.
    pub(super) fn emulator(&self) -> Command {
        match &self.qemu {
            Qemu::Installed(program) => Command::new(program),
            Qemu::Unpacked(root) => {
                let mut command = Command::new(root.join("usr/bin/qemu-system-x86_64"));
                let libraries = ["usr/lib", "lib"]
                    .map(|path| root.join(path).join("x86_64-linux-gnu").display().to_string());
                command.env("LD_LIBRARY_PATH", libraries.join(":"));
                for data in ["usr/share/qemu", "usr/share/seabios"] {
                    command.arg("-L").arg(root.join(data));
                }
                command
            }
        }
    }
}

fn qemu(here: &Path) -> Result<Qemu> {
    if let Some(program) = workspace::find_program("qemu-system-x86_64") {
        return Ok(Qemu::Installed(program));
    }
    let root = here.join("qemu");
    if root.exists() {
        return Ok(Qemu::Unpacked(root));
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
    Ok(Qemu::Unpacked(root))
}

fn kernel(here: &Path) -> Result<PathBuf> {
    let root = here.join("kernel");
    if !root.exists() {
        let packages = here.join("kernel-packages");
        fs::create_dir_all(&packages).context("make a directory for packages")?;
        apt_get(|| {
            let mut download = Command::new("sh");
            let script = format!(
                "set -e; name=$(apt-cache depends {KERNEL} | sed -n 's/^ *Depends: //p' | head -1); \
                 test -n \"$name\"; apt-get --quiet download \"$name\""
            );
            download.args(["-c", &script]).current_dir(&packages);
            download
        })?;
        unpack(&packages, &root)?;
    }
    Ok(root)
}

/// What in `directory` begins with `start`.
fn only(directory: &Path, start: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    entries
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().starts_with(start))
        .map(|entry| entry.path())
        .with_context(|| format!("no {start}* in {}", directory.display()))
}

/// Runs what asks apt for packages; if it does not work, once more with new lists.
fn apt_get(command: impl Fn() -> Command) -> Result<()> {
    if output(&mut command()).is_ok() {
        return Ok(());
    }
    announce("the package lists may be old: fetching new ones");
    run(Command::new("apt-get").args(["--quiet", "update"]))?;
    output(&mut command()).map(drop)
}

/// Unpacks every package of a directory, and names the result once it is whole.
fn unpack(packages: &Path, root: &Path) -> Result<()> {
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
