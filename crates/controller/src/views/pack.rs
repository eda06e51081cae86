//! A version of the policy, seen from hosts: its documents by number, and the pieces that go with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use prost::Message;
use wire::sync::{Manifest, Piece};

use super::{
    leaf::{Ends, Leaf, LeafNumber, Leaves, Touch},
    selectors::{SelectorNumber, Selectors},
    vocabulary::Answers,
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
    /// Place of each, by number: there are few numbers that no document has.
    places: Box<[Option<u16>]>,
    /// Places of those that concern everybody.
    everybodys: Vec<u16>,
    /// Places of the documents that delegate a document, by its place.
    above: BTreeMap<u16, Vec<u16>>,
    /// Roots, timestamp and snapshot: what manifests begin with, encoded.
    pub(super) head: Box<[u8]>,
}

/// One of some versions, which are sorted by their numbers.
pub(super) fn find(packs: &[Arc<Pack>], number: PackNumber) -> Option<&Arc<Pack>> {
    packs.get(packs.binary_search_by_key(&number, |pack| pack.number).ok()?)
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
        let head = Manifest {
            roots: pieces.roots.iter().map(|root| piece(root, "root")).collect(),
            timestamp: Some(piece(&step.timestamp, "timestamp")),
            snapshot: Some(piece(&pieces.snapshot, "snapshot")),
            ..Manifest::default()
        };
        Self {
            number,
            step: step.clone(),
            places: places(&leaves),
            leaves,
            everybodys,
            above,
            head: head.encode_to_vec().into(),
        }
    }

    fn has(&self, leaf: &LeafNumber) -> Option<u16> {
        self.places.get(*leaf as usize).copied().flatten()
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

    /// The same of a host that has `had` of the earlier version `before`. `None` where documents are delegated: then it takes
    /// more than a look at what is new.
    pub(super) fn documents_after(
        &self,
        before: &Self,
        had: &[LeafNumber],
        answers: &Answers,
        selectors: &Selectors,
        leaves: &Leaves,
    ) -> Option<Vec<LeafNumber>> {
        if !self.above.is_empty() || !before.above.is_empty() {
            return None;
        }
        let concerns = |leaf: &&LeafNumber| {
            let concerns = leaves.leaf(**leaf).map(|leaf| leaf.concerns);
            concerns.is_some_and(|it| it.is_none_or(|it| selectors.concerns(it, answers)))
        };
        let fresh = self.leaves.iter().filter(|leaf| before.has(leaf).is_none()).filter(concerns);
        let mut wanted: Vec<u16> =
            had.iter().chain(fresh).filter_map(|leaf| self.has(leaf)).collect();
        wanted.sort_unstable();
        let leaf = |at: u16| self.leaves.get(usize::from(at)).copied();
        Some(wanted.into_iter().filter_map(leaf).collect())
    }

    /// The needs of a host that needed `had` of an earlier version, if all rules that came or went since and select it are
    /// among these.
    pub(super) fn needs_after(
        &self,
        had: &[SelectorNumber],
        rules: &[Ends],
        answers: &Answers,
        selectors: &Selectors,
        leaves: &Leaves,
    ) -> Vec<SelectorNumber> {
        let selects = |selector: SelectorNumber| selectors.concerns(selector, answers);
        let mut changed = BTreeSet::new();
        for &(from, to) in rules {
            changed.extend(selects(from).then_some(to));
            changed.extend(selects(to).then_some(from));
        }
        // Other rules may have the same at their ends.
        let needed = |need: &SelectorNumber| {
            let here = selectors.rules(*need).iter().filter(|leaf| self.has(leaf).is_some());
            let leaf = here.filter_map(|leaf| leaves.leaf(*leaf));
            leaf.flat_map(|leaf| leaf.opposite(*need)).any(selects)
        };
        let needs: BTreeSet<SelectorNumber> = changed.iter().copied().filter(needed).collect();
        let kept = had.iter().copied().filter(|need| !changed.contains(need));
        let mut needs: Vec<SelectorNumber> = kept.chain(needs).collect();
        needs.sort_unstable();
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
        let mut touch = Touch::nobody();
        for name in names {
            let leaf = |of: &BTreeMap<String, LeafNumber>| {
                of.get(name).and_then(|leaf| leaves.leaf(*leaf))
            };
            touch.add(leaf(&old).map(|it| &**it), leaf(&new).map(|it| -> &Leaf { it }));
        }
        touch
    }
}

/// The place of each document, by its number.
fn places(leaves: &[LeafNumber]) -> Box<[Option<u16>]> {
    let last = leaves.iter().max().map_or(0, |last| *last as usize + 1);
    let mut places = vec![None; last];
    for (at, leaf) in (0..).zip(leaves) {
        if let Some(place) = places.get_mut(*leaf as usize) {
            *place = Some(at);
        }
    }
    places.into()
}
