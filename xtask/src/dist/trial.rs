//! The package is installed, upgraded, removed and purged in a small Debian of its own, without systemd running there; what
//! needs a running system is tried in the virtual machine.

use super::contents::Contents;
use super::program::Program;
use super::{Date, deb, version};
use crate::debian::Debian;
use crate::step::{output, run};
use crate::workspace;
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `systemd-analyze security` may say of a unit, in tenths: 10 is the worst, the units of Debian's own services are
/// mostly at 9. A root service that loads BPF programs and enters namespaces cannot come near 0.
const EXPOSURE_MAX: &str = "40";
/// Both units.
const UNITS: [&str; 2] = ["fwnet-boot.service", "fwnet-agent.service"];
/// What dpkg and systemd keep for themselves.
const BOOKS: [&str; 5] = [
    "var/lib/dpkg/",
    "var/log/",
    "var/cache/",
    "var/lib/systemd/deb-systemd-helper-",
    "run/systemd",
];

/// Two versions of the package: the one that people get, and a later one to upgrade to.
#[derive(Clone, Debug)]
pub struct Pair {
    /// This version.
    pub first: PathBuf,
    /// The same, called later.
    pub second: PathBuf,
}

impl Pair {
    /// Writes both, below the scratch directory.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(program: &Program, contents: &Contents, date: &Date) -> Result<Self> {
        let out = workspace::scratch().join("packages");
        let later = format!("{}+later", version());
        Ok(Self {
            first: deb::write(contents, program, version(), date, &out)?,
            second: deb::write(contents, program, &later, date, &out)?,
        })
    }
}

/// Goes through a package's life and returns what held, a line each.
///
/// # Errors
/// At the first thing that is not as it should be.
pub fn run_through(pair: &Pair) -> Result<Vec<&'static str>> {
    let debian = Debian::unpack("trial")?;
    let before = files(debian.root())?;
    debian.install(&pair.first)?;
    installed(&debian, &pair.first)?;
    units(&debian)?;
    upgraded(&debian, &pair.second)?;
    removed(&debian, &before)?;
    Ok(vec![
        "installed: every file is there and root's, the program starts, both units are enabled",
        "the units: systemd-analyze finds nothing to complain about, and little exposed",
        "upgraded: the edited configuration is kept, and so is a unit that was disabled",
        "removed: only configuration and state are left; purged: nothing is",
    ])
}

fn installed(debian: &Debian, deb: &Path) -> Result<()> {
    let listed = output(Command::new("dpkg-deb").arg("--contents").arg(deb))?;
    for line in listed.lines() {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let [mode, owner, _, _, _, path] = words.as_slice() else { bail!("no file: {line}") };
        ensure!(*owner == "root/root", "{path} is {owner}'s");
        ensure!(mode.get(1..).is_some_and(|mode| !mode.contains("w-w") && !mode.ends_with('w')));
        let there = debian.root().join(path.trim_start_matches("./"));
        // The name that this is a link to may not be seen from here.
        ensure!(there.symlink_metadata().is_ok(), "{path} is not there");
    }
    let said = output(&mut debian.command("fwnet", &["--version"]))?;
    ensure!(said == format!("fwnet {}", version()), "fwnet --version says {said}");
    for unit in UNITS {
        ensure!(enabled(debian, unit)?, "{unit} is not enabled");
    }
    let summed = output(&mut debian.command("dpkg", &["--verify", "fwnet"]))?;
    ensure!(summed.is_empty(), "dpkg --verify says: {summed}");
    Ok(())
}

/// Whether a start of the system starts the unit: a link in a target's directory says so.
fn enabled(debian: &Debian, unit: &str) -> Result<bool> {
    let state = debian.command("systemctl", &["is-enabled", unit]).output();
    let state = state.context("run systemctl")?;
    Ok(String::from_utf8_lossy(&state.stdout).trim() == "enabled")
}

fn units(debian: &Debian) -> Result<()> {
    let mut verify = debian.command("systemd-analyze", &["verify", "--man=no"]);
    let verified = verify.args(UNITS).output().context("run systemd-analyze")?;
    let complaints = String::from_utf8_lossy(&verified.stderr);
    ensure!(verified.status.success() && complaints.is_empty(), "verify says: {complaints}");
    for unit in UNITS {
        let path = format!("/lib/systemd/system/{unit}");
        let threshold = format!("--threshold={EXPOSURE_MAX}");
        let arguments = ["security", "--offline=true", &threshold, "--no-pager", &path];
        let rated = output(&mut debian.command("systemd-analyze", &arguments))?;
        if let Some(line) = rated.lines().next_back() {
            eprintln!("    {}", line.trim_start_matches("→ "));
        }
    }
    Ok(())
}

fn upgraded(debian: &Debian, deb: &Path) -> Result<()> {
    let edited = b"FWNET_AGENT_OPTIONS=\"--help\"\n";
    debian.put("/etc/default/fwnet", edited, 0o644)?;
    run(&mut debian.command("systemctl", &["--quiet", "disable", "fwnet-agent.service"]))?;
    debian.install(deb)?;
    let version = output(&mut debian.command("dpkg-query", &["-W", "-f", "${Version}", "fwnet"]))?;
    ensure!(version.contains("later"), "the version is {version}");
    ensure!(fs::read(debian.root().join("etc/default/fwnet"))? == edited, "an edit is lost");
    ensure!(!enabled(debian, "fwnet-agent.service")?, "what was disabled is enabled again");
    ensure!(enabled(debian, "fwnet-boot.service")?, "what was enabled is not any more");
    Ok(())
}

fn removed(debian: &Debian, before: &BTreeSet<PathBuf>) -> Result<()> {
    debian.put("/var/lib/fwnet/policy.previous", b"", 0o600)?;
    output(&mut debian.command("dpkg", &["--remove", "fwnet"]))?;
    let left = files(debian.root())?;
    let kept: BTreeSet<_> =
        left.difference(before).map(|path| path.display().to_string()).collect();
    let expected: BTreeSet<_> = [
        "etc/default/fwnet",
        // Leads nowhere, and leads to the unit again if the package comes back.
        "etc/systemd/system/sysinit.target.wants/fwnet-boot.service",
        "var/lib/fwnet",
        "var/lib/fwnet/policy.previous",
    ]
    .map(str::to_owned)
    .into();
    ensure!(kept == expected, "removal leaves {kept:?}");
    output(&mut debian.command("dpkg", &["--purge", "fwnet"]))?;
    let after = files(debian.root())?;
    let left: Vec<_> = after.symmetric_difference(before).collect();
    ensure!(left.is_empty(), "purging leaves, or took: {left:?}");
    Ok(())
}

/// Every path below `root`, relative to it, but what dpkg keeps for itself.
fn files(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let entry = entry?;
            let path = entry.path();
            let relative = path.strip_prefix(root)?.to_owned();
            if BOOKS.iter().any(|books| relative.to_string_lossy().starts_with(books)) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                directories.push(path);
            }
            found.insert(relative);
        }
    }
    Ok(found)
}
