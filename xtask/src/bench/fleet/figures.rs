//! From rounds to medians, a table and JSON.

use serde::Serialize;
use std::fmt::Write as _;

use super::crowd::Update;
use super::rivals::{OURS, RIVALS};
use crate::bench::sample::Spread;

/// One server, once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    /// Processor time of the server for one update to one subscriber.
    pub delivery_us: f64,
    /// Processor time of the server for one subscriber that comes.
    pub connection_us: f64,
    /// Resident memory of the server for one subscriber, after the updates.
    pub memory_kib: f64,
    /// From the publishing of an update until half of them, nearly all and all have it; medians of the round.
    pub times_ms: [f64; 3],
}

impl Round {
    /// Of what was told and when, and of what it cost: seconds of gathering and of telling, and KiB.
    pub(super) fn of(subscribers: u32, told: &[(Update, u64)], costs: [f64; 3]) -> Self {
        let each = f64::from(subscribers);
        let count = f64::from(u32::try_from(told.len()).expect("few updates"));
        let of = |share: f64| -> Spread {
            told.iter().map(|(update, since)| update.ms(*since, share)).collect()
        };
        let [gathering, telling, memory] = costs;
        Self {
            delivery_us: telling * 1e6 / (each * count),
            connection_us: gathering * 1e6 / each,
            memory_kib: memory / each,
            times_ms: [of(0.5).median, of(0.99).median, of(1.0).median],
        }
    }
}

/// One figure.
#[derive(Debug, Serialize)]
struct Row {
    what: String,
    unit: &'static str,
    #[serde(flatten)]
    spread: Spread,
    /// What the median is to be at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_most: Option<f64>,
    /// What it is to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    exactly: Option<f64>,
}

impl Row {
    fn is_met(&self) -> bool {
        let Spread { median, min, max } = self.spread;
        self.at_most.is_none_or(|most| median <= most)
            && self.exactly.is_none_or(|wanted| min == wanted && max == wanted)
    }
}

/// A part of what was measured.
#[derive(Debug, Serialize)]
pub(super) struct Part {
    name: String,
    rows: Vec<Row>,
}

impl Part {
    fn row(&mut self, what: &str, unit: &'static str, values: &[f64]) -> &mut Row {
        let spread: Spread = values.iter().copied().collect();
        let what = what.to_owned();
        // A long measurement that ends before its table is not lost.
        eprintln!("    {what}: {:.2} {unit}", spread.median);
        self.rows.push(Row { what, unit, spread, at_most: None, exactly: None });
        self.rows.last_mut().expect("it was just put there")
    }

    /// A figure of which there is one.
    pub(super) fn one(&mut self, what: &str, unit: &'static str, value: f64) {
        self.row(what, unit, &[value]);
    }

    /// A figure of several rounds.
    pub(super) fn all(&mut self, what: &str, unit: &'static str, values: &[f64]) {
        self.row(what, unit, values);
    }

    /// The same, of which the median is to be at most this.
    pub(super) fn expected(&mut self, what: &str, unit: &'static str, values: &[f64], most: f64) {
        self.row(what, unit, values).at_most = Some(most);
    }

    /// A count that is to be this.
    pub(super) fn exact(&mut self, what: &str, unit: &'static str, wanted: f64, found: f64) {
        self.row(what, unit, &[found]).exactly = Some(wanted);
    }
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    kernel: String,
    processors: usize,
    parts: Vec<Part>,
}

impl Default for Figures {
    fn default() -> Self {
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { kernel, processors, parts: Vec::new() }
    }
}

impl Figures {
    /// A part more.
    pub(super) fn part(&mut self, name: &str) -> &mut Part {
        self.parts.push(Part { name: name.to_owned(), rows: Vec::new() });
        self.parts.last_mut().expect("it was just put there")
    }

