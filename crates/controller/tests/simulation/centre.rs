//! The centre of the simulated fleet: a store that several controllers share, and who leads.

use std::collections::BTreeMap;

use controller::{Batch, Change, Controller, Digest, Settings, serving::At};

use crate::swap::swap;

/// Records with all their changes, and a lease.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) records: BTreeMap<String, Vec<u8>>,
    /// What changed, by revision.
    pub(crate) log: Vec<Vec<Change>>,
    /// Who leads, and until when unless it says so again.
    pub(crate) lease: Option<(usize, u64)>,
}

impl Shared {
    /// Commits for whoever leads; false if it does not, or if something is not as expected.
    pub(crate) fn commit(&mut self, by: usize, now: u64, batch: Batch) -> bool {
        let leads = self.lease.is_some_and(|(leader, until)| leader == by && now < until);
        if !leads {
            return false;
        }
        match swap(&mut self.records, batch) {
            Ok(changes) => {
                self.log.push(changes);
                true
            }
            Err(_) => false,
        }
    }

    pub(crate) fn leader(&self, now: u64) -> Option<usize> {
        self.lease.filter(|(_, until)| now < *until).map(|(leader, _)| leader)
    }
}

/// A controller, alive or not.
pub(crate) struct Member {
    pub(crate) alive: Option<Controller>,
    /// Revisions that it has seen.
    pub(crate) seen: usize,
    pub(crate) restart: Option<u64>,
    /// It cannot reach the store until then.
    pub(crate) cut_until: u64,
    /// Its clock is wrong by so many seconds.
    pub(crate) skew_s: i64,
}

impl Member {
    pub(crate) fn new(skew_s: i64) -> Self {
        Self { alive: None, seen: 0, restart: Some(0), cut_until: 0, skew_s }
    }

    /// It begins, with what the store holds.
    pub(crate) fn start(&mut self, shared: &Shared, settings: &Settings, now: At) {
        let records = shared.records.clone();
        self.alive = Some(Controller::load(records, settings.clone(), now).unwrap());
        (self.seen, self.restart) = (shared.log.len(), None);
    }
}

/// The certificate of a host or a relay.
pub(crate) fn certificate(id: &str) -> Digest {
    Digest::of(format!("certificate of {id}").as_bytes())
}
