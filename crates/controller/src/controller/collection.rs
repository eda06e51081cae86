//! Which pieces nobody has needed for how long, as whoever leads sees it: the time is counted anew where another one leads.

use std::collections::BTreeMap;

use crate::{
    digest::Digest,
    model::Model,
    orders::{Batch, Keep, collect, idle},
};

/// How often it is looked for such pieces: milliseconds.
const LOOK_MS: u64 = 60_000;

/// Pieces that nobody needs.
#[derive(Debug)]
pub(super) struct Collection {
    keep: Keep,
    /// Since when.
    since: BTreeMap<Digest, u64>,
    looked_ms: Option<u64>,
}

impl Collection {
    pub(super) fn new(keep: Keep) -> Self {
        Self { keep, since: BTreeMap::new(), looked_ms: None }
    }

    /// What to remove, if anything is due.
    pub(super) fn due(&mut self, model: &Model, now_ms: u64) -> Option<Batch> {
        let often = LOOK_MS.min(self.keep.idle_ms.max(1));
        if self.looked_ms.is_some_and(|looked| now_ms < looked + often) {
            return None;
        }
        let mut idle = idle(model, self.keep);
        self.since.retain(|digest, _| idle.contains_key(digest));
        for digest in idle.keys() {
            self.since.entry(*digest).or_insert(now_ms);
        }
        let Self { keep, since, .. } = self;
        idle.retain(|digest, _| {
            since.get(digest).is_some_and(|since| since + keep.idle_ms <= now_ms)
        });
        let batch = collect(model, &idle);
        // Where something is left, it goes with the next batch.
        self.looked_ms = batch.is_none().then_some(now_ms);
        batch
    }
}
