//! A version of the policy, seen from hosts: its documents by number, and the pieces that go with them.

use std::collections::{BTreeMap, BTreeSet};

use wire::sync::Piece;

use super::{
    leaf::{Leaf, LeafNumber, Leaves, Touch},
    selectors::{SelectorNumber, Selectors},
};
use crate::{
    digest::Digest,
    model::Model,
    records::{Pieces, Step},
};

/// A version's number in the views: another one than before if its timestamp is another. Later versions have greater ones.
pub(super) type PackNumber = u32;

/// A version.
#[derive(Clone, Debug)]
pub(super) struct Pack {
    pub(super) number: PackNumber,
    pub(super) step: Step,
    /// Documents, in the order of the snapshot.
    pub(super) leaves: Vec<LeafNumber>,
    /// Place of each, by number.
    places: BTreeMap<LeafNumber, u16>,
    /// Places of those that concern everybody.
    everybodys: Vec<u16>,
    /// Places of the documents that delegate a document, by its place.
    above: BTreeMap<u16, Vec<u16>>,
    /// Roots, timestamp, snapshot.
    pub(super) roots: Vec<Piece>,
    pub(super) timestamp: Piece,
    pub(super) snapshot: Piece,
}

impl Pack {
    /// Of documents that are there.
    pub(super) fn of(
        number: PackNumber,
        model: &Model,
        step: &Step,
        pieces: &Pieces,
        leaves: Vec<LeafNumber>,
        of: &Leaves,
    ) -> Self {
        let all = || (0u16..).zip(leaves.iter().filter_map(|leaf| of.leaf(*leaf)));
        let everybodys = all().filter(|(_, leaf)| leaf.concerns.is_none()).map(|(at, _)| at);
        let everybodys = everybodys.collect();
        let mut above: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
        if all().any(|(_, leaf)| !leaf.delegates.is_empty()) {
            let by_name: BTreeMap<&str, u16> =
                all().map(|(at, leaf)| (leaf.name.as_str(), at)).collect();
            for (at, leaf) in all() {
                for below in leaf.delegates.iter().filter_map(|it| by_name.get(it.as_str())) {
                    above.entry(*below).or_default().push(at);
                }
            }
        }
        let piece = |digest: &Digest, name: &str| Piece {
            digest: digest.0.to_vec(),
            bytes: model.piece(digest).map_or(0, |bytes| bytes.len() as u64),
            name: name.to_owned(),
            sections: 0,
        };
        Self {
            number,
            roots: pieces.roots.iter().map(|root| piece(root, "root")).collect(),
            timestamp: piece(&step.timestamp, "timestamp"),
            snapshot: piece(&pieces.snapshot, "snapshot"),
            step: step.clone(),
            places: leaves.iter().copied().zip(0..).collect(),
            leaves,
            everybodys,
            above,
        }
    }

    fn has(&self, leaf: &LeafNumber) -> Option<u16> {
        self.places.get(leaf).copied()
    }

    /// The documents that a host gets whom these select: those that concern it, and those that say who may sign them. In
    /// the order of the snapshot.
    pub(super) fn documents(
        &self,
        selected: &[SelectorNumber],
        selectors: &Selectors,
    ) -> Vec<LeafNumber> {
        let concerning = selected.iter().flat_map(|selector| selectors.concerned(*selector));
        let mut wanted: BTreeSet<u16> = self.everybodys.iter().copied().collect();
        wanted.extend(concerning.filter_map(|leaf| self.has(leaf)));
        if !self.above.is_empty() {
            let mut more: Vec<u16> = wanted.iter().copied().collect();
            while let Some(at) = more.pop() {
                let above = self.above.get(&at).into_iter().flatten().copied();
                more.extend(above.filter(|it| wanted.insert(*it)));
            }
        }
        wanted.into_iter().filter_map(|at| self.leaves.get(usize::from(at)).copied()).collect()
    }

    /// What rules have at the other end that select a host at one; ascending, each once.
    pub(super) fn needs(
        &self,
        selected: &[SelectorNumber],
        selectors: &Selectors,
        leaves: &Leaves,
    ) -> Vec<SelectorNumber> {
        let mut needs = Vec::new();
        for &selector in selected {
            let here = selectors.rules(selector).iter().filter(|leaf| self.has(leaf).is_some());
            let leaf = here.filter_map(|leaf| leaves.leaf(*leaf));
            needs.extend(leaf.flat_map(|leaf| leaf.opposite(selector)));
        }
        needs.sort_unstable();
        needs.dedup();
        needs
    }

    /// Whom it touches that this follows `before`.
    pub(super) fn touch(&self, before: &Self, leaves: &Leaves) -> Touch {
        let others = |pack: &Self, other: &Self| -> BTreeMap<String, LeafNumber> {
            let own = pack.leaves.iter().filter(|leaf| other.has(leaf).is_none());
            let named = own.filter_map(|it| Some((leaves.leaf(*it)?.name.clone(), *it)));
            named.collect()
        };
        let (old, new) = (others(before, self), others(self, before));
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let mut touch = Touch::Those(BTreeSet::new());
        for name in names {
            let leaf = |of: &BTreeMap<String, LeafNumber>| {
                of.get(name).and_then(|leaf| leaves.leaf(*leaf))
            };
            touch.add(leaf(&old).map(|it| &**it), leaf(&new).map(|it| -> &Leaf { it }));
        }
        touch
    }
}
