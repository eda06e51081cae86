//! QEMU and a kernel, from Debian's packages, unpacked into the scratch directory.

use crate::qemu::{Emulator, apt_get, unpack};
use crate::workspace;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the newest of Debian's kernels for virtual machines. That one has drivers for NVMe and ext4 inside, so that it needs
/// no initramfs.
const KERNEL: &str = "linux-image-cloud-amd64";

/// What a machine is started with.
#[derive(Debug)]
pub(super) struct Supplies {
    /// What emulates it.
    pub(super) emulator: Emulator,
    /// The kernel's image.
    pub(super) kernel: PathBuf,
    /// Its modules, as they lie in `/lib/modules`.
    pub(super) modules: PathBuf,
}

impl Supplies {
    /// Downloads what is not there.
    pub(super) fn provide() -> Result<Self> {
        let here = workspace::scratch().join("vm");
        let emulator = Emulator::provide()?;
        let root = kernel(&here)?;
        let kernel = only(&root.join("boot"), "vmlinuz-")?;
        let modules = only(&root.join("lib/modules"), "")?;
        Ok(Self { emulator, kernel, modules })
    }
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
