//! What the tests need from Debian's packages, why, and installing it.

use crate::bpf::tools::{LINKER_VERSION, LLVM};
use crate::{step, workspace};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A package and why it is needed.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// Debian's name for it.
    pub name: &'static str,
    /// What needs it.
    pub why: &'static str,
}

/// What building the BPF object needs beyond Rust and a C compiler, beside bpf-linker.
pub const TOOLS: &[Package] = &[
    Package { name: "rustc-web", why: "the compiler with the bpf target" },
    Package { name: "libstd-rust-web-dev-bpf", why: "its core library for that target" },
    Package { name: "llvm-22-dev", why: "bpf-linker is built on LLVM" },
    Package { name: "libpolly-22-dev", why: "LLVM links it" },
    Package { name: "libzstd-dev", why: "LLVM links it" },
    Package { name: "libxml2-dev", why: "LLVM links it" },
    Package { name: "zlib1g-dev", why: "LLVM links it" },
];
/// What else `cargo xtask test` needs, and Python 3.
const PACKAGES: &[Package] = &[
    Package {
        name: "bpftool",
        why: "detaching what a test has attached, as another root process would",
    },
    Package { name: "iproute2", why: "ip: the namespaces and links of the test hosts" },
    Package { name: "nftables", why: "nft: what connect() is measured against" },
    Package { name: "ncat", why: "a client and server that nobody here wrote" },
    Package { name: "curl", why: "an HTTP client that nobody here wrote" },
    Package { name: "etcd-server", why: "the cluster that several controllers share" },
    Package { name: "python3-venv", why: "schemathesis, which tries the agent's API" },
    Package { name: "valgrind", why: "counting instructions, whatever else the machine does" },
    Package { name: "strace", why: "what a program asked of the kernel, and got" },
];

/// A program, and the package that has it.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Its name, looked for in `PATH`.
    pub program: &'static str,
    /// Where it comes from if it is not there.
    pub package: Package,
}

/// Installs the packages of those programs that are not there.
///
/// # Errors
/// If one is missing and cannot be installed here; the message says what to do.
pub fn provide(needs: &[Need]) -> Result<()> {
    let missing: Vec<_> = needs
        .iter()
        .filter(|need| workspace::find_program(need.program).is_none())
        .map(|need| need.package)
        .collect();
    if !missing.is_empty() && workspace::find_program("apt-get").is_none() {
        let lines: Vec<_> = missing.iter().map(|it| format!("{}: {}", it.name, it.why)).collect();
        bail!("no Debian here, so nothing is installed; missing: {}", lines.join(", "));
    }
    install_missing(&missing)
}

/// Where the files of Debian's package `name` lie, unpacked and not installed: what it has would start by itself, or change
/// this machine.
///
/// # Errors
/// If it is not there already and cannot be fetched.
pub fn unpacked(name: &str) -> Result<PathBuf> {
    let place = workspace::scratch().join("packages").join(name);
    if place.is_dir() {
        return Ok(place);
    }
    let fetched = empty_beside(&place)?;
    step::run(Command::new("apt-get").args(["--quiet", "download", name]).current_dir(&fetched))?;
    let file = fs::read_dir(&fetched)?.flatten().map(|entry| entry.path()).next();
    let file = file.with_context(|| format!("apt-get fetched no package {name}"))?;
    let files = fetched.join("files");
    step::run(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(&files))?;
    fs::rename(&files, &place).with_context(|| format!("keep {}", place.display()))?;
    fs::remove_dir_all(&fetched).context("remove the package")?;
    Ok(place)
}

/// An empty directory beside `place`, for what is not complete yet.
fn empty_beside(place: &Path) -> Result<PathBuf> {
    let fetched = place.with_extension("fetched");
    if fetched.exists() {
        fs::remove_dir_all(&fetched).context("remove what is not complete")?;
    }
    fs::create_dir_all(&fetched).with_context(|| format!("make {}", fetched.display()))?;
    Ok(fetched)
}

/// The version of schemathesis that the description of the agent's API is tried with.
const SCHEMATHESIS: &str = "4.32.5";

/// Installs the packages that are missing, bpf-linker, and schemathesis.
///
/// # Errors
/// If something is missing and cannot be installed here; the message says what to do.
pub fn install() -> Result<()> {
    install_packages(&[TOOLS, PACKAGES].concat())?;
    install_linker()?;
    install_schemathesis()
}

/// Installs what building the BPF object needs and is missing.
///
/// # Errors
/// As [`install`].
pub fn install_tools() -> Result<()> {
    install_packages(TOOLS)?;
    install_linker()
}

fn install_packages(packages: &[Package]) -> Result<()> {
    if workspace::find_program("dpkg-query").is_none() {
        step::announce(
            "no Debian here, so nothing is installed; what these packages hold is needed:",
        );
        for Package { name, why } in packages {
            eprintln!("    {name}: {why}");
        }
        return Ok(());
    }
    install_missing(&missing(packages))
}

fn install_missing(missing: &[Package]) -> Result<()> {
    if missing.is_empty() {
        eprintln!("    every package is there");
        return Ok(());
    }
    for Package { name, why } in missing {
        eprintln!("    missing: {name} ({why})");
    }
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    if apt_get(&["install"], &names).is_ok() {
        return Ok(());
    }
    // A new machine has no package lists yet, or old ones.
    step::announce("the package lists may be old: fetching new ones");
    apt_get(&["update"], &[])?;
    if let Err(error) = apt_get(&["install"], &names) {
        bail!("{error:#}; install by hand: apt-get install {}", names.join(" "));
    }
    Ok(())
}

fn missing(packages: &[Package]) -> Vec<Package> {
    let names = packages.iter().map(|package| package.name);
    // It fails as soon as one of them is unknown, and lists the others all the same.
    let listing = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .args(names)
        .stdin(Stdio::null())
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let installed = |package: &Package| {
        listing.lines().any(|line| line == format!("{} installed", package.name))
    };
    packages.iter().filter(|package| !installed(package)).copied().collect()
}

fn apt_get(verb: &[&str], names: &[&str]) -> Result<()> {
    step::run(
        Command::new("apt-get")
            // Another installation on a fresh machine ends soon: wait for it, in seconds.
            .args(["--quiet", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"])
            .args(verb)
            .args(names)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

fn install_linker() -> Result<()> {
    if workspace::find_program("bpf-linker").is_some() {
        eprintln!("    bpf-linker is there");
        return Ok(());
    }
    step::announce("installing bpf-linker, which takes a minute or two");
    step::run(
        workspace::cargo()
            .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--no-default-features"])
            .args(["--features", "llvm-22"])
            .env("LLVM_PREFIX", LLVM)
            .env("RUSTFLAGS", format!("-L {LLVM}/lib")),
    )
}

/// Into a Python environment of its own, where the tests of the agent's API look for it.
fn install_schemathesis() -> Result<()> {
    let place = workspace::scratch().join("schemathesis");
    if place.join("bin/schemathesis").is_file() || workspace::find_program("schemathesis").is_some()
    {
        eprintln!("    schemathesis is there");
        return Ok(());
    }
    step::announce("installing schemathesis, which tries the description of the agent's API");
    step::run(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
    step::run(
        Command::new(place.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .arg(format!("schemathesis=={SCHEMATHESIS}")),
    )
}
