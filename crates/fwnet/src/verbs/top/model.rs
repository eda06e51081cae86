//! What `top` shows: rates out of two samples. Pure.

use std::collections::BTreeMap;

use ::agent::flows::{Kind, Record};
use jiff::Timestamp;
use policy::{Way, syntax::Answer};

use crate::api::routes::rules::CountedRule;

/// What an agent said at one moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) time: Timestamp,
    /// Flows of the current hour; their counts grow until it ends.
    pub(super) records: Vec<Record>,
    pub(super) rules: Vec<CountedRule>,
    /// Denials, one line each, the oldest first.
    pub(super) denials: Vec<String>,
}

/// One line of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    /// A second, since the sample before.
    pub(super) rate: f64,
    /// Denials a second among them.
    pub(super) denied: f64,
    /// Of the current hour; of a rule ever.
    pub(super) total: u64,
}

/// What is shown.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) host: String,
    pub(super) time: Timestamp,
    pub(super) processes: Vec<Row>,
    pub(super) peers: Vec<Row>,
    pub(super) rules: Vec<Row>,
    pub(super) denials: Vec<String>,
    /// Flows and denials a second.
    pub(super) rates: (f64, f64),
    /// Why nothing new is shown.
    pub(super) trouble: Option<String>,
    pub(super) paused: bool,
    before: Option<Sample>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    new: u64,
    denied: u64,
    total: u64,
}

impl Model {
    pub(super) fn new(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            time: Timestamp::UNIX_EPOCH,
            processes: Vec::new(),
            peers: Vec::new(),
            rules: Vec::new(),
            denials: Vec::new(),
            rates: (0.0, 0.0),
            trouble: None,
            paused: false,
            before: None,
        }
    }

    /// Takes another sample.
    pub(super) fn update(&mut self, sample: Sample) {
        let before = self.before.as_ref();
        let seconds = before
            .map_or(0.0, |before| sample.time.duration_since(before.time).as_secs_f64().max(0.0));
        let known: BTreeMap<&Kind, &Record> = before
            .iter()
            .flat_map(|before| &before.records)
            .map(|record| (&record.kind, record))
            .collect();
        let mut processes: BTreeMap<String, Sum> = BTreeMap::new();
        let mut peers: BTreeMap<String, Sum> = BTreeMap::new();
        let mut all = Sum::default();
        for record in &sample.records {
            // Another hour began: the count began anew.
            let old = known
                .get(&record.kind)
                .filter(|known| known.first == record.first)
                .map_or(0, |known| known.count);
            let new = record.count.saturating_sub(old);
            let denied = if record.kind.verdict == Answer::Deny { new } else { 0 };
            let sum = Sum { new, denied, total: record.count };
            all.add(sum);
            processes.entry(process(record)).or_default().add(sum);
            peers.entry(peer(&record.kind)).or_default().add(sum);
        }
        let rate = |count: u64| if seconds > 0.0 { per_second(count, seconds) } else { 0.0 };
        let rows = |sums: BTreeMap<String, Sum>| {
            let mut rows: Vec<Row> = sums
                .into_iter()
                .map(|(name, sum)| Row {
                    name,
                    rate: rate(sum.new),
                    denied: rate(sum.denied),
                    total: sum.total,
                })
                .collect();
            order(&mut rows);
            rows
        };
        self.processes = rows(processes);
        self.peers = rows(peers);
        self.rates = (rate(all.new), rate(all.denied));
        let hits = |rules: &[CountedRule]| -> BTreeMap<(String, String), u64> {
            let key = |rule: &CountedRule| (rule.id.clone(), rule.direction.clone());
            rules.iter().map(|rule| (key(rule), rule.hits + rule.would)).collect()
        };
        let old = before.map(|before| hits(&before.rules)).unwrap_or_default();
        self.rules = sample
            .rules
            .iter()
            .map(|rule| {
                let total = rule.hits + rule.would;
                let known = old.get(&(rule.id.clone(), rule.direction.clone())).copied();
                let new = total.saturating_sub(known.unwrap_or(total));
                let audit = if rule.mode == "audit" { " (audit)" } else { "" };
                let said = rule.text.as_deref().unwrap_or(&rule.verdict);
                Row {
                    name: format!("{} {}: {said}{audit}", rule.direction, rule.id),
                    rate: rate(new),
                    denied: if rule.verdict == "deny" && rule.mode == "enforce" {
                        rate(new)
                    } else {
                        0.0
                    },
                    total,
                }
            })
            .collect();
        order(&mut self.rules);
        self.denials = sample.denials.iter().rev().cloned().collect();
        self.time = sample.time;
        self.trouble = None;
        self.before = Some(sample);
    }
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.new = self.new.saturating_add(other.new);
        self.denied = self.denied.saturating_add(other.denied);
        self.total = self.total.saturating_add(other.total);
    }
}

/// What happens most comes first; what happened most, where nothing does.
fn order(rows: &mut [Row]) {
    rows.sort_by(|a, b| {
        b.rate.total_cmp(&a.rate).then(b.total.cmp(&a.total)).then_with(|| a.name.cmp(&b.name))
    });
}

#[expect(clippy::cast_precision_loss, reason = "a rate on a screen has three digits")]
fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

fn process(record: &Record) -> String {
    let process = &record.kind.process;
    let name = process.exe.clone().or_else(|| Some(record.name.clone()).filter(|n| !n.is_empty()));
    match (name, process.unit()) {
        (Some(name), Some(unit)) => format!("{name} ({unit})"),
        (Some(name), None) => name,
        (None, Some(unit)) => unit,
        (None, None) => "unknown".to_owned(),
    }
}

fn peer(kind: &Kind) -> String {
    let protocol = crate::report::transport(verdict::Protocol(kind.protocol));
    match kind.direction {
        Way::Out => format!("-> {} {protocol}/{}", kind.remote, kind.port),
        Way::In => format!("<- {} {protocol}/{}", kind.remote, kind.port),
    }
}
