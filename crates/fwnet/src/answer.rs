//! How a verb that answers a question ends: the answer on standard output, and an exit code that says what it was.

use std::{
    io::{ErrorKind, Write, stdout},
    process::ExitCode,
    time::Duration,
};

use indicatif::ProgressBar;

/// The answer is "fine" or "allow".
pub(crate) const FINE: u8 = 0;
/// The answer is a finding or "deny".
pub(crate) const FINDING: u8 = 1;
/// There is no answer: the command line, a file or a policy is wrong.
pub(crate) const ERROR: u8 = 2;

/// The exit code of a verb that answers a question. Errors go to standard error here, because `main` would call them 1.
pub(crate) fn exit(answered: anyhow::Result<u8>) -> ExitCode {
    ExitCode::from(answered.unwrap_or_else(|error| {
        eprintln!("fwnet: {error:#}");
        ERROR
    }))
}

/// [`FINDING`] if there is one.
pub(crate) const fn finding_if(found: bool) -> u8 {
    if found { FINDING } else { FINE }
}

/// Writes `text` to standard output. A reader that has heard enough (`| head`) is no error.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes `value` as one indented JSON document.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    print(&format!("{value:#}\n"))
}

/// Writes `text` at once. `false` once nobody reads any more.
///
/// # Errors
/// If it cannot be written for another reason.
pub(crate) fn print_live(text: &str) -> anyhow::Result<bool> {
    let mut standard = stdout().lock();
    match standard.write_all(text.as_bytes()).and_then(|()| standard.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Says on a terminal that something takes its time, until it is dropped.
pub(crate) struct Working(ProgressBar);

impl Working {
    /// Begins to say `what`.
    pub(crate) fn new(what: &'static str) -> Self {
        let bar = ProgressBar::new_spinner().with_message(what);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
