//! Which pieces a manifest names, so that hosts and relays get those of their own and no others.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message;
use wire::sync::{Manifest, Piece};

use crate::digest::Digest;

/// Manifests whose pieces are remembered. There are about as many as there are classes of hosts; beyond this, all are
/// forgotten and read again.
const MANIFESTS_MAX: usize = 1_024;

/// The pieces of the manifests that were asked about lately.
#[derive(Debug, Default)]
pub(super) struct Contents(BTreeMap<Digest, Arc<[Digest]>>);

impl Contents {
    /// What a manifest, with its digest, names: sorted.
    pub(super) fn of(&mut self, manifest: &[u8], digest: Digest) -> Arc<[Digest]> {
        if !self.0.contains_key(&digest) && MANIFESTS_MAX <= self.0.len() {
            self.0.clear();
        }
        Arc::clone(self.0.entry(digest).or_insert_with(|| pieces(manifest)))
    }
}

/// Sorted.
fn pieces(manifest: &[u8]) -> Arc<[Digest]> {
    let Manifest { roots, timestamp, snapshot, documents, members, .. } =
        Manifest::decode(manifest).unwrap_or_default();
    let single = timestamp.into_iter().chain(snapshot);
    let all = roots.into_iter().chain(single).chain(documents).chain(members);
    let mut all: Vec<Digest> = all.filter_map(|piece: Piece| Digest::read(&piece.digest)).collect();
    all.sort_unstable();
    all.into()
}
