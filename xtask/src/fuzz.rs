//! `cargo xtask fuzz`: the targets of `fuzz/`, each for a bounded time.
//!
//! Needs a nightly toolchain and cargo-fuzz; the latter is installed when it is missing. What libFuzzer finds goes into
//! the scratch directory and not into the committed corpus, which it only reads. An input that breaks a property is left
//! in `fuzz/artifacts`; once the fault is mended it belongs into the corpus.

use crate::step::{announce, run, timed};
use crate::{step, workspace};
use anyhow::{Context as _, Result, bail};
use std::num::NonZero;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::{fs, thread};

/// The version of cargo-fuzz that is installed.
const CARGO_FUZZ: &str = "0.13.2";
/// How long `cargo xtask test` lets each target run.
const TEST_SECONDS: u32 = 15;
/// One input may take this long: a document with 8 MiB of noise takes a fraction of it.
const INPUT_SECONDS: u32 = 10;
/// How libFuzzer begins the line that says how many inputs it has run.
const EXECUTED: &str = "stat::number_of_executed_units:";

/// Run the fuzz targets on inputs of libFuzzer's making, each for a bounded time
#[derive(clap::Args)]
pub struct Fuzz {
    /// Run this target only
    target: Option<String>,
    /// How long each target runs, once it is built
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
}

impl Fuzz {
    /// Runs the target, or all of them one after the other, and stops at the first that finds something.
    pub fn run(&self) -> ExitCode {
        let outcome = self.targets().and_then(|targets| {
            require_nightly()?;
            install()?;
            build(&targets)?;
            targets.iter().try_for_each(|target| {
                timed(&format!("fuzzing {target} for {} s", self.seconds), || {
                    run(&mut fuzz(target, self.seconds, None)?)
                })
            })
        });
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn targets(&self) -> Result<Vec<String>> {
        let known = targets()?;
        match &self.target {
            None => Ok(known),
            Some(named) if known.contains(named) => Ok(vec![named.clone()]),
            Some(named) => bail!("there is no fuzz target {named}; known: {}", known.join(", ")),
        }
    }
}

/// The seed of that step: what one run of CI found or did not find the next one does too, so that a change is not blamed
/// for the luck of the draw. New inputs are for `cargo xtask fuzz`, which draws a new one each time.
const TEST_SEED: u32 = 1;

/// The step of `cargo xtask test`: every target for a short while, or one line that says why not.
///
/// # Errors
/// If cargo-fuzz cannot be installed, a target cannot be built, or one finds something.
pub fn step() -> Result<()> {
    if let Err(error) = require_nightly() {
        announce(&format!(
            "fuzzing is left out: {error:#}; the tests have run every file of fuzz/corpus through the same properties"
        ));
        return Ok(());
    }
    timed("cargo-fuzz", install)?;
    let targets = targets()?;
    build(&targets)?;
    timed(&format!("fuzzing {} for {TEST_SECONDS} s each", targets.join(", ")), || {
        together(&targets, |target| fuzz(target, TEST_SECONDS, Some(TEST_SEED)))
    })
}

fn build(targets: &[String]) -> Result<()> {
    timed("fuzz targets", || {
        targets.iter().try_for_each(|target| run(cargo_fuzz("build").arg(target)))
    })
}

/// The command that runs a target for `seconds`, from `seed` or a new one.
fn fuzz(target: &str, seconds: u32, seed: Option<u32>) -> Result<Command> {
    let found = workspace::scratch().join("fuzz").join(target);
    fs::create_dir_all(&found).with_context(|| format!("make {}", found.display()))?;
    let committed = workspace::root().join("fuzz/corpus").join(target);
    let mut command = cargo_fuzz("run");
    command.arg(target).args([&found, &committed]).args([
        "--".to_owned(),
        format!("-max_total_time={seconds}"),
        format!("-timeout={INPUT_SECONDS}"),
        // 0 is libFuzzer's word for "choose one".
        format!("-seed={}", seed.unwrap_or(0)),
        "-verbosity=0".to_owned(),
        "-print_final_stats=1".to_owned(),
    ]);
    Ok(command)
}

/// Runs the targets' commands, as many at a time as there are processors. What a target printed is shown where it found
/// something.
fn together(targets: &[String], command: impl Fn(&str) -> Result<Command> + Sync) -> Result<()> {
    let queue = Mutex::new(targets.iter());
    let found = Mutex::new(Vec::new());
    let one = |target: &str| {
        let output = command(target)?.stdin(Stdio::null()).output().context("start cargo-fuzz")?;
        let printed = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{target}: {}:\n{}", output.status, printed.trim());
        }
        let executed = printed.lines().find_map(|line| line.strip_prefix(EXECUTED));
        eprintln!("    ok   {target}: {} inputs", executed.unwrap_or("no count of").trim());
        Ok(())
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no thread panics with it").next();
                    let Some(target) = next else { return };
                    if let Err(error) = one(target) {
                        found.lock().expect("no thread panics with it").push(format!("{error:#}"));
                    }
                }
            });
        }
    });
    let found = found.into_inner().expect("no thread panics with it");
    if !found.is_empty() {
        bail!("{}", found.join("\n"));
    }
    Ok(())
}

