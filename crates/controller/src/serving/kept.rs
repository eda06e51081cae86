//! The manifests that a relay keeps, and the pieces that they name: those a relay gets, and no others.
//!
//! What a manifest named that is of none of its hosts any more is named for a while longer: a relay may have asked before it
//! heard of that, and hosts that lose their connection come again.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::contents::Content;
use crate::digest::Digest;

/// For how long: milliseconds.
const LATELY_MS: u64 = 60_000;

/// Manifests by how many hosts have each.
#[derive(Debug, Default)]
pub(super) struct Kept {
    manifests: BTreeMap<Digest, (u32, Content)>,
    /// How many of them, and of those of late, name each piece; and of those that list further pieces, once more.
    named: BTreeMap<Digest, u32>,
    lists: BTreeMap<Digest, u32>,
    /// What was kept until lately, and until when it counts.
    lately: VecDeque<(u64, Content)>,
}

impl Kept {
    /// One more host has a manifest of this content. Whether it is the first.
    pub(super) fn add(&mut self, manifest: Digest, content: &Content) -> bool {
        let (users, _) = self.manifests.entry(manifest).or_insert_with(|| (0, content.clone()));
        *users += 1;
        let first = *users == 1;
        if first {
            content.pieces.iter().for_each(|it| *self.named.entry(*it).or_default() += 1);
            content.lists.iter().for_each(|it| *self.lists.entry(*it).or_default() += 1);
        }
        first
    }

    /// One host less has it.
    pub(super) fn remove(&mut self, manifest: &Digest, now_ms: u64) {
        let Some((users, _)) = self.manifests.get_mut(manifest) else { return };
        *users -= 1;
        if *users == 0
            && let Some((_, content)) = self.manifests.remove(manifest)
        {
            self.lately.push_back((now_ms + LATELY_MS, content));
        }
    }

    /// Whether a host of the relay needs a piece, or did lately: one that a manifest names.
    pub(super) fn names(&self, piece: &Digest) -> bool {
        self.named.contains_key(piece)
    }

    /// Pieces that list further ones which hosts of the relay need, or did lately.
    pub(super) fn lists(&self) -> Arc<[Digest]> {
        self.lists.keys().copied().collect()
    }

    /// Time passed.
    pub(super) fn tick(&mut self, now_ms: u64) {
        let less = |counts: &mut BTreeMap<Digest, u32>, piece: &Digest| {
            if let Some(count) = counts.get_mut(piece) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(piece);
                }
            }
        };
        while let Some((_, content)) = self.lately.pop_front_if(|(until, _)| *until <= now_ms) {
            content.pieces.iter().for_each(|piece| less(&mut self.named, piece));
            content.lists.iter().for_each(|piece| less(&mut self.lists, piece));
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
        // The last of them lists others.
        let pieces = |names: &[&str]| Content {
            pieces: names.iter().map(|it| digest(it)).collect(),
            lists: names.last().map(|it| digest(it)).into_iter().collect(),
        };
        let mut kept = Kept::default();
        assert!(kept.add(digest("one"), &pieces(&["a", "b"])));
        assert!(!kept.add(digest("one"), &pieces(&["a", "b"])));
        assert!(kept.add(digest("two"), &pieces(&["b"])));
        assert!(kept.names(&digest("a")) && kept.names(&digest("b")) && !kept.names(&digest("c")));
        assert_eq!(*kept.lists(), [digest("b")]);
        kept.remove(&digest("one"), 0);
        kept.tick(LATELY_MS);
        assert!(kept.names(&digest("a")), "a host has it still");
        kept.remove(&digest("one"), 5);
        kept.tick(LATELY_MS + 4);
        assert!(kept.names(&digest("a")), "it was asked for before, perhaps");
        kept.tick(LATELY_MS + 5);
        assert!(!kept.names(&digest("a")) && kept.names(&digest("b")));
        kept.remove(&digest("two"), LATELY_MS);
        kept.tick(3 * LATELY_MS);
        assert!(!kept.names(&digest("b")) && kept.lists().is_empty());
    }
}
