//! Pieces that nobody needs any more go: those that neither the current versions, nor the one that is tried, nor one of
//! the newest versions names. Records of versions stay, so that the history tells what there was.
//!
//! An apply relies on pieces that are there already and writes the others before it is committed. So that none of them is
//! taken away in between, each collection changes the record [`Key::Collected`], which every order that names pieces
//! expects as it was; and a collection expects that no version came, and what hosts should have is what it was.

use std::collections::{BTreeMap, BTreeSet};

use super::Batch;
use crate::{
    digest::Digest,
    model::Model,
    records::{CollectedRecord, Key, Pieces},
};

/// Removals of one batch, unless one piece has more chunks: etcd takes 128 operations in one.
const REMOVED_MAX: usize = 64;

/// Which documents are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Those of so many of the newest versions, besides the ones that hosts are to have.
    pub versions: usize,
    /// And others for so many milliseconds more, for whoever is about to ask for them.
    pub idle_ms: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self { versions: 20, idle_ms: 600_000 }
    }
}

/// Pieces that nobody needs, with the number of their chunks.
pub fn idle(model: &Model, keep: Keep) -> BTreeMap<Digest, u32> {
    let open = model.rollout().filter(|rollout| rollout.is_open()).map(|rollout| &rollout.step);
    let steps = || model.current().into_iter().flat_map(|current| &current.steps).chain(open);
    let newest = model.versions().rev().take(keep.versions);
    let needed = steps().filter_map(|step| model.version(step.version));
    let mut named: BTreeSet<Digest> =
        needed.chain(newest).flat_map(|record| pieces(&record.bundle)).collect();
    named.extend(steps().map(|step| step.timestamp));
    model.pieces().filter(|(digest, _)| !named.contains(digest)).collect()
}

/// Removes some of `gone`, each whole; `None` where there is nothing to remove.
pub fn collect(model: &Model, gone: &BTreeMap<Digest, u32>) -> Option<Batch> {
    let mut remove = Vec::new();
    for (&digest, &chunks) in gone {
        if !remove.is_empty() && REMOVED_MAX < remove.len() + chunks as usize {
            break;
        }
        remove.extend((0..chunks).map(|at| Key::Piece(digest, at).text()));
    }
    if remove.is_empty() {
        return None;
    }
    let next = model.versions().next_back().map_or(0, |last| last.version) + 1;
    let batches = model.collected().map_or(0, |record| record.batches) + 1;
    let batch = Batch::default()
        .replacing(model, &Key::Collected, &CollectedRecord { batches })
        .expecting(model, &Key::Version(next))
        .expecting(model, &Key::Current)
        .expecting(model, &Key::Rollout);
    Some(Batch { remove, ..batch })
}

/// All pieces of a bundle.
pub(crate) fn pieces(of: &Pieces) -> impl Iterator<Item = Digest> {
    let Pieces { roots, timestamp, snapshot, documents } = of;
    roots.iter().chain(documents).chain([timestamp, snapshot]).copied()
}