/// `cargo +nightly fuzz VERB` without a sanitizer: what is fuzzed holds no `unsafe`, so there is nothing for one to find,
/// and the targets build and run several times faster.
fn cargo_fuzz(verb: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "fuzz", verb, "--sanitizer", "none"]);
    command.current_dir(workspace::root());
    // Those of the toolchain that runs this program.
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(variable);
    }
    command
}

/// The names of the targets, sorted.
fn targets() -> Result<Vec<String>> {
    let files = workspace::files_below(&workspace::root().join("fuzz/fuzz_targets"))?;
    let names = files.iter().filter_map(|file| file.file_stem()?.to_str());
    Ok(names.map(str::to_owned).collect())
}

/// libFuzzer's instrumentation is behind unstable flags of the compiler.
fn require_nightly() -> Result<()> {
    if workspace::find_program("rustup").is_none() {
        bail!("rustup is not installed, by which a nightly toolchain would be found");
    }
    let installed = step::output(Command::new("rustup").args(["toolchain", "list"]))?;
    if !has_nightly(&installed) {
        bail!("no nightly toolchain is installed (rustup toolchain install nightly)");
    }
    Ok(())
}

/// Whether the list of installed toolchains has one that `rustup run nightly` means: not one of a certain day.
fn has_nightly(listing: &str) -> bool {
    listing.lines().filter_map(|line| line.split_whitespace().next()).any(|name| {
        name.strip_prefix("nightly").is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix('-').is_some_and(|host| !host.starts_with("20"))
        })
    })
}

fn install() -> Result<()> {
    if workspace::find_program("cargo-fuzz").is_some() {
        eprintln!("    cargo-fuzz is there");
        return Ok(());
    }
    announce("cargo-fuzz is missing: installing it, which takes a minute or two");
    run(workspace::cargo().args(["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_corpus_and_an_entry_in_the_manifest() {
        let targets = targets().expect("the directory is there");
        assert!(targets.len() >= 4, "{targets:?}");
        let manifest = fs::read_to_string(workspace::root().join("fuzz/Cargo.toml"))
            .expect("the manifest is there");
        for target in targets {
            let corpus = workspace::root().join("fuzz/corpus").join(&target);
            assert!(corpus.is_dir(), "{}", corpus.display());
            let path = format!("path = \"fuzz_targets/{target}.rs\"");
            assert!(manifest.contains(&path), "{path}");
        }
    }

    #[test]
    fn a_nightly_of_a_certain_day_is_another_toolchain() {
        assert!(has_nightly(
            "stable-x86_64-unknown-linux-gnu (default)\nnightly-x86_64-unknown-linux-gnu\n"
        ));
        assert!(has_nightly("nightly (active)\n"));
        assert!(!has_nightly("nightly-2026-05-19-x86_64-unknown-linux-gnu\n1.95.0\n"));
        assert!(!has_nightly("no installed toolchains\n"));
    }

    #[test]
    fn a_target_that_is_not_there_is_named_with_those_that_are() {
        let fuzz = Fuzz { target: Some("txt".to_owned()), seconds: 1 };
        let error = fuzz.targets().expect_err("there is none").to_string();
        assert!(error.contains("txt") && error.contains("text"), "{error}");
    }
}