    /// The servers that are compared.
    pub(super) fn rivals(
        &mut self,
        subscribers: u32,
        updates: u32,
        servers: &[(&str, Vec<Round>)],
    ) {
        for (server, rounds) in servers {
            let name = format!("{server}, {subscribers} connections, {updates} updates of 1 KiB");
            let part = self.part(&name);
            let mut row = |what, unit, value: &dyn Fn(&Round) -> f64| {
                part.all(what, unit, &rounds.iter().map(value).collect::<Vec<_>>());
            };
            row("processor, one delivery", "us", &|it| it.delivery_us);
            row("processor, one connection", "us", &|it| it.connection_us);
            row("memory, one connection", "KiB", &|it| it.memory_kib);
            row("from publishing to having it, p50", "ms", &|it| it.times_ms[0]);
            row("from publishing to having it, p99", "ms", &|it| it.times_ms[1]);
            row("until everybody has it", "ms", &|it| it.times_ms[2]);
        }
        let of = |name: &str| servers.iter().find(|(server, _)| *server == name);
        let Some((_, ours)) = of(OURS) else { return };
        let part = self.part("ours, compared");
        for (rival, most) in RIVALS {
            let Some((_, rounds)) = of(rival) else { continue };
            // Each round is compared with itself: the machine is a busy one.
            let ratios: Vec<f64> = ours
                .iter()
                .zip(rounds)
                .map(|(ours, theirs)| ours.delivery_us / theirs.delivery_us)
                .collect();
            part.expected(&format!("processor of a delivery, of {rival}'s"), "x", &ratios, most);
        }
    }

    /// Counts that are not what they should be.
    pub(super) fn wrong(&self) -> Vec<String> {
        let rows = self.parts.iter().flat_map(|part| &part.rows);
        let wrong = rows.filter(|row| row.exactly.is_some() && !row.is_met());
        wrong.map(|row| format!("{}: {}", row.what, row.spread.median)).collect()
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let Self { kernel, processors, parts } = self;
        let mut table = format!("kernel {kernel}, {processors} processors\n");
        for Part { name, rows } in parts {
            let _written =
                writeln!(table, "\n{name:47} {:>10} {:>10} {:>10}", "median", "min", "max");
            for row in rows {
                let Row { what, unit, spread: Spread { median, min, max }, at_most, exactly } = row;
                let met = if row.is_met() { "" } else { ", missed" };
                let expected = match (at_most, exactly) {
                    (Some(most), _) => format!("  (expected at most {most}{met})"),
                    (None, Some(wanted)) => format!("  (expected {wanted}{met})"),
                    (None, None) => String::new(),
                };
                let line =
                    format!("  {what:45} {median:>10.2} {min:>10.2} {max:>10.2} {unit}{expected}");
                let _written = writeln!(table, "{}", line.trim_end());
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_its_rows_and_ours_is_compared_round_by_round() {
        let round = |delivery_us| Round { delivery_us, ..Round::default() };
        let mut figures = Figures::default();
        let rounds = |all: [f64; 3]| all.map(round).to_vec();
        let [(nats, _), (etcd, _)] = RIVALS;
        let servers = [
            (nats, rounds([10.0, 20.0, 40.0])),
            (etcd, rounds([40.0, 80.0, 160.0])),
            (OURS, rounds([5.0, 8.0, 20.0])),
        ];
        figures.rivals(7, 9, &servers);
        let table = figures.table();
        assert!(table.contains("7 connections, 9 updates"), "{table}");
        assert!(table.contains("20.00      10.00      40.00 us"), "{table}");
        assert!(table.contains("0.50       0.40       0.50 x  (expected at most 0.4, missed)"));
        assert!(figures.wrong().is_empty());
    }

    #[test]
    fn a_count_that_is_not_exact_is_named() {
        let mut figures = Figures::default();
        let part = figures.part("a");
        part.exact("this", "", 3.0, 3.0);
        part.exact("that", "", 3.0, 4.0);
        assert_eq!(figures.wrong(), ["that: 4"]);
        assert!(figures.table().contains("(expected 3, missed)"));
    }
}
