//! What the programs have counted.

use verdict::abi::{Losses, SLOTS};
use zerocopy::{FromBytes, IntoBytes};

use super::Firewall;

/// How often a rule decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// The enforced verdict.
    pub enforced: u64,
    /// The would-be verdict, where another rule made the enforced one.
    pub would: u64,
}

/// Events that were not sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Beyond the rate limit.
    pub limited: u64,
    /// The ring buffer was full.
    pub overrun: u64,
    /// The same of what tells of tampering, for either reason.
    pub tamper: u64,
    /// Flows that were judged and are missing in what [`Firewall::take_flows`] gave: the table was full.
    pub flows: u64,
}

impl Firewall {
    /// How often each rule of the image in force decided, by rule number. Exact.
    pub fn hits(&self) -> Vec<Hits> {
        self.hits_of(self.slot_in_force())
    }

    /// The counters of one slot.
    pub(super) fn hits_of(&self, slot: u32) -> Vec<Hits> {
        let sum = |entry| self.hits.get(&entry, 0).map_or(0, |values| values.iter().sum());
        self.entries(slot)
            .map(|(enforced, would)| Hits { enforced: sum(enforced), would: sum(would) })
            .collect()
    }

    /// Reads and clears the counters of a slot that no program uses any more.
    pub(super) fn take_hits(&mut self, slot: u32) -> Vec<Hits> {
        let taken = self.hits_of(slot);
        let entries: Vec<(u32, u32)> = self.entries(slot).collect();
        for ((enforced, would), hits) in entries.into_iter().zip(&taken) {
            for (entry, count) in [(enforced, hits.enforced), (would, hits.would)] {
                if count != 0 {
                    self.clear(entry);
                }
            }
        }
        taken
    }

    fn clear(&mut self, entry: u32) {
        let cpus = aya::util::nr_cpus().unwrap_or(1);
        if let Ok(zero) = aya::maps::PerCpuValues::try_from(vec![0u64; cpus]) {
            // A counter that cannot be cleared would be added to twice; the kernel refuses only foreign keys.
            let _cleared = self.hits.set(entry, zero, 0);
        }
    }

    /// Where the counters of a slot's rules stand: enforced, would-be.
    fn entries(&self, slot: u32) -> impl Iterator<Item = (u32, u32)> + use<> {
        let rules = self.numbers.slot_rules;
        (slot * rules..(slot + 1) * rules).map(move |entry| (entry, entry + (SLOTS + 1) * rules))
    }

    /// Events not sent and flows not counted since loading.
    pub fn lost(&self) -> Lost {
        let none = Lost { flows: self.flows.lost(), ..Lost::default() };
        self.losses().fold(none, |sum, own| Lost {
            limited: sum.limited + own.events.limited,
            overrun: sum.overrun + own.events.overrun,
            tamper: sum.tamper + own.tamper.limited + own.tamper.overrun,
            flows: sum.flows,
        })
    }

    /// Each CPU's losses.
    pub(super) fn losses(&self) -> impl Iterator<Item = Losses> + use<> {
        let values = self.losses.get(&0, 0).ok();
        let values: Vec<_> = values.iter().flat_map(|values| values.iter().copied()).collect();
        values.into_iter().filter_map(|bytes| Losses::read_from_bytes(bytes.as_bytes()).ok())
    }
}
