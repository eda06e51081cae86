//! Which pieces a manifest names, so that hosts and relays get those of their own and no others: those in it, and the
//! sections that its sets of hosts list.

use std::{collections::BTreeMap, sync::Arc};

use prost::Message;
use wire::sync::{Manifest, Members, Piece};

use super::desk::{Find, Source};
use crate::digest::Digest;

/// Manifests whose pieces are remembered, and as many sets of hosts. There are about as many as there are classes of hosts;
/// beyond this, all are forgotten and read again.
const MANIFESTS_MAX: usize = 1_024;

/// The pieces of the manifests that were asked about lately.
#[derive(Debug, Default)]
pub(super) struct Contents {
    manifests: BTreeMap<Digest, Content>,
    /// What sets of hosts list.
    sections: BTreeMap<Digest, Arc<[Digest]>>,
}

/// What a manifest names: all of it, and of that what lists further pieces. Sorted.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) pieces: Arc<[Digest]>,
    pub(super) lists: Arc<[Digest]>,
}

/// Whether a piece is one that somebody may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// It is.
    Named,
    /// It is not.
    Unnamed,
    /// That is known when this piece is here.
    Coming(Digest),
    /// Nobody knows: a piece that may name it is lost.
    Lost,
}

impl Contents {
    /// What a manifest, with its digest, names.
    pub(super) fn of(&mut self, manifest: &[u8], digest: Digest) -> Content {
        if !self.manifests.contains_key(&digest) && MANIFESTS_MAX <= self.manifests.len() {
            self.manifests.clear();
        }
        self.manifests.entry(digest).or_insert_with(|| Content::of(manifest)).clone()
    }

    /// Whether one of these lists names a piece.
    pub(super) fn listed(
        &mut self,
        lists: &[Digest],
        piece: &Digest,
        source: &mut impl Source,
    ) -> Naming {
        let mut naming = Naming::Unnamed;
        for list in lists {
            let known = self.sections.get(list);
            if known.is_some_and(|known| known.binary_search(piece).is_err()) {
                continue;
            }
            // Asked for even where it is remembered: who passes sections on has to have what lists them.
            match source.piece(list) {
                Find::Here(bytes) => {
                    if MANIFESTS_MAX <= self.sections.len() {
                        self.sections.clear();
                    }
                    let listed = self.sections.entry(*list).or_insert_with(|| sections(&bytes));
                    if listed.binary_search(piece).is_ok() {
                        return Naming::Named;
                    }
                }
                Find::Coming => naming = Naming::Coming(*list),
                Find::Lost if naming == Naming::Unnamed => naming = Naming::Lost,
                Find::Lost => {}
            }
        }
        naming
    }
}

impl Content {
    fn of(manifest: &[u8]) -> Self {
        let Manifest { roots, timestamp, snapshot, documents, members, .. } =
            Manifest::decode(manifest).unwrap_or_default();
        let lists = sorted(members.iter().filter(|piece| piece.sections != 0));
        let single = timestamp.iter().chain(&snapshot);
        let all = roots.iter().chain(single).chain(&documents).chain(&members);
        Self { pieces: sorted(all), lists }
    }
}

fn sections(members: &[u8]) -> Arc<[Digest]> {
    sorted(Members::decode(members).unwrap_or_default().sections.iter())
}

fn sorted<'a>(pieces: impl Iterator<Item = &'a Piece>) -> Arc<[Digest]> {
    let mut all: Vec<Digest> = pieces.filter_map(|piece| Digest::read(&piece.digest)).collect();
    all.sort_unstable();
    all.into()
}
