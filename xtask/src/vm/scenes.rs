//! What is tried in the machine, one file per scene.

mod agent;
mod boot;
mod default_attachment;
mod lock_out;
mod lsm;
mod shared;

use super::disk::Disk;
use super::guest::Line;
use super::machine::Machine;
use super::supplies::Supplies;
use anyhow::{Result, bail, ensure};
use std::thread;
use std::time::{Duration, Instant};

/// A scene: its own boot of its own disk.
pub(super) struct Scene {
    /// What `cargo xtask vm NAME` calls it.
    pub(super) name: &'static str,
    /// Whether the package is installed; else there is the bare program.
    pub(super) installs: bool,
    /// Plays it, and ends at the first thing that does not hold.
    pub(super) play: fn(&mut Stage<'_>) -> Result<()>,
}

/// In the order in which they are played.
pub(super) const ALL: &[Scene] = &[
    Scene { name: "default-attachment", installs: false, play: default_attachment::play },
    Scene { name: "lsm", installs: false, play: lsm::play },
    Scene { name: "boot", installs: true, play: boot::play },
    Scene { name: "agent", installs: true, play: agent::play },
    Scene { name: "lock-out", installs: true, play: lock_out::play },
];

/// A slow emulator on a busy machine boots in a quarter of a minute.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// No question takes longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// What the units of fwnet said last, without the verifier's account of each instruction.
const JOURNAL: &str = r"journalctl --no-pager -o short-monotonic -u 'fwnet*' -u run |
    grep -vE '\]: +([0-9]+: |;|from [0-9]|R[0-9]+[_=]|last_idx|regs=|parent |propagating|frame [0-9])' | tail -n 40";
/// A machine in trouble may not answer at all.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(10);
/// What comes true soon has come true by then.
const SOON: Duration = Duration::from_secs(120);
/// How often a condition is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);

/// The machine that a scene plays on, and what has held so far.
pub(super) struct Stage<'a> {
    supplies: &'a Supplies,
    disk: Disk,
    machine: Machine,
    line: Line,
    started: Instant,
    held: Vec<String>,
}

impl<'a> Stage<'a> {
    /// Boots it.
    pub(super) fn new(supplies: &'a Supplies, disk: Disk, started: Instant) -> Result<Self> {
        let (machine, line) = Machine::start(supplies, &disk)?;
        let mut stage = Self { supplies, disk, machine, line, started, held: Vec::new() };
        if let Err(error) = stage.line.ready(BOOT_LIMIT) {
            return Err(error.context(stage.last_words()));
        }
        eprintln!("    booted after {:.1} s", stage.started.elapsed().as_secs_f64());
        Ok(stage)
    }

    /// Shuts it down in order, and boots the same disk again.
    pub(super) fn reboot(&mut self) -> Result<()> {
        // It answers no more.
        let _ = self.line.ask("systemctl --no-block reboot", Duration::from_secs(5));
        self.machine.ended(BOOT_LIMIT)?;
        let (machine, line) = Machine::start(self.supplies, &self.disk)?;
        self.machine = machine;
        self.line = line;
        self.line.ready(BOOT_LIMIT)
    }

    /// Runs a script that must work, and returns what it printed.
    pub(super) fn sh(&mut self, script: &str) -> Result<String> {
        self.line.ask(script, ANSWER_LIMIT)?.worked(script)
    }

    /// Runs a script and returns its exit code and what it printed.
    pub(super) fn try_sh(&mut self, script: &str) -> Result<(i32, String)> {
        let answer = self.line.ask(script, ANSWER_LIMIT)?;
        Ok((answer.code, answer.text))
    }

    /// Holds a script to what it prints.
    pub(super) fn prints(&mut self, script: &str, expected: &str) -> Result<()> {
        let (_, text) = self.try_sh(script)?;
        ensure!(text == expected, "{script}: expected {expected:?}, got {text:?}");
        Ok(())
    }

    /// Waits until a script works, and returns what it printed then.
    pub(super) fn soon(&mut self, script: &str) -> Result<String> {
        let start = Instant::now();
        loop {
            let (code, text) = self.try_sh(script)?;
            if code == 0 {
                return Ok(text);
            }
            if start.elapsed() > SOON {
                bail!("{script}: still exit code {code} after {} s: {text}", SOON.as_secs());
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Notes that something held.
    pub(super) fn hold(&mut self, what: impl Into<String>) {
        self.held.push(what.into());
    }

    /// What has held.
    pub(super) fn held(&self) -> &[String] {
        &self.held
    }

    /// What the units of fwnet said last, if the machine still answers, and the end of the console.
    pub(super) fn last_words(&mut self) -> String {
        let journal = self.line.ask(JOURNAL, LAST_WORDS_LIMIT).map(|answer| answer.text);
        let console = self.machine.last_words();
        format!("the journal:\n{}\nthe console:\n{console}\n", journal.unwrap_or_default())
    }
}
