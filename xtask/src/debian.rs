//! A small Debian 12 with systemd in a directory of its own: packages are installed there, and it is the disk of the
//! virtual machine.

use crate::packages::{Need, Package};
use crate::step::{announce, output, run};
use crate::workspace;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What makes one.
pub const NEEDS: &[Need] = &[Need {
    program: "mmdebstrap",
    package: Package { name: "mmdebstrap", why: "a small Debian to try the package in" },
}];

/// The suite that packages are made for.
const SUITE: &str = "bookworm";
/// What it has besides Debian's essential packages.
const INCLUDED: &str = "systemd-sysv,dbus,kmod,iproute2,bpftool,ncat,openssh-server";
/// What nobody there reads.
const LEFT_OUT: [&str; 4] =
    ["./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./var/cache"];

/// Such a system.
#[derive(Debug)]
pub struct Debian {
    root: PathBuf,
}

impl Debian {
    /// A new one in the scratch directory; an older one of that name is gone.
    ///
    /// # Errors
    /// If Debian's packages cannot be had, or not unpacked.
    pub fn unpack(name: &str) -> Result<Self> {
        let base = base()?;
        let root = crate::dist::contents::fresh(&directory().join(name))?;
        let left_out = LEFT_OUT.iter().map(|path| format!("--exclude={path}/*"));
        run(Command::new("tar")
            .args(["--extract", "--numeric-owner", "--xattrs", "--file"])
            .arg(base)
            .arg("--directory")
            .arg(&root)
            .args(left_out))?;
        Ok(Self { root })
    }

    /// Where it is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A program in it, without the environment of ours.
    #[must_use]
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.root).arg(program).args(arguments);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Copies a package in and has dpkg install it.
    ///
    /// # Errors
    /// If dpkg does not.
    pub fn install(&self, deb: &Path) -> Result<()> {
        fs::copy(deb, self.root.join("package.deb")).context("copy the package")?;
        output(&mut self.command("dpkg", &["--install", "/package.deb"]))?;
        fs::remove_file(self.root.join("package.deb")).context("remove the copy")
    }

    /// Puts a file there; `mode` are its permissions.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn put(&self, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.root.join(path.trim_start_matches('/'));
        let directory = file.parent().context("a file is in a directory")?;
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        fs::write(&file, bytes).with_context(|| file.display().to_string())?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        Ok(())
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        // The next one of its name removes it first.
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn directory() -> PathBuf {
    workspace::scratch().join("debian")
}

/// The archive that each is unpacked from. It is kept, and made anew when other packages are asked for.
fn base() -> Result<PathBuf> {
    let digest = blake3::hash(format!("{SUITE} {INCLUDED}").as_bytes()).to_hex();
    let base = directory().join(format!("base-{}.tar", &digest[..16]));
    if base.exists() {
        return Ok(base);
    }
    announce("a small Debian is made of its packages, which takes half a minute");
    fs::create_dir_all(directory()).context("make a directory for it")?;
    // Under another name until it is whole.
    let making = base.with_extension("making.tar");
    let include = format!("--include={INCLUDED}");
    let arguments = ["--quiet", "--mode=root", "--variant=apt", &include, SUITE];
    output(Command::new("mmdebstrap").args(arguments).arg(&making))?;
    fs::rename(&making, &base).context("name it")?;
    Ok(base)
}
