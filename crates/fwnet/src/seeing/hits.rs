//! How often each rule decided, over all versions of the policy, and when it last did. Exact: what the kernel counts for
//! the image in force is added to what was counted for those before.

use std::collections::BTreeMap;

use image::Mode;
use jiff::Timestamp;
use kernel::Hits;
use serde::{Deserialize, Serialize};
use verdict::{Direction, Verdict};

use crate::orders::Ready;

/// What is remembered of a rule that is in force or was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// Decisions under images that are no longer in force.
    pub(crate) enforced: u64,
    /// Decisions that it would have made under those.
    pub(crate) would: u64,
    /// Since when it is counted.
    pub(crate) since: Option<Timestamp>,
    /// When it was last seen to have decided or to would have.
    pub(crate) last: Option<Timestamp>,
}

/// A rule in force with its counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Its number in the image.
    pub(crate) number: usize,
    /// How often it decided.
    pub(crate) enforced: u64,
    /// How often it would have, where another one did.
    pub(crate) would: u64,
    /// Since when it is counted.
    pub(crate) since: Timestamp,
    /// When it last did either, to the second of the looks.
    pub(crate) last: Option<Timestamp>,
}

/// Rules that are remembered after they left the policy; those that left first are forgotten first.
const GONE_MAX: usize = 4_096;

/// The counts of all rules.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    rules: BTreeMap<String, Remembered>,
    /// What the kernel had counted for the image in force when it was last looked at, by rule number.
    looked: Vec<Hits>,
    /// Keys of those that changed since they were written to disk.
    changed: BTreeMap<String, ()>,
    /// Flows that were judged since the first look, all rules together.
    judged: Option<Judged>,
}

/// Flows, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) allowed: u64,
    pub(crate) denied: u64,
}

impl Totals {
    /// With what is remembered from earlier.
    pub(crate) fn of(remembered: Vec<(String, Remembered)>) -> Self {
        Self { rules: remembered.into_iter().collect(), ..Self::default() }
    }

    /// Notes which counters grew.
    pub(crate) fn look(&mut self, ready: &Ready, hits: &[Hits], now: Timestamp) {
        self.judge(ready, hits);
        for (number, rule) in ready.rules.rules.iter().enumerate() {
            let hits = hits.get(number).copied().unwrap_or_default();
            let before = self.looked.get(number).copied().unwrap_or_default();
            let key = key(&rule.id, rule.direction);
            let known = self.rules.entry(key.clone()).or_default();
            let grew = hits.enforced > before.enforced || hits.would > before.would;
            if grew {
                known.last = Some(now);
            }
            if known.since.is_none() {
                known.since = Some(now);
                self.changed.insert(key, ());
            } else if grew {
                self.changed.insert(key, ());
            }
        }
        self.looked = hits.to_vec();
    }

    /// What the kernel had counted before the first look was of before the agent.
    fn judge(&mut self, ready: &Ready, hits: &[Hits]) {
        let Some(judged) = &mut self.judged else {
            self.judged = Some(Judged::default());
            return;
        };
        for (number, rule) in ready.rules.rules.iter().enumerate() {
            let of = |hits: &[Hits]| hits.get(number).map_or(0, |hits| hits.enforced);
            let more = of(hits).saturating_sub(of(&self.looked));
            match rule.verdict {
                Verdict::Allow => judged.allowed += more,
                Verdict::Deny => judged.denied += more,
            }
        }
    }

    /// Flows that were judged since the first look.
    pub(crate) fn judged(&self) -> Judged {
        self.judged.unwrap_or_default()
    }

    /// Adds what an image had counted that is no longer in force.
    pub(crate) fn retire(&mut self, ready: &Ready, hits: &[Hits], now: Timestamp) {
        self.look(ready, hits, now);
        self.looked.clear();
        for (rule, hits) in ready.rules.rules.iter().zip(hits) {
            if hits.enforced + hits.would == 0 {
                continue;
            }
            let key = key(&rule.id, rule.direction);
            let known = self.rules.entry(key.clone()).or_default();
            known.enforced = known.enforced.saturating_add(hits.enforced);
            known.would = known.would.saturating_add(hits.would);
            self.changed.insert(key, ());
        }
    }

    /// The rules in force with their counts, by number.
    pub(crate) fn counted(&self, ready: &Ready, hits: &[Hits], now: Timestamp) -> Vec<Counted> {
        let none = Remembered::default();
        ready
            .rules
            .rules
            .iter()
            .enumerate()
            .map(|(number, rule)| {
                let hits = hits.get(number).copied().unwrap_or_default();
                let known = self.rules.get(&key(&rule.id, rule.direction)).unwrap_or(&none);
                Counted {
                    number,
                    enforced: known.enforced.saturating_add(hits.enforced),
                    would: known.would.saturating_add(hits.would),
                    since: known.since.unwrap_or(now),
                    last: known.last,
                }
            })
            .collect()
    }

    /// What is to be written to disk: rules that changed, and keys of those to be forgotten.
    pub(crate) fn unwritten(&mut self, ready: &Ready) -> (Vec<(String, Remembered)>, Vec<String>) {
        let changed = std::mem::take(&mut self.changed);
        let mut gone = Vec::new();
        let in_force = ready.rules.rules.len();
        if self.rules.len() > in_force + GONE_MAX {
            let current: BTreeMap<String, ()> =
                ready.rules.rules.iter().map(|rule| (key(&rule.id, rule.direction), ())).collect();
            let mut left: Vec<(Option<Timestamp>, String)> = self
                .rules
                .iter()
                .filter(|(key, _)| !current.contains_key(*key))
                .map(|(key, known)| (known.last.or(known.since), key.clone()))
                .collect();
            left.sort_unstable();
            left.truncate(left.len().saturating_sub(GONE_MAX));
            for (_, key) in left {
                self.rules.remove(&key);
                gone.push(key);
            }
        }
        let rules = changed
            .into_keys()
            .filter_map(|key| self.rules.get(&key).map(|known| (key, known.clone())))
            .collect();
        (rules, gone)
    }
}

fn key(id: &str, direction: Direction) -> String {
    match direction {
        Direction::Out => format!("out {id}"),
        Direction::In => format!("in {id}"),
    }
}

/// The word of a rule's verdict.
pub(crate) fn effect(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}

/// The word of a rule's mode.
pub(crate) fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Audit => "audit",
    }
}
