//! The manifests that a relay keeps, and the pieces that they name: those a relay gets, and no others.
//!
//! What a manifest named that is of none of its hosts any more is named for a while longer: a relay may have asked before it
//! heard of that, and hosts that lose their connection come again.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::digest::Digest;

/// For how long: milliseconds.
const LATELY_MS: u64 = 60_000;

/// Manifests by how many hosts have each.
#[derive(Debug, Default)]
pub(super) struct Kept {
    manifests: BTreeMap<Digest, (u32, Pieces)>,
    /// How many of them, and of those of late, name each piece.
    named: BTreeMap<Digest, u32>,
    /// What was kept until lately, and until when it counts.
    lately: VecDeque<(u64, Pieces)>,
}

type Pieces = Arc<[Digest]>;

impl Kept {
    /// One more host has a manifest that names `pieces`, sorted. Whether it is the first.
    pub(super) fn add(&mut self, manifest: Digest, pieces: &Pieces) -> bool {
        let (users, _) = self.manifests.entry(manifest).or_insert_with(|| (0, Arc::clone(pieces)));
        *users += 1;
        let first = *users == 1;
        if first {
            pieces.iter().for_each(|piece| *self.named.entry(*piece).or_default() += 1);
        }
        first
    }

    /// One host less has it.
    pub(super) fn remove(&mut self, manifest: &Digest, now_ms: u64) {
        let Some((users, _)) = self.manifests.get_mut(manifest) else { return };
        *users -= 1;
        if *users == 0
            && let Some((_, pieces)) = self.manifests.remove(manifest)
        {
            self.lately.push_back((now_ms + LATELY_MS, pieces));
        }
    }

    /// Whether a host of the relay needs a piece, or did lately.
    pub(super) fn names(&self, piece: &Digest) -> bool {
        self.named.contains_key(piece)
    }

    /// Time passed.
    pub(super) fn tick(&mut self, now_ms: u64) {
        while let Some((_, pieces)) = self.lately.pop_front_if(|(until, _)| *until <= now_ms) {
            for piece in pieces.iter() {
                if let Some(count) = self.named.get_mut(piece) {
                    *count -= 1;
                    if *count == 0 {
                        self.named.remove(piece);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(of: &str) -> Digest {
        Digest::of(of.as_bytes())
    }

    #[test]
    fn a_piece_is_named_while_a_manifest_that_names_it_is_kept_and_a_while_longer() {
        let pieces = |names: &[&str]| -> Pieces { names.iter().map(|it| digest(it)).collect() };
        let mut kept = Kept::default();
        assert!(kept.add(digest("one"), &pieces(&["a", "b"])));
        assert!(!kept.add(digest("one"), &pieces(&["a", "b"])));
        assert!(kept.add(digest("two"), &pieces(&["b"])));
        assert!(kept.names(&digest("a")) && kept.names(&digest("b")) && !kept.names(&digest("c")));
        kept.remove(&digest("one"), 0);
        kept.tick(LATELY_MS);
        assert!(kept.names(&digest("a")), "a host has it still");
        kept.remove(&digest("one"), 5);
        kept.tick(LATELY_MS + 4);
        assert!(kept.names(&digest("a")), "it was asked for before, perhaps");
        kept.tick(LATELY_MS + 5);
        assert!(!kept.names(&digest("a")) && kept.names(&digest("b")));
    }
}
