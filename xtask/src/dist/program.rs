//! The program that packages carry: the release build without what only a debugger reads, and without the paths of the
//! machine it was built on.

use super::Date;
use crate::{step, workspace};
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// The profile of Cargo.toml that packages are built with.
const PROFILE: &str = "dist";
/// The newest glibc that a package for Debian 12 may ask for.
const GLIBC_MAX: (u32, u32) = (2, 36);

/// What the program finds where it runs, and what it brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linking {
    /// The system's C library.
    Dynamic,
    /// Nothing is found, everything is brought, with musl for a C library.
    StaticMusl,
    /// As before, with glibc: where Rust's musl target is not installed.
    StaticGlibc,
}

/// The way of linking that needs nothing where the program runs: musl, or glibc if the toolchain has no musl target and none
/// can be added.
#[must_use]
pub fn static_linking() -> Linking {
    if has_musl() {
        return Linking::StaticMusl;
    }
    let added = workspace::find_program("rustup").is_some_and(|rustup| {
        step::run(Command::new(rustup).args(["target", "add", &triple("musl")])).is_ok()
    });
    if added && has_musl() {
        return Linking::StaticMusl;
    }
    step::announce("this toolchain has no musl target: the static program is linked with glibc");
    Linking::StaticGlibc
}

fn has_musl() -> bool {
    let print = ["--print", "target-libdir", "--target", &triple("musl")];
    step::output(Command::new("rustc").args(print)).is_ok_and(|path| Path::new(&path).is_dir())
}

fn triple(library: &str) -> String {
    format!("{}-unknown-linux-{library}", env::consts::ARCH)
}

impl Linking {
    fn target(self) -> String {
        triple(match self {
            Self::Dynamic | Self::StaticGlibc => "gnu",
            Self::StaticMusl => "musl",
        })
    }

    /// What a file name says of it.
    #[must_use]
    pub fn name(self) -> String {
        let kind = match self {
            Self::Dynamic => "linux-gnu",
            Self::StaticMusl => "linux-musl-static",
            Self::StaticGlibc => "linux-gnu-static",
        };
        format!("{}-{kind}", env::consts::ARCH)
    }

    /// Flags of the compiler. Paths are of no use elsewhere, and would make two machines build different bytes.
    fn flags(self) -> String {
        let home = workspace::cargo_home().unwrap_or_default();
        let mut flags = vec![
            format!("--remap-path-prefix={}=/fwnet", workspace::root().display()),
            format!("--remap-path-prefix={}=/cargo", home.display()),
        ];
        if self == Self::StaticGlibc {
            flags.push("-Ctarget-feature=+crt-static".to_owned());
        }
        // Between flags, where a path may have blanks.
        flags.join("\x1f")
    }
}

/// A built program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// How it is linked.
    pub linking: Linking,
}

impl Program {
    /// Builds it, tells its size, and holds it to how it should be linked.
    ///
    /// # Errors
    /// If it does not build, is not linked as asked, or asks for a newer glibc than Debian 12 has.
    pub fn build(linking: Linking, date: &Date) -> Result<Self> {
        let target = linking.target();
        let mut build = workspace::cargo();
        build.args(["build", "--locked", "--profile", PROFILE, "--package", "fwnet"]);
        build.args(["--bin", "fwnet", "--target", &target]);
        build.args(["--message-format", "json-render-diagnostics"]);
        build.env("CARGO_ENCODED_RUSTFLAGS", linking.flags()).env_remove("RUSTFLAGS");
        build.env("SOURCE_DATE_EPOCH", date.epoch());
        let line = step::line(&build);
        let output = build.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.with_context(|| format!("start {line}"))?;
        if !output.status.success() {
            bail!("{line}: {}", output.status);
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        let path = messages.lines().rev().find_map(executable);
        let program = Self { path: path.context("cargo named no program")?, linking };
        let bytes = program.bytes()?;
        eprintln!("    {} ({target})", super::megabytes(bytes.len() as u64));
        let dynamic = find(&bytes, b"/ld-linux-").is_some() || find(&bytes, b"/ld-musl-").is_some();
        if dynamic != (linking == Linking::Dynamic) {
            bail!("{} is linked otherwise than asked: {linking:?}", program.path.display());
        }
        Ok(program)
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        fs::read(&self.path).with_context(|| self.path.display().to_string())
    }

    /// What Debian must have installed for it to start.
    ///
    /// # Errors
    /// If it asks for more than Debian 12 has.
    pub fn depends(&self) -> Result<String> {
        if self.linking != Linking::Dynamic {
            return Ok(String::new());
        }
        let bytes = self.bytes()?;
        let glibc = glibc_versions(&bytes).max().context("no version of glibc is asked for")?;
        if glibc > GLIBC_MAX {
            bail!("it asks for glibc {}.{}, and Debian 12 has 2.36", glibc.0, glibc.1);
        }
        let mut depends = format!("libc6 (>= {}.{})", glibc.0, glibc.1);
        if find(&bytes, b"libgcc_s.so.1").is_some() {
            depends.push_str(", libgcc-s1 (>= 4.2)");
        }
        Ok(depends)
    }
}

/// The program among cargo's messages, if the line is about it.
fn executable(line: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(PathBuf::from(message.get("executable")?.as_str()?))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Every `GLIBC_2.34` among the names of a program.
fn glibc_versions(bytes: &[u8]) -> impl Iterator<Item = (u32, u32)> + '_ {
    let names = bytes.split(|byte| *byte == 0).filter_map(|name| name.strip_prefix(b"GLIBC_"));
    names.filter_map(|name| {
        let mut parts = std::str::from_utf8(name).ok()?.split('.').map(str::parse);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_asks_of_glibc_is_read_from_its_names() {
        let names =
            b"\0libc.so.6\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_PRIVATE\0xGLIBC_2.99\0GLIBC_2.4\0";
        let versions: Vec<_> = glibc_versions(names).collect();
        assert_eq!(versions, [(2, 2), (2, 34), (2, 4)]);
    }

    #[test]
    fn a_program_that_asks_for_more_than_debian_12_has_is_refused() {
        let directory = workspace::scratch().join("dist/glibc-test");
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("program");
        let program = Program { path: path.clone(), linking: Linking::Dynamic };
        fs::write(&path, b"\0GLIBC_2.34\0libgcc_s.so.1\0").unwrap();
        assert_eq!(program.depends().unwrap(), "libc6 (>= 2.34), libgcc-s1 (>= 4.2)");
        fs::write(&path, b"\0GLIBC_2.39\0").unwrap();
        assert!(program.depends().unwrap_err().to_string().contains("glibc 2.39"));
        fs::remove_dir_all(&directory).unwrap();
    }
}
