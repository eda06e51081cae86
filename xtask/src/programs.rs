//! The programs of the workspace, built as users get them or as tests run them.

use crate::packages::{self, Need, Package};
use crate::{step, workspace};
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// What programs of `rivals/` link.
const LINKED: Need = Need {
    program: "/usr/include/seccomp.h",
    package: Package { name: "libseccomp-dev", why: "the decider behind seccomp links it" },
};

/// Programs by name, where cargo put them.
#[derive(Debug)]
pub struct Programs(BTreeMap<String, PathBuf>);

impl Programs {
    /// Builds every program of `packages` with the release profile. Cargo's own progress goes to standard error.
    ///
    /// # Errors
    /// If the build does not succeed; the compiler has said why.
    pub fn release(packages: &[&str]) -> Result<Self> {
        Self::build(&["--release"], packages)
    }

    /// The same with the profile of development, which the tests have built already.
    ///
    /// # Errors
    /// As [`Programs::release`].
    pub fn development(packages: &[&str]) -> Result<Self> {
        Self::build(&[], packages)
    }

    /// Builds every program of `rivals/`, which is not of this workspace, with the release profile. What they link is
    /// installed first.
    ///
    /// # Errors
    /// As [`Programs::release`] and [`packages::provide`].
    pub fn rivals() -> Result<Self> {
        packages::provide(&[LINKED])?;
        Self::build(&["--release", "--locked", "--manifest-path", "rivals/Cargo.toml"], &[])
    }

    /// Programs that are in `directory` already.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn built(directory: &Path) -> Result<Self> {
        let entries = fs::read_dir(directory);
        let entries = entries.with_context(|| format!("read {}", directory.display()))?;
        let paths = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
        let named = paths.filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path)));
        Ok(Self(named.collect()))
    }

    /// What is in `directory` already where one is named, else what `build` makes of `what`.
    ///
    /// # Errors
    /// As [`Programs::built`] and `build`.
    pub fn built_or(
        directory: Option<&Path>,
        what: &str,
        build: impl FnOnce() -> Result<Self>,
    ) -> Result<Self> {
        directory.map_or_else(|| step::timed(what, build), Self::built)
    }

    /// An example of the workspace with the profile of tests, which the tests have built already.
    ///
    /// # Errors
    /// As [`Programs::release`].
    pub fn example(name: &str) -> Result<Self> {
        Self::run(&["--workspace", "--profile", "test", "--example", name])
    }

    /// A program of tests of the workspace with their profile, which the tests have built already.
    ///
    /// # Errors
    /// As [`Programs::release`].
    pub fn tests(name: &str) -> Result<Self> {
        Self::run(&["--workspace", "--profile", "test", "--test", name])
    }

    fn build(profile: &[&str], packages: &[&str]) -> Result<Self> {
        let packages = packages.iter().flat_map(|&package| ["--package", package]);
        let all = ["--bins"].iter().chain(profile).copied();
        Self::run(&all.chain(packages).collect::<Vec<_>>())
    }

    fn run(what: &[&str]) -> Result<Self> {
        let mut command = workspace::cargo();
        command.arg("build").args(what);
        command.args(["--message-format", "json-render-diagnostics"]);
        let line = step::line(&command);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.with_context(|| format!("start {line}"))?;
        if !output.status.success() {
            bail!("{line}: {}", output.status);
        }
        Ok(Self(executables(&String::from_utf8_lossy(&output.stdout))))
    }

    /// The path of the program `name`.
    ///
    /// # Errors
    /// If none of the packages has it.
    pub fn path(&self, name: &str) -> Result<&Path> {
        let path = self.0.get(name).with_context(|| format!("no program {name} was built"))?;
        Ok(path)
    }
}

/// The programs among cargo's messages (JSON lines with the member `executable`), by their targets' names: files of tests have
/// a number besides.
fn executables(messages: &str) -> BTreeMap<String, PathBuf> {
    let programs = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let path = PathBuf::from(message.get("executable")?.as_str()?);
        Some((message.get("target")?.get("name")?.as_str()?.to_owned(), path))
    });
    programs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_among_cargo_s_messages() {
        let messages = r#"{"target":{"name":"verdict"},"executable":null}
            not JSON
            {"target":{"name":"fwnet"},"executable":"/t/fwnet"}
            {"target":{"name":"acceptance"},"executable":"/t/deps/acceptance-0f"}"#;
        let found = executables(messages);
        assert_eq!(found.len(), 2);
        assert_eq!(found.get("fwnet"), Some(&PathBuf::from("/t/fwnet")));
        assert_eq!(found.get("acceptance"), Some(&PathBuf::from("/t/deps/acceptance-0f")));
    }
}
