//! From one version to the next: what is new is read, and the rest stays.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Touched, Views,
    folk::HostNumber,
    leaf::{Leaf, LeafNumber, Touch},
    pack::{Pack, PackNumber},
};
use crate::{
    edition::{Listing, Paper},
    model::Model,
    orders::Refusal,
    records::{RolloutRecord, Step},
};

/// The version that some hosts try.
type Tried = Option<(Arc<Pack>, RolloutRecord)>;

/// Kinds that a new version touches.
enum Reach {
    All,
    Kinds(BTreeSet<u32>),
}

impl Views {
    /// Takes over which versions hosts are to have. Whose targets may be others by that, the sets that changed left aside.
    pub(super) fn take_versions(&mut self, model: &Model) -> Result<Touched, Refusal> {
        let steps: Vec<&Step> = model.current().into_iter().flat_map(|it| &it.steps).collect();
        let open = model.rollout().filter(|rollout| rollout.is_open());
        let mut fresh: Vec<Arc<Pack>> = Vec::new();
        let packs = self.packs_of(model, &steps, open, &mut fresh);
        let (packs, tried) = match packs {
            Ok(packs) => packs,
            Err(lost) => {
                fresh.iter().for_each(|pack| self.release(pack));
                return Err(lost);
            }
        };
        let parted = self.selectors.settle(&mut self.folk);
        self.classes.inherit(&parted);
        for (old, new) in parted {
            if let Some(&latest) = self.latest.get(&old) {
                self.latest.entry(new).or_insert(latest);
            }
        }
        let mut hosts = self.canary_numbers();
        let same = |one: &Tried, other: &Tried| {
            let what =
                |it: &Tried| it.as_ref().map(|(pack, rollout)| (pack.number, rollout.clone()));
            what(one) == what(other)
        };
        let tries_the_same = same(&self.tried, &tried);
        let before = std::mem::replace(&mut self.packs, packs);
        let tried_before = std::mem::replace(&mut self.tried, tried);
        if tries_the_same {
            hosts.clear();
        } else {
            hosts.extend(self.canary_numbers());
        }
        let reach = self.turned(&before);
        for pack in before.iter().chain(tried_before.as_ref().map(|(pack, _)| pack)) {
            if !self.at_hand(pack.number) {
                self.release(pack);
            }
        }
        let gone = before.iter().any(|pack| !self.at_hand(pack.number));
        let gone = gone || tried_before.is_some_and(|(pack, _)| !self.at_hand(pack.number));
        self.called_otherwise();
        if gone {
            let at_hand: BTreeSet<PackNumber> = self.numbers_at_hand().collect();
            self.classes.keep(|number| at_hand.contains(&number));
        }
        let kinds = match reach {
            Reach::All => {
                self.classes.forget_former();
                return Ok(Touched::All);
            }
            Reach::Kinds(kinds) => kinds,
        };
        // Of several versions at once, and of one that touches everybody, it is not known what that is for whom.
        let one = self.packs.len() == before.len() + 1;
        let rules = self.touches.last().filter(|_| one).and_then(Touch::rules);
        let everybodys = self.touches.iter().rposition(|touch| *touch == Touch::Everybody);
        let everybodys = everybodys.and_then(|at| self.packs.get(at)).map(|pack| pack.number);
        let rules = |since: PackNumber| rules.clone().filter(|_| everybodys <= Some(since));
        let newest = self.packs.last().map(|pack| pack.number);
        let tried = self.tried.as_ref().map(|(pack, _)| pack.number);
        let stays = |number| Some(number) == newest || Some(number) == tried;
        for &kind in &kinds {
            self.classes.leave(kind, stays, rules);
        }
        hosts.extend(self.folk.of_kinds(&kinds));
        hosts.sort_unstable();
        hosts.dedup();
        Ok(Touched::Some(hosts))
    }

    /// The versions, and the one that is tried. Those that were not at hand before are put into `fresh`, too.
    fn packs_of(
        &mut self,
        model: &Model,
        steps: &[&Step],
        open: Option<&RolloutRecord>,
        fresh: &mut Vec<Arc<Pack>>,
    ) -> Result<(Vec<Arc<Pack>>, Tried), Refusal> {
        let mut packs: Vec<Arc<Pack>> = Vec::new();
        for step in steps {
            let before = self.packs.get(packs.len()).filter(|pack| pack.step == **step);
            // Their numbers ascend: behind a new one, all are.
            let pack = match before.filter(|_| fresh.is_empty()) {
                Some(pack) => Arc::clone(pack),
                None => {
                    let pack = self.pack(model, step, fresh)?;
                    fresh.push(Arc::clone(&pack));
                    pack
                }
            };
            packs.push(pack);
        }
        let Some(open) = open else { return Ok((packs, None)) };
        let before = self
            .tried
            .as_ref()
            .filter(|(pack, rollout)| pack.step == open.step && rollout.id == open.id);
        let pack = match before {
            Some((pack, _)) => Arc::clone(pack),
            None => {
                let pack = self.pack(model, &open.step, fresh)?;
                fresh.push(Arc::clone(&pack));
                pack
            }
        };
        Ok((packs, Some((pack, open.clone()))))
    }

    /// A version with its documents held.
    fn pack(
        &mut self,
        model: &Model,
        step: &Step,
        fresh: &[Arc<Pack>],
    ) -> Result<Arc<Pack>, Refusal> {
        let at_hand = self.packs.iter().chain(self.tried.as_ref().map(|(pack, _)| pack));
        let known = at_hand.chain(fresh).find(|pack| pack.step.version == step.version);
        let leaves = match known {
            Some(pack) => pack.leaves.clone(),
            None => self.read(model, step.version)?,
        };
        let lost = || Refusal::Lost(format!("version {}", step.version));
        let pieces = &model.version(step.version).ok_or_else(lost)?.bundle;
        for &leaf in &leaves {
            self.leaves.hold(leaf, &mut self.selectors);
        }
        self.last_pack += 1;
        let number = self.last_pack;
        Ok(Arc::new(Pack::of(number, model, step, pieces, leaves, &self.leaves)))
    }

