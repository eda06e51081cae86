//! Classes: hosts with the same documents and the same needs, which have one manifest. What is kept of a manifest is its
//! digest; its bytes are made when somebody is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use prost::Message;
use wire::sync::{Manifest, Piece};

use super::{
    folk::HostNumber,
    leaf::{Leaf, LeafNumber, Leaves},
    library::Library,
    member,
    pack::{Pack, PackNumber},
    selectors::SelectorNumber,
    set::{Here, SetNumber, Sets},
};
use crate::{digest::Digest, records::RolloutRecord};

/// A class's number.
pub(super) type ClassNumber = u32;

/// Sets of hosts in one manifest: with more needs, there is one set of all of them, which fewer hosts share.
const SETS_MAX: usize = 1_000;

/// A class.
#[derive(Debug)]
struct Class {
    key: [u8; 16],
    pack: PackNumber,
    quarantined: bool,
    documents: Box<[LeafNumber]>,
    /// Ascending.
    sets: Box<[SetNumber]>,
    /// The piece of the hosts that the documents only call by their names.
    mentioned: Option<(Digest, u64)>,
    /// Kinds whose hosts have this manifest, of those that were asked about.
    kinds: Vec<u32>,
    digest: Digest,
}

/// All classes that were asked for, and are still of a version at hand.
#[derive(Debug, Default)]
pub(super) struct Classes {
    all: Vec<Option<Class>>,
    free: Vec<ClassNumber>,
    by_key: BTreeMap<[u8; 16], ClassNumber>,
    /// By kind, version, and whether they are shut off.
    by_kind: BTreeMap<(u32, PackNumber, bool), ClassNumber>,
    pub(super) sets: Sets,
    /// Pieces of hosts that are only mentioned, each with how many classes have it.
    mentions: BTreeMap<Digest, (Arc<[u8]>, usize)>,
    /// Words of which somebody else is called so now.
    spoken: BTreeSet<String>,
}

/// Whose class is asked for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) pack: &'a Pack,
    pub(super) kind: u32,
    pub(super) quarantined: bool,
    pub(super) trial: Option<&'a RolloutRecord>,
}

/// What classes are made from.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) here: Here<'a>,
    pub(super) leaves: &'a Leaves,
}

impl Classes {
    pub(super) fn count(&self) -> usize {
        self.by_key.len()
    }

    fn class(&self, number: ClassNumber) -> Option<&Class> {
        self.all.get(number as usize)?.as_ref()
    }

    /// Kinds that came out of others have the classes of those.
    pub(super) fn inherit(&mut self, pairs: &[(u32, u32)]) {
        for &(old, new) in pairs {
            let range = (old, 0, false)..=(old, PackNumber::MAX, true);
            let had: Vec<_> =
                self.by_kind.range(range).map(|(key, class)| (*key, *class)).collect();
            for ((_, pack, quarantined), number) in had {
                if self.by_kind.contains_key(&(new, pack, quarantined)) {
                    continue;
                }
                self.by_kind.insert((new, pack, quarantined), number);
                if let Some(class) = self.all.get_mut(number as usize).and_then(Option::as_mut) {
                    class.kinds.push(new);
                }
            }
        }
    }

    /// Hosts of a kind have nothing but the newest versions from now on.
    pub(super) fn leave(&mut self, kind: u32, newest: impl Fn(PackNumber) -> bool) {
        let range = (kind, 0, false)..=(kind, PackNumber::MAX, true);
        let old: Vec<_> = self.by_kind.range(range).map(|(key, class)| (*key, *class)).collect();
        for (key, number) in old.into_iter().filter(|((_, pack, _), _)| !newest(*pack)) {
            self.by_kind.remove(&key);
            let Some(class) = self.all.get_mut(number as usize).and_then(Option::as_mut) else {
                continue;
            };
            class.kinds.retain(|it| *it != kind);
            if class.kinds.is_empty() {
                self.forget(number);
            }
        }
    }

    /// Forgets the classes of versions that are not at hand any more.
    pub(super) fn keep(&mut self, at_hand: impl Fn(PackNumber) -> bool) {
        self.by_kind.retain(|(_, pack, _), _| at_hand(*pack));
        let gone = (0..).zip(&self.all).filter_map(|(number, class)| {
            let pack = class.as_ref()?.pack;
            (!at_hand(pack)).then_some(number)
        });
        let gone: Vec<ClassNumber> = gone.collect();
        gone.into_iter().for_each(|number| self.forget(number));
    }

    fn forget(&mut self, number: ClassNumber) {
        let Some(class) = self.all.get_mut(number as usize).and_then(Option::take) else { return };
        self.by_key.remove(&class.key);
        self.free.push(number);
        self.unmentioned(class.mentioned);
        for &set in &class.sets {
            self.sets.leave(set);
            let all = &self.all;
            self.sets.tidy(set, |user| {
                let class = all.get(user as usize).and_then(Option::as_ref);
                class.is_some_and(|class| class.sets.binary_search(&set).is_ok())
            });
        }
    }

