//! Single denied addresses and ports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{End, Moment, Target};
use crate::edition::Applied;

/// One denied address, prefix, port or range of ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What is denied.
    pub target: Target,
    /// When that ends by itself, if it does.
    pub end: Option<End>,
    /// Why, by whoever added it.
    pub reason: Option<String>,
    /// Who added it, and when.
    pub by: Applied,
}

/// The entries, one for each target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Entry>", into = "Vec<Entry>")]
pub struct Entries(BTreeMap<Target, Entry>);

impl From<Vec<Entry>> for Entries {
    fn from(entries: Vec<Entry>) -> Self {
        Self(entries.into_iter().map(|entry| (entry.target, entry)).collect())
    }
}

impl From<Entries> for Vec<Entry> {
    fn from(Entries(entries): Entries) -> Self {
        entries.into_values().collect()
    }
}

impl Entries {
    /// All of them, in the order of their targets.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entry of a target.
    pub fn find(&self, target: Target) -> Option<&Entry> {
        self.0.get(&target)
    }

    /// Adds an entry. One of the same target is replaced and returned: its end is now the new one.
    pub fn add(&mut self, entry: Entry) -> Option<Entry> {
        self.0.insert(entry.target, entry)
    }

    /// Removes the entry of a target and returns it.
    pub fn remove(&mut self, target: Target) -> Option<Entry> {
        self.0.remove(&target)
    }

    /// Removes the entries that are over and returns them.
    pub fn end(&mut self, now: &Moment) -> Vec<Entry> {
        let over = |entry: &Entry| entry.end.as_ref().is_some_and(|end| end.is_over(now));
        let gone = self.0.values().filter(|entry| over(entry)).cloned().collect();
        self.0.retain(|_, entry| !over(entry));
        gone
    }
}
