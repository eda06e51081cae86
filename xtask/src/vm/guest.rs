//! Asking the machine: scripts go over its second serial line, exit codes and what was printed come back.

use anyhow::{Context as _, Result, bail, ensure};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The serial line, where `answer.sh` is at the other end.
#[derive(Debug)]
pub(super) struct Line {
    input: ChildStdin,
    lines: Receiver<String>,
}

/// What a script did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its exit code.
    pub(super) code: i32,
    /// What it printed, on either stream, trimmed.
    pub(super) text: String,
}

impl Line {
    pub(super) fn new(input: ChildStdin, output: ChildStdout) -> Self {
        let (sender, lines) = channel();
        // It ends with the machine, whose output ends then.
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { input, lines }
    }

    /// Waits until somebody is there.
    pub(super) fn ready(&self, limit: Duration) -> Result<()> {
        self.next(limit, |line| (line == "ready").then_some(()))
            .context("the machine does not boot")
    }

    /// Runs `script` in a shell there.
    pub(super) fn ask(&mut self, script: &str, limit: Duration) -> Result<Answer> {
        let mut request = String::new();
        for byte in script.bytes() {
            write!(request, "{byte:02x}")?;
        }
        writeln!(self.input, "{request}").context("write to the machine")?;
        self.input.flush().context("write to the machine")?;
        self.next(limit, answer).with_context(|| format!("no answer to: {script}"))
    }

    /// The first line that `found` takes.
    fn next<T>(&self, limit: Duration, found: impl Fn(&str) -> Option<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            let left = limit.saturating_sub(start.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(value) = found(&line) {
                        return Ok(value);
                    }
                }
                Err(error) => bail!("{error} ({} s)", limit.as_secs()),
            }
        }
    }
}

/// `answer CODE HEXADECIMAL`
fn answer(line: &str) -> Option<Answer> {
    let mut words = line.strip_prefix("answer ")?.split(' ');
    let code = words.next()?.parse().ok()?;
    let digits = words.next().unwrap_or_default().as_bytes();
    let bytes: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    Some(Answer { code, text: String::from_utf8_lossy(&bytes?).trim().to_owned() })
}

impl Answer {
    /// What was printed, if the exit code says that it worked.
    pub(super) fn worked(self, script: &str) -> Result<String> {
        ensure!(self.code == 0, "{script}: exit code {}: {}", self.code, self.text);
        Ok(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_nothing_else_is() {
        let read = |line| answer(line).map(|it| (it.code, it.text));
        assert_eq!(read("answer 0 6f6b0a"), Some((0, "ok".to_owned())));
        assert_eq!(read("answer 127 "), Some((127, String::new())));
        assert_eq!(read("answer 1"), Some((1, String::new())));
        assert_eq!(read("answer 1 6"), Some((1, "\u{6}".to_owned())));
        assert_eq!(read("answer x 6f"), None);
        assert_eq!(read("ready"), None);
    }
}
