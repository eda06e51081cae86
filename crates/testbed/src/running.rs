//! A program in the background: its lines as they come, its end with the value.

use crate::cgroup;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A started program. Its standard output and standard error are collected line by line, in the order of arrival; its
/// standard input is an open pipe that stays silent until [`Running::write_line`]. Its end kills the program and every
/// process it started that stayed in its process group, and reaps it.
#[derive(Debug)]
pub struct Running {
    what: String,
    child: Child,
    input: Option<ChildStdin>,
    output: Arc<Output>,
}

/// Lines shared with the two reading threads.
#[derive(Debug, Default)]
struct Output {
    collected: Mutex<Collected>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Collected {
    lines: Vec<String>,
    /// Streams at their end: 2 means that no line will follow.
    closed: u8,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Starts `command`, in a process group of its own, with all three standard streams taken over. It waits for the end of
    /// another thread's visit to a cgroup ([`Cgroup::enter_current_process`](crate::Cgroup::enter_current_process)).
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        let what = format!("{command:?}");
        command.process_group(0).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = cgroup::between_visits(|| command.spawn())
            .unwrap_or_else(|error| panic!("start {what}: {error}"));
        let output = Arc::new(Output::default());
        collect(child.stdout.take().expect("stdout is piped"), Arc::clone(&output));
        collect(child.stderr.take().expect("stderr is piped"), Arc::clone(&output));
        let input = child.stdin.take();
        Self { what, child, input, output }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Every line so far, of both streams, without line ends.
    pub fn lines(&self) -> Vec<String> {
        self.output.lock().lines.clone()
    }

    /// Returns the first line that contains `pattern`, waiting for it if it has not come yet. `deadline` counts from
    /// now.
    ///
    /// # Panics
    /// If the deadline passes, or both streams end, without it; the message shows what was printed instead.
    #[track_caller]
    pub fn wait_for_line(&self, pattern: &str, deadline: Duration) -> String {
        self.wait_for_line_after(0, pattern, deadline)
    }

    /// Like [`Running::wait_for_line`], but passes over the first `seen` lines: with `seen = running.lines().len()`
    /// taken before some act, the line must come after it.
    ///
    /// # Panics
    /// As [`Running::wait_for_line`].
    #[track_caller]
    pub fn wait_for_line_after(&self, seen: usize, pattern: &str, deadline: Duration) -> String {
        let start = Instant::now();
        let mut collected = self.output.lock();
        loop {
            if let Some(line) =
                collected.lines.iter().skip(seen).find(|line| line.contains(pattern))
            {
                return line.clone();
            }
            let left = deadline.saturating_sub(start.elapsed());
            let ended = collected.closed == 2;
            assert!(
                !ended && !left.is_zero(),
                "{}: no line with {pattern:?} {}; it printed:\n{}",
                self.what,
                if ended {
                    "before its output ended".into()
                } else {
                    format!("within {deadline:?}")
                },
                collected.lines.join("\n")
            );
            collected = self
                .output
                .news
                .wait_timeout(collected, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Writes `text` and a line end to its standard input.
    ///
    /// # Panics
    /// If the input was closed, here or by the program.
    #[track_caller]
    pub fn write_line(&mut self, text: &str) {
        let input =
            self.input.as_mut().unwrap_or_else(|| panic!("{}: its input was closed", self.what));
        if let Err(error) = writeln!(input, "{text}").and_then(|()| input.flush()) {
            panic!("{}: write to its input: {error}", self.what);
        }
    }

    /// Ends its standard input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Sends `signal` to the program alone, as `kill` would.
    ///
    /// # Panics
    /// If the program was already reaped, by [`Running::wait`] or [`Running::exit_status`].
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process(self.group(), signal) {
            panic!("{}: send {signal:?}: {error}", self.what);
        }
    }

    /// Its exit status, if it has ended.
    ///
    /// # Panics
    /// If the kernel will not say.
    #[track_caller]
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| panic!("{}: wait for it: {error}", self.what))
    }

    /// Waits for its end, then for the end of its output (so that [`Running::lines`] is complete), and returns its exit
    /// status. Its input is left as it is. `deadline` counts from now.
    ///
    /// # Panics
    /// If the deadline passes first; the message shows what was printed.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            // Reaped only once the output is complete: a child of it may still hold the streams.
            let closed = self.output.lock().closed == 2;
            if closed && let Some(status) = self.exit_status() {
                return status;
            }
            assert!(
                start.elapsed() < deadline,
                "{}: still running after {deadline:?}; it printed:\n{}",
                self.what,
                self.lines().join("\n")
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Its process id, which is its process group's too.
    fn group(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A group outlives its leader while a member lives, and its id is not reused until then. "No such process" is
        // what was wanted.
        let _ = kill_process_group(self.group(), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Reads `stream` to its end on a thread of its own; bytes that are not UTF-8 are shown as U+FFFD.
fn collect(stream: impl Read + Send + 'static, output: Arc<Output>) {
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut bytes = Vec::new();
        while matches!(stream.read_until(b'\n', &mut bytes), Ok(count) if count > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            bytes.clear();
            output.lock().lines.push(line);
            output.news.notify_all();
        }
        output.lock().closed += 1;
        output.news.notify_all();
    });
}
