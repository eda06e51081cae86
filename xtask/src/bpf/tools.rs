//! The two sets of tools that can build for the bpf target, and what to do when neither is there.
//!
//! Debian's packages have a compiler with the target's core library; elsewhere a nightly compiler builds that library
//! from its source. Both need bpf-linker, which needs LLVM.

use crate::{step, workspace};
use anyhow::{Context as _, Result, bail};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Of bpf-linker, and of the LLVM it is built with: the newest pair that Debian 12 can build.
pub const LINKER_VERSION: &str = "0.13.0";
/// Where Debian puts that LLVM.
pub const LLVM: &str = "/usr/lib/llvm-22";

const TARGET: &str = "bpfel-unknown-none";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

const HOW: &str = "\
On Debian, `cargo xtask test` installs what is missing. By hand:
  apt-get install rustc-web libstd-rust-web-dev-bpf llvm-22-dev libpolly-22-dev libzstd-dev libxml2-dev zlib1g-dev
Elsewhere:
  rustup toolchain install nightly --component rust-src
In both cases, with LLVM_PREFIX naming the LLVM that is there:
  LLVM_PREFIX=/usr/lib/llvm-22 RUSTFLAGS=\"-L /usr/lib/llvm-22/lib\" \\
    cargo install bpf-linker --version 0.13.0 --no-default-features --features llvm-22";

/// A complete set of tools.
#[derive(Debug)]
pub struct Tools {
    compiler: Compiler,
    linker: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compiler {
    /// Package rustc-web with libstd-rust-web-dev-bpf, driven by the cargo that runs us.
    Debian,
    /// rustup's toolchain `nightly` with the component rust-src.
    Nightly,
}

impl Tools {
    /// Finds a complete set, Debian's first.
    ///
    /// # Errors
    /// If there is none: the message names each missing part of each set and how to get it.
    pub fn find() -> Result<Self> {
        let linker = workspace::find_program("bpf-linker");
        let (debian, nightly) = (missing_from_debian(), missing_from_nightly());
        let compiler = match (&debian, &nightly) {
            (None, _) => Some(Compiler::Debian),
            (Some(_), None) => Some(Compiler::Nightly),
            (Some(_), Some(_)) => None,
        };
        match (compiler, linker) {
            (Some(compiler), Some(linker)) => Ok(Self { compiler, linker }),
            (compiler, linker) => {
                let mut missing = Vec::new();
                if compiler.is_none() {
                    missing.extend([debian, nightly].into_iter().flatten());
                }
                if linker.is_none() {
                    missing.push("bpf-linker is neither in PATH nor among cargo's programs".into());
                }
                bail!("the BPF object cannot be built here:\n- {}\n\n{HOW}", missing.join("\n- "))
            }
        }
    }

    /// Its name in the record: `debian` or `nightly`.
    pub fn name(&self) -> &'static str {
        match self.compiler {
            Compiler::Debian => "debian",
            Compiler::Nightly => "nightly",
        }
    }

    /// What the compiler calls itself.
    ///
    /// # Errors
    /// If it does not run.
    pub fn rustc_version(&self) -> Result<String> {
        match self.compiler {
            Compiler::Debian => step::output(Command::new(DEBIAN_RUSTC).arg("--version")),
            Compiler::Nightly => step::output(&mut nightly("rustc", ["--version"])),
        }
    }

    /// What the cargo that drives the compiler calls itself.
    ///
    /// # Errors
    /// If it does not run.
    pub fn cargo_version(&self) -> Result<String> {
        match self.compiler {
            Compiler::Debian => step::output(workspace::cargo().arg("--version")),
            Compiler::Nightly => step::output(&mut nightly("cargo", ["--version"])),
        }
    }

    /// What the linker calls itself.
    ///
    /// # Errors
    /// If it does not run.
    pub fn linker_version(&self) -> Result<String> {
        step::output(Command::new(&self.linker).arg("--version"))
    }

