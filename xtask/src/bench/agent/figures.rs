//! From rounds to medians, a table and JSON.

use crate::bench::sample::{Sample, Spread};
use serde::Serialize;
use std::fmt::Write as _;

/// Memory of the agent: all that is resident, and the part that is its own (neither program text nor the images, which
/// it shares with the kernel).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    pub rss_kb: u64,
    pub own_kb: u64,
}

/// Under load.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    /// Connections a second that were made.
    pub rate: f64,
    /// The agent's share of one processor.
    pub share: f64,
    pub memory: Memory,
}

/// From the start of `fwnet apply`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Applied {
    pub enforced_ms: f64,
    pub done_ms: f64,
}

/// An apply that ended connections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Revoked {
    pub connections: u32,
    pub ms: f64,
}

/// Everything, once.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    pub alone: Sample,
    pub watched: Sample,
    pub started: Memory,
    /// Share of one processor.
    pub idle: f64,
    pub load: Load,
    pub applied: Applied,
    pub revoked: Vec<Revoked>,
}

#[derive(Debug, Serialize)]
struct Row {
    what: String,
    unit: &'static str,
    #[serde(flatten)]
    spread: Spread,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    kernel: String,
    rounds: usize,
    rows: Vec<Row>,
}

impl Figures {
    pub(super) fn of(rounds: &[Round]) -> Self {
        let row = |what: &str, unit, value: &dyn Fn(&Round) -> f64| Row {
            what: what.to_owned(),
            unit,
            spread: rounds.iter().map(value).collect(),
        };
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let megabytes = |kilobytes: u64| kilobytes as f64 / 1024.0;
        let mut rows = vec![
            row("resident, just started", "MB", &|it| megabytes(it.started.rss_kb)),
            row("of that its own", "MB", &|it| megabytes(it.started.own_kb)),
            row("processor, idle", "%", &|it| it.idle * 100.0),
            row("connections under load", "1/s", &|it| it.load.rate),
            row("resident, under load", "MB", &|it| megabytes(it.load.memory.rss_kb)),
            row("of that its own, under load", "MB", &|it| megabytes(it.load.memory.own_kb)),
            row("processor, under load", "%", &|it| it.load.share * 100.0),
            row("connect(), nothing attached", "ns", &|it| it.alone.connect_ns),
            row("connect(), with the agent", "ns", &|it| it.watched.connect_ns),
            row("whole cycle, with the agent", "times", &|it| {
                it.watched.cycle_ns / it.alone.cycle_ns
            }),
            row("from apply to enforced", "ms", &|it| it.applied.enforced_ms),
            row("from apply to its answer", "ms", &|it| it.applied.done_ms),
        ];
        let counts = rounds.first().map(|round| round.revoked.clone()).unwrap_or_default();
        for (index, revoked) in counts.iter().enumerate() {
            let what = format!("apply that ends {} connections", revoked.connections);
            rows.push(row(&what, "ms", &|it| it.revoked.get(index).map_or(0.0, |it| it.ms)));
        }
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            rounds: rounds.len(),
            rows,
        }
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut table = format!("kernel {}, {} rounds\n", self.kernel, self.rounds);
        let _written = writeln!(table, "{:36} {:>10} {:>10} {:>10}", "", "median", "min", "max");
        for Row { what, unit, spread: Spread { median, min, max } } in &self.rows {
            let _written =
                writeln!(table, "{what:36} {median:>10.2} {min:>10.2} {max:>10.2} {unit}");
        }
        table
    }
}
