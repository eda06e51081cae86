//! Single denied addresses and ports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{End, Moment, Target};
use crate::edition::Applied;

/// Entries at most. Each is two rules of an image, of which there are 32,768 at most; more addresses than these are a
/// list, which is two rules whatever its length.
pub const ENTRIES_MAX: usize = 4_096;

/// There is no room for another entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {ENTRIES_MAX} entries already: import a list instead")]
pub struct TooMany;

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

    /// Adds an entry. One of the same target is replaced and returned: its end is now the new one, and so is its reason,
    /// where a new one is given.
    ///
    /// # Errors
    /// [`TooMany`] if there are [`ENTRIES_MAX`] others.
    pub fn add(&mut self, mut entry: Entry) -> Result<Option<Entry>, TooMany> {
        let Some(before) = self.0.get(&entry.target) else {
            if self.0.len() >= ENTRIES_MAX {
                return Err(TooMany);
            }
            return Ok(self.0.insert(entry.target, entry));
        };
        entry.reason = entry.reason.or_else(|| before.reason.clone());
        Ok(self.0.insert(entry.target, entry))
    }

    /// Removes the entry of a target and returns it.
    pub fn remove(&mut self, target: Target) -> Option<Entry> {
        self.0.remove(&target)
    }

    /// The same entries with their ends as the present boot counts them.
    #[must_use]
    pub fn settled(&self, now: &Moment) -> Self {
        let settled = |entry: &Entry| Entry {
            end: entry.end.as_ref().map(|end| end.settled(now)),
            ..entry.clone()
        };
        Self(self.0.iter().map(|(&target, entry)| (target, settled(entry))).collect())
    }

    /// Removes the entries that are over and returns them.
    pub fn end(&mut self, now: &Moment) -> Vec<Entry> {
        let over = |entry: &Entry| entry.end.as_ref().is_some_and(|end| end.is_over(now));
        let gone = self.0.values().filter(|entry| over(entry)).cloned().collect();
        self.0.retain(|_, entry| !over(entry));
        gone
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn entry(target: &str, reason: Option<&str>, until: Option<u64>) -> Entry {
        let end = until.map(|until| End {
            at: Timestamp::UNIX_EPOCH,
            lasts_ns: until,
            until_boottime_ns: until,
            boot: "boot".to_owned(),
        });
        let by = Applied { at: Timestamp::UNIX_EPOCH, uid: 0, session: None };
        let reason = reason.map(str::to_owned);
        Entry { target: target.parse().expect("a target"), end, reason, by }
    }

    #[test]
    fn adding_again_refreshes_the_end_and_keeps_the_reason() {
        let mut entries = Entries::default();
        assert_eq!(entries.add(entry("192.0.2.1", Some("scans"), Some(5))), Ok(None));
        let before = entries.add(entry("::ffff:192.0.2.1/128", None, None)).unwrap().unwrap();
        assert_eq!(before.end.map(|end| end.until_boottime_ns), Some(5));
        let now = entries.iter().next().unwrap();
        assert_eq!((now.end.as_ref(), now.reason.as_deref()), (None, Some("scans")));
        assert_eq!(entries.len(), 1);
        assert!(entries.remove("192.0.2.2".parse().unwrap()).is_none());
        assert!(entries.remove("192.0.2.1".parse().unwrap()).is_some());
        assert!(entries.is_empty());
    }

    #[test]
    fn there_is_room_for_as_many_as_is_said() {
        let mut entries = Entries::default();
        for port in 1..=ENTRIES_MAX {
            assert_eq!(entries.add(entry(&format!("tcp/{port}"), None, None)), Ok(None));
        }
        assert_eq!(entries.add(entry("192.0.2.1", None, None)), Err(TooMany));
        assert!(
            entries.add(entry("tcp/7", None, Some(1))).is_ok(),
            "one that is there may be added"
        );
    }

    #[test]
    fn entries_end() {
        let mut entries = Entries::default();
        for (target, until) in [("tcp/1", Some(10)), ("tcp/2", Some(20)), ("tcp/3", None)] {
            entries.add(entry(target, None, until)).unwrap();
        }
        let now =
            |boottime_ns| Moment { wall: Timestamp::MAX, boottime_ns, boot: "boot".to_owned() };
        assert_eq!(entries.end(&now(9)), []);
        assert_eq!(entries.end(&now(10)), [entry("tcp/1", None, Some(10))]);
        assert_eq!(entries.end(&now(99)).len(), 1);
        assert_eq!(entries.len(), 1);
    }
}