    /// Builds `package` of the workspace at `stage`, with these features of it, with the build directory `build`, and
    /// returns the object's path.
    ///
    /// # Errors
    /// If the compiler or the linker refuses; they have said why.
    pub fn build(
        &self,
        stage: &Path,
        build: &Path,
        package: String,
        features: &[&str],
    ) -> Result<PathBuf> {
        let mut command = match self.compiler {
            Compiler::Debian => workspace::cargo(),
            Compiler::Nightly => nightly("cargo", [""; 0]),
        };
        // Flags, wrappers and profiles that a developer or a CI system sets for the host are not for this target.
        for (name, _) in env::vars_os() {
            if let Some(name) = name.to_str().filter(|name| steers_cargo(name)) {
                command.env_remove(name);
            }
        }
        command
            .current_dir(stage)
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags(stage).join("\u{1f}"))
            .env("RUSTC_WRAPPER", "")
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker)
            .args(["build", "--release", "--locked", "--target", TARGET, "--package", &package])
            .args(["--features", &features.join(",")])
            .args(["--message-format", "json-render-diagnostics", "--target-dir"])
            .arg(build);
        match self.compiler {
            // Debian's compiler is a stable one; building for the target uses features that only nightly has unlocked.
            Compiler::Debian => command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1"),
            Compiler::Nightly => command.args(["-Z", "build-std=core"]),
        };
        let line = step::line(&command);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.with_context(|| format!("start {line}"))?;
        if !output.status.success() {
            bail!("{line}: {}", output.status);
        }
        executable(&String::from_utf8_lossy(&output.stdout))
            .with_context(|| format!("{package} builds a program"))
    }

    /// Compiler flags: debug information, from which the linker makes BTF, and no path of this machine in it.
    fn flags(&self, stage: &Path) -> Vec<String> {
        let mut flags = vec![
            "-Cdebuginfo=2".to_owned(),
            "-Clink-arg=--btf".to_owned(),
            "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
            format!("--remap-path-prefix={}=fwnet", stage.display()),
        ];
        // Later flags win: the registry may lie inside a remapped directory.
        for (path, name) in [(workspace::cargo_home(), "cargo"), (self.sysroot(), "rust")] {
            if let Some(path) = path {
                flags.push(format!("--remap-path-prefix={}={name}", path.display()));
            }
        }
        flags
    }

    /// Where the source of a nightly compiler's core library is; Debian's has its paths remapped already.
    fn sysroot(&self) -> Option<PathBuf> {
        match self.compiler {
            Compiler::Debian => None,
            Compiler::Nightly => {
                step::output(&mut nightly("rustc", ["--print", "sysroot"])).ok().map(PathBuf::from)
            }
        }
    }
}

/// Whether an environment variable changes what cargo builds.
fn steers_cargo(name: &str) -> bool {
    let prefixes = [
        "CARGO_BUILD_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_INCREMENTAL",
    ];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
        || name.starts_with("RUSTC")
        || name == "RUSTFLAGS"
}

/// What is missing for Debian's set, besides the linker.
fn missing_from_debian() -> Option<String> {
    if !Path::new(DEBIAN_RUSTC).exists() {
        return Some(format!("Debian's tools: no {DEBIAN_RUSTC} (package rustc-web)"));
    }
    let sysroot = match step::output(Command::new(DEBIAN_RUSTC).args(["--print", "sysroot"])) {
        Ok(sysroot) => sysroot,
        Err(error) => return Some(format!("Debian's tools: {error:#}")),
    };
    let library = Path::new(&sysroot).join("lib/rustlib").join(TARGET).join("lib");
    let complete = fs::read_dir(&library).is_ok_and(|mut entries| entries.next().is_some());
    (!complete).then(|| {
        format!(
            "Debian's tools: no core library for {TARGET} in {} (package libstd-rust-web-dev-bpf)",
            library.display()
        )
    })
}

/// What is missing for the nightly set, besides the linker.
fn missing_from_nightly() -> Option<String> {
    let sysroot = match step::output(&mut nightly("rustc", ["--print", "sysroot"])) {
        Ok(sysroot) => sysroot,
        Err(error) => return Some(format!("nightly tools: no toolchain nightly ({error:#})")),
    };
    let source = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core");
    (!source.exists()).then(|| {
        format!("nightly tools: the toolchain nightly in {sysroot} has no component rust-src")
    })
}

/// A program of rustup's toolchain nightly, whatever toolchain runs us.
fn nightly<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", program]).args(arguments);
    for name in ["RUSTUP_TOOLCHAIN", "RUSTC", "CARGO"] {
        command.env_remove(name);
    }
    command
}

/// The program among cargo's messages (its JSON lines with the reason `compiler-artifact`).
fn executable(messages: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::TOOLS;

    #[test]
    fn the_advice_names_what_is_installed() {
        for word in TOOLS.iter().map(|package| package.name).chain([LINKER_VERSION, LLVM]) {
            assert!(HOW.contains(word), "{word}");
        }
    }

    #[test]
    fn the_program_is_found_among_cargo_s_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\nnot JSON\n\
            {\"reason\":\"compiler-artifact\",\"executable\":\"/t/fwnet\"}\n{\"reason\":\"build-finished\"}\n";
        assert_eq!(executable(messages), Some(PathBuf::from("/t/fwnet")));
        assert_eq!(executable("{\"executable\":null}"), None);
    }
}
