//! Running other programs, one announced and timed step at a time.

use anyhow::{Context as _, Result, bail};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Says what is being done.
pub fn announce(what: &str) {
    eprintln!("==> {what}");
}

/// Announces `what`, does it, and says how long it took.
///
/// # Errors
/// Those of `work`, named after the step.
pub fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    announce(what);
    let start = Instant::now();
    let outcome = work();
    let seconds = start.elapsed().as_secs_f64();
    match outcome {
        Ok(value) => {
            eprintln!("    {seconds:.1} s");
            Ok(value)
        }
        Err(error) => Err(error.context(format!("{what} ({seconds:.1} s)"))),
    }
}

/// Runs `command` with its output going where ours goes and no input.
///
/// # Errors
/// If it cannot be started or is not successful; the message is the command line and how it ended.
pub fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("start {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

/// Runs `command` and returns its standard output, trimmed.
///
/// # Errors
/// As [`run`], with what it wrote to standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {line}"))?;
    if !output.status.success() {
        bail!("{line}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The command as one would type it, near enough to read.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
