//! One step of the session: a command typed on a machine, what came of it, and what `fwnet run` said about it.

use super::stage::{Place, Stage, TRAFFIC};
use anyhow::{Result, bail, ensure};
use std::any::Any;
use std::io::{self, Write as _};
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;
use testbed::Running;

/// Nothing that works takes nearly as long, even on a busy machine.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// What must come of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    /// Its exit code.
    pub code: i32,
    /// A part of a line that it must print.
    pub says: &'a str,
    /// Parts of lines that `fwnet run` must print about it, in any order. A denial that is not among them is a fault.
    pub events: &'a [&'a str],
}

/// Prints to standard output, at once.
pub(super) fn say(text: &str) {
    let mut stdout = io::stdout().lock();
    // Nobody to tell if the reader is gone; the exit code still does.
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// Turns a panic of testbed, which is how it says that something did not happen, into an error.
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // What the work has half changed is dropped with the session, which ends at the first error.
    match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome,
        Err(panic) => bail!("{}", message(&*panic)),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
    text.unwrap_or_else(|| "it panicked".to_owned())
}

/// Types `line` at `place` with one line of input, prints what comes, and holds it to `expected`.
pub(super) fn attempt(
    stage: &Stage,
    firewall: Option<&Running>,
    place: Place,
    line: &str,
    expected: Expected<'_>,
) -> Result<()> {
    let seen = firewall.map_or(0, |firewall| firewall.lines().len());
    say(&format!("\n  {} $ {line}", place.address()));
    let mut program = Running::start(stage.command(place, line)?);
    // A program that was refused may be gone before it reads: then its exit code tells.
    // One that is refused may be gone before it reads; then its exit code tells.
    let _ = caught(|| {
        program.write_line("hello");
        Ok(())
    });
    program.close_input();
    let status = program.wait(DEADLINE);
    for line in program.lines() {
        say(&format!("      {line}"));
    }
    say(&format!("      ({status})"));
    let told = match firewall {
        None => Vec::new(),
        Some(firewall) => events(firewall, seen, expected.events),
    };
    for line in &told {
        say(&format!("      fwnet: {line}"));
    }
    ensure!(
        status.code() == Some(expected.code),
        "it ended with {status}, and exit code {} was expected",
        expected.code
    );
    ensure!(
        program.lines().iter().any(|line| line.contains(expected.says)),
        "it did not say {:?}",
        expected.says
    );
    for line in told.iter().filter(|line| line.contains("denied")) {
        ensure!(
            expected.events.iter().any(|event| line.contains(event)),
            "a denial that nothing asked for: {line}"
        );
    }
    Ok(())
}

/// Waits for the events and returns every line that came meanwhile, those of the traffic left out.
fn events(firewall: &Running, seen: usize, expected: &[&str]) -> Vec<String> {
    for event in expected {
        firewall.wait_for_line_after(seen, event, DEADLINE);
    }
    let new = firewall.lines().into_iter().skip(seen);
    new.filter(|line| !line.contains(TRAFFIC)).collect()
}
