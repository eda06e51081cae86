//! `cargo xtask test`: what CI runs, from a fresh clone to the last scene in the virtual machine, and one line at the end
//! that sums it up.

mod summary;

use crate::bench::{fleet, instructions};
use crate::step::{announce, run, timed};
use crate::{bpf, fuzz, matrix, packages, vm, workspace};
use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{fs, io};
use summary::{Runner, Summary};

/// Names the object that the tests load instead of the committed one.
pub const OBJECT_VARIABLE: &str = "FWNET_BPF_OBJECT";

/// Install what is missing, rebuild the BPF object, check formatting and lints, run every test, count instructions, measure a small fleet, fuzz for a minute, play the matrix on Debian's kernels, and try the package in a virtual machine (as root)
#[derive(clap::Args)]
pub struct Test {
    /// Run only the tests whose name contains this
    filter: Option<String>,
}

impl Test {
    /// Runs every step and stops at the first that fails. The last line is always `N passed, N failed`; a failed step
    /// that is not a test counts as one.
    pub fn run(&self) -> ExitCode {
        let mut summary = Summary::default();
        let outcome = self.steps(&mut summary);
        if let Err(error) = &outcome {
            eprintln!("\nerror: {error:#}");
            summary.failed = summary.failed.max(1);
        }
        // Nobody to tell if the reader is gone.
        let _ = writeln!(io::stdout(), "{} passed, {} failed", summary.passed, summary.failed);
        if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn steps(&self, summary: &mut Summary) -> Result<()> {
        require_root()?;
        timed("packages", packages::install)?;
        let object = timed("BPF object from source", rebuild)?;
        timed("formatting", || {
            run(workspace::cargo().args(["fmt", "--all", "--check"]))?;
            run(workspace::cargo().args([
                "fmt",
                "--check",
                "--manifest-path",
                "crates/ebpf/Cargo.toml",
            ]))
        })?;
        timed("lints", || {
            run(workspace::cargo().args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ]))
        })?;
        timed("programs", || run(workspace::cargo().args(["build", "--workspace", "--bins"])))?;
        let (runner, mut tests) = tests();
        timed("tests", || self.test(runner, &mut tests, &object, summary))?;
        let mut examples = workspace::cargo();
        examples.args(["test", "--workspace", "--doc", "--no-fail-fast"]);
        timed("examples in the documentation", || {
            self.test(Runner::Libtest, &mut examples, &object, summary)
        })?;
        if workspace::find_program("cargo-deny").is_some() {
            timed("dependencies", || {
                run(workspace::cargo().args(["deny", "--offline", "check", "bans", "licenses"]))
            })?;
        } else {
            announce(
                "cargo-deny is not installed; the tidy tests have checked deny.toml's bans and licences",
            );
        }
        // A filter asks for certain tests, and neither a target nor a scene is one.
        if self.filter.is_none() {
            instructions::step()?;
            fleet::step()?;
            fuzz::step()?;
            matrix::step(&mut summary.passed)?;
            vm::step(&mut summary.passed)?;
        }
        if summary.passed == 0 {
            bail!(
                "no test ran: none has {:?} in its name",
                self.filter.as_deref().unwrap_or_default()
            );
        }
        Ok(())
    }

    /// Runs a test runner, shows what it prints as it comes, and adds up its results.
    fn test(
        &self,
        runner: Runner,
        command: &mut Command,
        object: &Path,
        summary: &mut Summary,
    ) -> Result<()> {
        let line = crate::step::line(command);
        let mut child = command
            .args(&self.filter)
            .env(OBJECT_VARIABLE, object)
            .env("CARGO_TERM_COLOR", "never")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {line}"))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (results, complaints) = std::thread::scope(|scope| {
            let complaints = scope.spawn(|| pass_on(runner, stderr));
            (pass_on(runner, stdout), complaints.join().expect("reading lines does not panic"))
        });
        let counted = results + complaints;
        *summary = *summary + counted;
        let status = child.wait().with_context(|| format!("wait for {line}"))?;
        if !status.success() || counted.failed > 0 {
            bail!("{line}: {status}, {} failed", counted.failed);
        }
        Ok(())
    }
}

/// The runner that isolates each test in a process where it is installed, else the one that cargo has.
fn tests() -> (Runner, Command) {
    let mut command = workspace::cargo();
    if workspace::find_program("cargo-nextest").is_some() {
        command.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
        command.args(["--color", "never", "--no-tests", "pass"]);
        (Runner::Nextest, command)
    } else {
        command.args(["test", "--workspace", "--all-targets", "--no-fail-fast"]);
        (Runner::Libtest, command)
    }
}

/// Copies lines to standard error as they come, and counts the results among them.
fn pass_on(runner: Runner, stream: impl io::Read) -> Summary {
    let mut summary = Summary::default();
    for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        summary = summary + Summary::of_line(runner, &line);
    }
    summary
}

/// A fresh object in the scratch directory; it must be the committed one if it comes from the same tools.
fn rebuild() -> Result<PathBuf> {
    let directory = workspace::scratch().join("bpf/fresh");
    let record = bpf::build(&directory)?;
    if bpf::compare(&record)? {
        eprintln!("    the committed object is what its source and tools make, byte for byte");
    } else {
        eprintln!(
            "    the committed object is of other source or tools; the tests load the fresh one"
        );
    }
    Ok(directory.join(bpf::OBJECT))
}

/// Namespaces, cgroups and BPF programs are root's.
fn require_root() -> Result<()> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let effective = user
        .and_then(|ids| ids.split_ascii_whitespace().nth(1))
        .context("find the effective user id")?;
    if effective != "0" {
        bail!(
            "the tests make network namespaces and load BPF programs: run as root (sudo -E env PATH=\"$PATH\" cargo xtask test)"
        );
    }
    Ok(())
}
