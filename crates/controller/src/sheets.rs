//! Differences between snapshots. Hosts have any of the versions that are kept, and a snapshot of thousands of documents is
//! megabytes: so of each older one only its lines' numbers are remembered, and one that is led to is read once.

use std::{collections::BTreeMap, sync::Arc};

use wire::sync::{Lines, Sheet};

use crate::digest::Digest;

/// Snapshots of which lines are remembered: more than hosts have at any time.
const LINES_MAX: usize = 256;

/// What was read of snapshots.
#[derive(Debug, Default)]
pub(crate) struct Sheets {
    lines: BTreeMap<Digest, Lines>,
    /// The last one that was led to.
    newest: Option<(Digest, Sheet)>,
}

impl Sheets {
    /// What makes the snapshot `digest` of the snapshot `base`, encoded; none if one of them is not there or no snapshot.
    /// `piece` finds pieces.
    pub(crate) fn difference(
        &mut self,
        base: &Digest,
        digest: &Digest,
        piece: impl Fn(&Digest) -> Option<Arc<[u8]>>,
    ) -> Option<Vec<u8>> {
        if !self.lines.contains_key(base) {
            let sheet = Sheet::read(&piece(base)?)?;
            if self.lines.len() >= LINES_MAX {
                self.lines.retain(|digest, _| piece(digest).is_some());
            }
            if self.lines.len() >= LINES_MAX {
                self.lines.pop_first();
            }
            self.lines.insert(*base, sheet.lines().clone());
        }
        if self.newest.as_ref().is_none_or(|(newest, _)| newest != digest) {
            self.newest = Some((*digest, Sheet::read(&piece(digest)?)?));
        }
        let (_, newest) = self.newest.as_ref()?;
        Some(newest.since(self.lines.get(base)?))
    }
}