    /// The documents of a version: those that are known stay, and the others are read.
    fn read(&mut self, model: &Model, version: u64) -> Result<Vec<LeafNumber>, Refusal> {
        let (pieces, listing) = Listing::of(model, version)?;
        let before = self.packs.last().cloned();
        let mut found: Vec<Result<LeafNumber, (Paper, String)>> = Vec::new();
        for (at, piece) in pieces.documents.iter().enumerate() {
            let same = |number: &&LeafNumber| {
                let leaf = self.leaves.leaf(**number);
                leaf.is_some_and(|leaf| match &listing {
                    Listing::Agreed => leaf.agreed && leaf.piece == *piece,
                    Listing::Snapshot(listed) => {
                        let listed = listed.get(&leaf.payload).filter(|_| leaf.piece == *piece);
                        listed.is_some_and(|listed| listed.concerns == leaf.listed)
                    }
                })
            };
            // Most are what they were, where they were.
            let there = before.as_ref().and_then(|pack| pack.leaves.get(at)).filter(same);
            let known = there.or_else(|| self.leaves.find(piece).iter().find(same));
            found.push(match known {
                Some(number) => Ok(*number),
                None => Err(Paper::read(model, version, piece, &listing)?),
            });
        }
        let mut numbers = Vec::with_capacity(found.len());
        for (at, it) in found.into_iter().enumerate() {
            numbers.push(match it {
                Ok(number) => number,
                Err((paper, payload)) => {
                    let there = before.as_ref().and_then(|pack| pack.leaves.get(at));
                    let there = there.and_then(|number| self.leaves.leaf(*number));
                    let same = there.filter(|leaf| leaf.name == paper.name).map(|leaf| &**leaf);
                    let leaf = Leaf::of(&paper, payload, same, &mut self.selectors);
                    self.leaves.put(leaf)
                }
            });
        }
        Ok(numbers)
    }

    fn release(&mut self, pack: &Pack) {
        for &leaf in &pack.leaves {
            self.leaves.release(leaf, &mut self.selectors);
        }
    }

    fn numbers_at_hand(&self) -> impl Iterator<Item = PackNumber> {
        let tried = self.tried.iter().map(|(pack, _)| pack.number);
        self.packs.iter().map(|pack| pack.number).chain(tried)
    }

    fn at_hand(&self, number: PackNumber) -> bool {
        self.numbers_at_hand().any(|it| it == number)
    }

    /// The kinds that are touched because the versions were `before` what they are not any more.
    fn turned(&mut self, before: &[Arc<Pack>]) -> Reach {
        let numbers = |packs: &[Arc<Pack>]| -> Vec<PackNumber> {
            packs.iter().map(|pack| pack.number).collect()
        };
        let (old, new) = (numbers(before), numbers(&self.packs));
        let follows = !old.is_empty() && new.starts_with(&old);
        let known = if follows { old.len() } else { 0 };
        self.touches.truncate(known);
        let mut reach = Reach::Kinds(BTreeSet::new());
        for at in known..self.packs.len() {
            let before = at.checked_sub(1).and_then(|at| self.packs.get(at));
            let touch = match (before, self.packs.get(at)) {
                (Some(before), Some(pack)) => pack.touch(before, &self.leaves),
                _ => Touch::Everybody,
            };
            match (&touch, &mut reach) {
                (Touch::Everybody, _) => reach = Reach::All,
                (Touch::Those { ends, .. }, Reach::Kinds(kinds)) => {
                    for &selector in ends {
                        kinds.extend(self.selectors.selected(selector, &self.folk));
                    }
                }
                (Touch::Those { .. }, Reach::All) => {}
            }
            self.touches.push(touch);
        }
        if !follows && old != new {
            reach = Reach::All;
        }
        match (&reach, self.packs.last()) {
            (Reach::Kinds(kinds), Some(last)) if known < self.packs.len() => {
                if self.packs.len() == known + 1 {
                    self.latest.extend(kinds.iter().map(|kind| (*kind, last.number)));
                } else {
                    kinds.iter().for_each(|kind| {
                        self.latest.remove(kind);
                    });
                }
            }
            (Reach::Kinds(_), _) => {}
            (Reach::All, _) => self.latest.clear(),
        }
        reach
    }

    /// Hosts that somebody calls by another name now, or not any more: that name is told of them, or is not.
    fn called_otherwise(&mut self) {
        let Self { folk, selectors, classes, .. } = self;
        for term in selectors.called() {
            let Some(word) = selectors.vocabulary.word(term) else { continue };
            let Some(known) = folk.called(&word).and_then(|number| folk.host(number)) else {
                continue;
            };
            if *known.id == *word {
                continue;
            }
            if let Some(kind) = folk.kind(known.kind) {
                classes.sets.changed(&known.id, &selectors.needing(&kind.answers));
            }
            for word in known.facts.names.iter().chain([&known.id]) {
                classes.speaks(word);
            }
        }
    }

    fn canary_numbers(&self) -> Vec<HostNumber> {
        if self.tried.is_none() {
            return Vec::new();
        }
        let all = self.folk.all().filter(|(_, known)| self.tries(known));
        all.map(|(number, _)| number).collect()
    }
}
