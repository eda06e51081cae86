//! The disk of a virtual machine: the small Debian, what a scene needs in it, and the service that answers the host.

use super::supplies::Supplies;
use crate::debian::Debian;
use crate::dist::contents::fresh;
use crate::dist::program::Program;
use crate::dist::trial::Pair;
use crate::{step, workspace};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Blocks are made when they are written: this is what the system may grow to.
const SIZE: &str = "1G";
/// What is put into every machine: path, content, permissions.
const FILES: [(&str, &str, u32); 6] = [
    ("/usr/local/bin/answer", include_str!("guest/answer.sh"), 0o755),
    ("/usr/local/bin/attempt", include_str!("guest/attempt.pl"), 0o755),
    ("/usr/local/bin/hammer", include_str!("guest/hammer.pl"), 0o755),
    ("/usr/local/bin/security", include_str!("guest/security.pl"), 0o755),
    ("/etc/systemd/system/answer.service", include_str!("guest/answer.service"), 0o644),
    ("/etc/systemd/system/early.service", include_str!("guest/early.service"), 0o644),
];
/// Units that start with the system, and the target that wants them.
const WANTED: [(&str, &str); 2] =
    [("answer.service", "multi-user.target"), ("early.service", "sysinit.target")];

/// A disk, in a directory that goes with it.
#[derive(Debug)]
pub(super) struct Disk {
    directory: PathBuf,
}

impl Disk {
    /// Makes one: with the package installed and its later version at hand, or with the bare program.
    pub(super) fn make(
        name: &str,
        supplies: &Supplies,
        installed: Option<&Pair>,
        program: &Program,
    ) -> Result<Self> {
        let debian = Debian::unpack("machine")?;
        let modules = debian.root().join("lib/modules");
        fs::create_dir_all(&modules).context("make a directory for modules")?;
        step::output(Command::new("cp").args(["-a", "-t"]).arg(modules).arg(&supplies.modules))?;
        let release = supplies.modules.file_name().context("modules have a release")?;
        step::output(&mut debian.command("depmod", &[&release.to_string_lossy()]))?;
        match installed {
            Some(pair) => {
                debian.install(&pair.first)?;
                fs::copy(&pair.second, debian.root().join("root/later.deb"))
                    .context("copy the later package")?;
            }
            None => {
                let bytes = fs::read(&program.path).context("read the program")?;
                debian.put("/usr/bin/fwnet", &bytes, 0o755)?;
            }
        }
        for (path, content, mode) in FILES {
            debian.put(path, content.as_bytes(), mode)?;
        }
        for (unit, target) in WANTED {
            let wants = debian.root().join(format!("etc/systemd/system/{target}.wants"));
            fs::create_dir_all(&wants).context("make a directory of wanted units")?;
            std::os::unix::fs::symlink(format!("../{unit}"), wants.join(unit))
                .with_context(|| format!("enable {unit}"))?;
        }
        let directory = fresh(&workspace::scratch().join("vm").join(format!("scene-{name}")))?;
        let disk = Self { directory };
        let mut format = Command::new("mke2fs");
        // Nobody checks a file system that lives for a minute.
        format.args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"]).arg(debian.root());
        step::output(format.arg(disk.path()).arg(SIZE))?;
        Ok(disk)
    }

    /// The image.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.join("disk.img")
    }

    /// Where the machine writes.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The next one of its name removes it first.
        let _ = fs::remove_file(self.path());
    }
}
