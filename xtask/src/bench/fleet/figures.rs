//! From rounds to medians, a table and JSON.

use serde::Serialize;
use std::fmt::Write as _;

use crate::bench::sample::Spread;

/// One server, once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    /// Processor time of the server for one update to one subscriber.
    pub delivery_us: f64,
    /// Processor time of the server for one subscriber that comes.
    pub connection_us: f64,
    /// Resident memory of the server for one subscriber, after the updates.
    pub memory_kb: f64,
    /// From the publishing of an update until everybody has read it, on average.
    pub everybody_ms: f64,
    /// The same, of the slowest update.
    pub slowest_ms: f64,
}

#[derive(Debug, Serialize)]
struct Row {
    server: String,
    what: &'static str,
    unit: &'static str,
    #[serde(flatten)]
    spread: Spread,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    kernel: String,
    subscribers: u32,
    updates: u32,
    rows: Vec<Row>,
}

impl Figures {
    pub(super) fn of(subscribers: u32, updates: u32, servers: &[(&str, Vec<Round>)]) -> Self {
        let mut rows = Vec::new();
        for (server, rounds) in servers {
            let mut row = |what, unit, value: &dyn Fn(&Round) -> f64| {
                let spread = rounds.iter().map(value).collect();
                rows.push(Row { server: (*server).to_owned(), what, unit, spread });
            };
            row("processor, one delivery", "us", &|it| it.delivery_us);
            row("processor, one subscriber", "us", &|it| it.connection_us);
            row("memory, one subscriber", "KiB", &|it| it.memory_kb);
            row("until everybody knows, mean", "ms", &|it| it.everybody_ms);
            row("until everybody knows, slowest", "ms", &|it| it.slowest_ms);
        }
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        Self { kernel, subscribers, updates, rows }
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let Self { kernel, subscribers, updates, rows } = self;
        let mut table =
            format!("kernel {kernel}, {subscribers} subscribers, {updates} updates of 1 KiB\n");
        let _written = writeln!(table, "{:50} {:>10} {:>10} {:>10}", "", "median", "min", "max");
        for Row { server, what, unit, spread: Spread { median, min, max } } in rows {
            let _written = writeln!(
                table,
                "{server:18} {what:31} {median:>10.2} {min:>10.2} {max:>10.2} {unit}"
            );
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_its_rows() {
        let round = |delivery_us| Round { delivery_us, ..Round::default() };
        let figures = Figures::of(7, 9, &[("a", vec![round(1.0), round(3.0)]), ("b", vec![])]);
        let table = figures.table();
        assert!(table.contains("7 subscribers, 9 updates"), "{table}");
        assert!(table.contains("2.00       1.00       3.00 us"), "{table}");
        assert_eq!(table.lines().count(), 2 + 2 * 5);
    }
}
