//! Processes of `crates/fleet/examples/crowd` that wait together.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use testbed::{Host, Running};

use super::Tools;

/// Nothing that works takes nearly as long.
const DEADLINE: Duration = Duration::from_secs(900);

/// All of them.
pub(super) struct Crowd {
    processes: Vec<Process>,
    count: u32,
}

struct Process {
    running: Running,
    /// Lines that were heard.
    heard: usize,
}

/// When an update was published, and when each had it: microseconds.
pub(super) struct Update {
    pub published: Option<u64>,
    /// Ascending.
    pub heard: Vec<u64>,
}

impl Crowd {
    /// Connects `count` in all, spread evenly over the servers, and waits until each is served. Returns with them how many
    /// seconds that took.
    pub(super) fn gather(
        tools: &Tools,
        host: &Host,
        what: &str,
        directory: &Path,
        servers: &[SocketAddr],
        count: u32,
    ) -> Result<(Self, f64)> {
        let places = u32::try_from(servers.len()).context("few servers")?;
        let mut from = 0;
        let mut processes = Vec::new();
        for (number, server) in (0..).zip(servers) {
            let share = count / places + u32::from(number < count % places);
            let mut command = host.command(&tools.crowd);
            command.args(["wait", what]).arg(directory);
            command.args([server.to_string(), from.to_string(), share.to_string()]);
            processes.push(Process { running: Running::start(command), heard: 0 });
            from += share;
        }
        let mut crowd = Self { processes, count };
        let gathered = crowd.hear("gathered")?;
        let seconds = gathered.iter().filter_map(|it| it.pointer("/seconds")?.as_f64());
        Ok((crowd, seconds.fold(0.0, f64::max)))
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(|process| process.running.pid()).collect()
    }

    /// Says a word to all of them.
    pub(super) fn tell(&mut self, word: &str) {
        for process in &mut self.processes {
            process.running.write_line(word);
        }
    }

    /// The next thing that each of them tells, which is this.
    pub(super) fn hear(&mut self, what: &str) -> Result<Vec<Value>> {
        let mut told = Vec::new();
        for Process { running, heard } in &mut self.processes {
            let line = running.wait_for_line_after(*heard, "", DEADLINE);
            *heard += 1;
            let said: Value = serde_json::from_str(&line)
                .with_context(|| format!("the crowd says {}", line.get(..200).unwrap_or(&line)))?;
            let said = said.get(what).with_context(|| format!("{what} is awaited, not {said}"))?;
            told.push(said.clone());
        }
        Ok(told)
    }

    /// The update that was waited for.
    pub(super) fn update(&mut self) -> Result<Update> {
        let told = self.hear("update")?;
        let published = told.iter().find_map(|it| it.get("published")?.as_u64());
        let stamps = told.iter().filter_map(|it| it.get("heard")?.as_array()).flatten();
        let mut heard: Vec<u64> = stamps.filter_map(Value::as_u64).collect();
        heard.sort_unstable();
        ensure!(heard.len() == self.count as usize, "{} of {} heard", heard.len(), self.count);
        Ok(Update { published, heard })
    }

    /// Cuts all connections; until everybody is served again, and the counts of that, added up.
    pub(super) fn storm(&mut self) -> Result<(f64, Counts)> {
        self.tell("counts");
        self.hear("counts")?;
        self.tell("cut");
        let back = self.hear("back")?;
        let of = |name: &'static str| back.iter().filter_map(move |it| it.get(name)?.as_u64());
        let (first, last) = (of("since").min(), of("at").max());
        let (first, last) = first.zip(last).context("times in what the crowd says")?;
        let counts = back.iter().filter_map(|it| it.get("counts"));
        Ok((Duration::from_micros(last - first).as_secs_f64(), counts.map(Counts::of).sum()))
    }

    /// What was counted since this was last asked.
    pub(super) fn counts(&mut self) -> Result<Counts> {
        self.tell("counts");
        Ok(self.hear("counts")?.iter().map(Counts::of).sum())
    }
}

/// What crowds count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub updates: u64,
    pub served: u64,
    pub resumed: u64,
    pub later: u64,
    pub ended: u64,
}

impl Counts {
    fn of(value: &Value) -> Self {
        let of = |name: &str| value.get(name).and_then(Value::as_u64).unwrap_or_default();
        Self {
            updates: of("updates"),
            served: of("served"),
            resumed: of("resumed"),
            later: of("later"),
            ended: of("ended"),
        }
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            updates: a.updates + b.updates,
            served: a.served + b.served,
            resumed: a.resumed + b.resumed,
            later: a.later + b.later,
            ended: a.ended + b.ended,
        })
    }
}

impl Update {
    /// Milliseconds from a moment until this share of them had it.
    pub(super) fn ms(&self, since_us: u64, share: f64) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "far below 2^52"
        )]
        let place = ((self.heard.len() as f64 * share).ceil() as usize).saturating_sub(1);
        let at = self.heard.get(place).copied().unwrap_or_default();
        Duration::from_micros(at.saturating_sub(since_us)).as_secs_f64() * 1e3
    }
}