    fn unmentioned(&mut self, piece: Option<(Digest, u64)>) {
        let Some((digest, _)) = piece else { return };
        if let Some((_, uses)) = self.mentions.get_mut(&digest) {
            *uses -= 1;
            if *uses == 0 {
                self.mentions.remove(&digest);
            }
        }
    }

    /// Somebody else is called so now, or nobody.
    pub(super) fn speaks(&mut self, word: &str) {
        self.spoken.insert(word.to_owned());
    }

    /// Works out again what is stale. The kinds of which the manifest is another one now.
    pub(super) fn refresh<'a>(
        &mut self,
        ground: Ground<'_>,
        library: &mut Library,
        pack: impl Fn(PackNumber) -> Option<(&'a Pack, Option<&'a RolloutRecord>)>,
    ) -> BTreeSet<u32> {
        let mut classes: BTreeSet<ClassNumber> =
            self.sets.refresh_all(ground.here, library).into_iter().collect();
        let spoken = std::mem::take(&mut self.spoken);
        if !spoken.is_empty() {
            let speaks = |leaf: &LeafNumber| {
                let leaf = ground.leaves.leaf(*leaf);
                leaf.is_some_and(|leaf| leaf.words.iter().any(|word| spoken.contains(word)))
            };
            let all = (0..).zip(&self.all);
            let speaking = all.filter(|(_, class)| {
                class.as_ref().is_some_and(|class| class.documents.iter().any(speaks))
            });
            classes.extend(speaking.map(|(number, _)| number));
        }
        let mut kinds = BTreeSet::new();
        for number in classes {
            let Some((pack, trial)) = self.class(number).and_then(|class| pack(class.pack)) else {
                continue;
            };
            self.mention(number, ground);
            let Some(bytes) = self.encoded(number, pack, trial, ground.leaves) else { continue };
            let digest = Digest::of(&bytes);
            let Some(class) = self.all.get_mut(number as usize).and_then(Option::as_mut) else {
                continue;
            };
            if class.digest != digest {
                class.digest = digest;
                kinds.extend(class.kinds.iter().copied());
                library.put(digest, &bytes);
            }
        }
        kinds
    }

    /// The manifest of hosts of a kind, with its digest. `selected` are the selectors that select them.
    pub(super) fn manifest(
        &mut self,
        wanted: Wanted<'_>,
        selected: impl FnOnce() -> Vec<SelectorNumber>,
        ground: Ground<'_>,
        library: &mut Library,
    ) -> Option<(Arc<[u8]>, Digest)> {
        let Wanted { pack, kind, quarantined, trial } = wanted;
        let number = match self.by_kind.get(&(kind, pack.number, quarantined)) {
            Some(&number) => number,
            None => {
                let number = self.found(wanted, &selected(), ground, library)?;
                self.by_kind.insert((kind, pack.number, quarantined), number);
                if let Some(class) = self.all.get_mut(number as usize).and_then(Option::as_mut) {
                    class.kinds.push(kind);
                }
                number
            }
        };
        let digest = self.class(number)?.digest;
        if let Some(bytes) = library.find(&digest) {
            return Some((bytes, digest));
        }
        let bytes = self.encoded(number, pack, trial, ground.leaves)?;
        library.put(digest, &bytes);
        Some((bytes, digest))
    }

    /// The class of hosts that these select.
    fn found(
        &mut self,
        wanted: Wanted<'_>,
        selected: &[SelectorNumber],
        ground: Ground<'_>,
        library: &mut Library,
    ) -> Option<ClassNumber> {
        let Wanted { pack, kind: _, quarantined, trial } = wanted;
        let selectors = ground.here.selectors;
        let documents = pack.documents(selected, selectors);
        let needs = pack.needs(selected, selectors, ground.leaves);
        let key = key(pack.number, quarantined, &documents, &needs);
        if let Some(&number) = self.by_key.get(&key) {
            return Some(number);
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            ClassNumber::try_from(self.all.len() - 1).expect("classes are fewer than 2^32")
        });
        let leaves = documents.iter().filter_map(|leaf| ground.leaves.leaf(*leaf));
        let keys: BTreeSet<u32> = leaves.flat_map(|leaf| leaf.keys.iter().copied()).collect();
        let keys = self.sets.keys(keys.into_iter().collect());
        let most = if needs.len() > SETS_MAX { needs.len() } else { 1 };
        let take = |needs| self.sets.take(needs, keys, number, ground.here, library);
        let mut sets: Vec<SetNumber> = needs.chunks(most).map(take).collect();
        sets.sort_unstable();
        let class = Class {
            key,
            pack: pack.number,
            quarantined,
            documents: documents.into(),
            sets: sets.into(),
            mentioned: None,
            kinds: Vec::new(),
            digest: Digest([0; 32]),
        };
        if let Some(place) = self.all.get_mut(number as usize) {
            *place = Some(class);
        }
        self.by_key.insert(key, number);
        self.mention(number, ground);
        let bytes = self.encoded(number, pack, trial, ground.leaves)?;
        let digest = Digest::of(&bytes);
        library.put(digest, &bytes);
        self.all.get_mut(number as usize)?.as_mut()?.digest = digest;
        Some(number)
    }

    /// Works out which hosts the documents of a class call by a name and of which nothing more need be known: without
    /// them, nobody could tell the name from a mistake.
    fn mention(&mut self, number: ClassNumber, ground: Ground<'_>) {
        let Ground { here: Here { folk, selectors }, leaves } = ground;
        let Some(class) = self.class(number) else { return };
        let leaf = class.documents.iter().filter_map(|leaf| leaves.leaf(*leaf));
        let words = leaf.flat_map(|leaf| &leaf.words);
        let called: BTreeSet<HostNumber> = words.filter_map(|word| folk.called(word)).collect();
        let needed = |number: &HostNumber| {
            let Some(known) = folk.host(*number) else { return true };
            let kind = folk.kind(known.kind).filter(|_| !known.quarantined);
            kind.is_some_and(|kind| {
                let mut needs = class.sets.iter().flat_map(|set| self.sets.needs(*set));
                needs.any(|need| selectors.needs(*need, &kind.answers))
            })
        };
        let numbers: Vec<HostNumber> = called.into_iter().filter(|it| !needed(it)).collect();
        let before = class.mentioned;
        let after = (!numbers.is_empty()).then(|| {
            let bytes = member::mentions(numbers.into_iter(), folk, &selectors.vocabulary);
            let (digest, length) = (Digest::of(&bytes), bytes.len() as u64);
            self.mentions.entry(digest).or_insert_with(|| (bytes.into(), 0)).1 += 1;
            (digest, length)
        });
        self.unmentioned(before);
        if let Some(class) = self.all.get_mut(number as usize).and_then(Option::as_mut) {
            class.mentioned = after;
        }
    }

    /// The bytes of a piece with hosts that are only mentioned.
    pub(super) fn mentioned(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.mentions.get(digest).map(|(bytes, _)| Arc::clone(bytes))
    }

    fn encoded(
        &self,
        number: ClassNumber,
        pack: &Pack,
        trial: Option<&RolloutRecord>,
        leaves: &Leaves,
    ) -> Option<Arc<[u8]>> {
        let class = self.class(number)?;
        let document = |leaf: &Arc<Leaf>| Piece {
            digest: leaf.piece.0.to_vec(),
            bytes: leaf.bytes,
            name: leaf.name.clone(),
            sections: 0,
        };
        let documents = class.documents.iter().filter_map(|leaf| leaves.leaf(*leaf)).map(document);
        let sets = class.sets.iter();
        let mut members: Vec<Piece> = sets.filter_map(|set| self.sets.piece(*set)).collect();
        // Two selectors may mean the same hosts.
        members.sort_by(|a, b| (&a.digest, &a.name).cmp(&(&b.digest, &b.name)));
        members.dedup_by(|a, b| a.digest == b.digest);
        members.extend(class.mentioned.map(|(digest, bytes)| Piece {
            digest: digest.0.to_vec(),
            bytes,
            name: "mentioned".to_owned(),
            sections: 0,
        }));
        let manifest = Manifest {
            roots: pack.roots.clone(),
            timestamp: Some(pack.timestamp.clone()),
            snapshot: Some(pack.snapshot.clone()),
            documents: documents.collect(),
            members,
            confirm_within_s: trial.map_or(0, |rollout| rollout.confirm_within_s),
            rollout: trial.map_or(0, |rollout| rollout.id),
            quarantine: class.quarantined,
            forced: trial.is_some_and(|rollout| rollout.forced),
        };
        Some(manifest.encode_to_vec().into())
    }
}

/// What makes hosts of one class.
fn key(
    pack: PackNumber,
    quarantined: bool,
    documents: &[LeafNumber],
    needs: &[SelectorNumber],
) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&pack.to_le_bytes());
    hasher.update(&[u8::from(quarantined)]);
    let count = u32::try_from(documents.len()).expect("a version has few documents");
    let numbers = std::iter::once(&count).chain(documents).chain(needs);
    let bytes: Vec<u8> = numbers.flat_map(|number| number.to_le_bytes()).collect();
    hasher.update(&bytes);
    let [half @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *hasher.finalize().as_bytes();
    half
}
