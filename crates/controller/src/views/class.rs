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
    leaf::{Ends, LeafNumber, Leaves},
    library::Library,
    member,
    pack::{self, Pack, PackNumber},
    selectors::SelectorNumber,
    set::{Entry, Here, KeysNumber, SetNumber, Sets},
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
    needs: Box<[SelectorNumber]>,
    keys: KeysNumber,
    /// Ascending.
    sets: Box<[SetNumber]>,
    /// The piece of the hosts that the documents only call by their names.
    mentioned: Option<(Digest, u64)>,
    /// Kinds whose hosts have this manifest, of those that were asked about.
    kinds: Vec<u32>,
    /// How many kinds had it that have another one now, which nobody has asked about.
    heirs: usize,
    digest: Digest,
}

/// What hosts of a kind had until a version touched them.
#[derive(Debug)]
struct Former {
    class: ClassNumber,
    /// The rules that came or went since, all that select them among these.
    rules: Arc<[Ends]>,
}

/// All classes that were asked for, and are still of a version at hand.
#[derive(Debug, Default)]
pub(super) struct Classes {
    all: Vec<Option<Class>>,
    free: Vec<ClassNumber>,
    by_key: BTreeMap<[u8; 16], ClassNumber>,
    /// By kind, version, and whether they are shut off.
    by_kind: BTreeMap<(u32, PackNumber, bool), ClassNumber>,
    /// By kind, and whether they are shut off.
    former: BTreeMap<(u32, bool), Former>,
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
    /// Versions, oldest first.
    pub(super) packs: &'a [Arc<Pack>],
}

impl Classes {
    pub(super) fn count(&self) -> usize {
        self.all.iter().flatten().filter(|class| !class.kinds.is_empty()).count()
    }

    fn class(&self, number: ClassNumber) -> Option<&Class> {
        self.all.get(number as usize)?.as_ref()
    }

    fn class_mut(&mut self, number: ClassNumber) -> Option<&mut Class> {
        self.all.get_mut(number as usize)?.as_mut()
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
                if let Some(class) = self.class_mut(number) {
                    class.kinds.push(new);
                }
            }
        }
    }

    /// Hosts of a kind have nothing but the newest versions from now on. Where `rules` says which came or went since an
    /// earlier one, all that select them among those, what they have now is worked out from what they had.
    pub(super) fn leave(
        &mut self,
        kind: u32,
        newest: impl Fn(PackNumber) -> bool,
        rules: impl Fn(PackNumber) -> Option<Arc<[Ends]>>,
    ) {
        for quarantined in [false, true] {
            let former = self.former.remove(&(kind, quarantined));
            former.into_iter().for_each(|former| self.disinherit(&former));
        }
        let range = (kind, 0, false)..=(kind, PackNumber::MAX, true);
        let old: Vec<_> = self.by_kind.range(range).map(|(key, class)| (*key, *class)).collect();
        for (key, class) in old.into_iter().filter(|((_, pack, _), _)| !newest(*pack)) {
            self.by_kind.remove(&key);
            let (_, pack, quarantined) = key;
            let Some(left) = self.class_mut(class) else { continue };
            left.kinds.retain(|it| *it != kind);
            let Some(rules) = rules(pack) else {
                self.forget_unused(class);
                continue;
            };
            left.heirs += 1;
            let older = self.former.insert((kind, quarantined), Former { class, rules });
            older.into_iter().for_each(|older| self.disinherit(&older));
        }
    }

    /// What hosts have is not worked out from what they had.
    pub(super) fn forget_former(&mut self) {
        std::mem::take(&mut self.former).values().for_each(|former| self.disinherit(former));
    }

    fn disinherit(&mut self, former: &Former) {
        if let Some(class) = self.class_mut(former.class) {
            class.heirs -= 1;
            self.forget_unused(former.class);
        }
    }

    fn forget_unused(&mut self, number: ClassNumber) {
        if self.class(number).is_some_and(Class::is_unused) {
            self.forget(number);
        }
    }

    /// Forgets the classes of versions that are not at hand any more.
    pub(super) fn keep(&mut self, at_hand: impl Fn(PackNumber) -> bool) {
        self.forget_former();
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
        class.sets.iter().for_each(|set| self.leave_set(*set));
    }

    /// A class does not have a set any more.
    fn leave_set(&mut self, set: SetNumber) {
        let Self { all, sets, .. } = self;
        sets.leave(set);
        sets.tidy(set, |user| {
            let class = all.get(user as usize).and_then(Option::as_ref);
            class.is_some_and(|class| class.sets.binary_search(&set).is_ok())
        });
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
            let Some(class) = self.class_mut(number) else { continue };
            if class.digest != digest {
                class.digest = digest;
                kinds.extend(class.kinds.iter().copied());
                library.put(digest, &bytes);
            }
        }
        kinds
    }

    /// The manifest of hosts of a kind, with its digest.
    pub(super) fn manifest(
        &mut self,
        wanted: Wanted<'_>,
        ground: Ground<'_>,
        library: &mut Library,
    ) -> Option<(Arc<[u8]>, Digest)> {
        let Wanted { pack, kind, quarantined, trial } = wanted;
        let number = match self.by_kind.get(&(kind, pack.number, quarantined)) {
            Some(&number) => number,
            None => {
                let number = self.found(wanted, ground, library)?;
                self.by_kind.insert((kind, pack.number, quarantined), number);
                if let Some(class) = self.class_mut(number) {
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

    /// The class of hosts of a kind that nobody has asked about.
    fn found(
        &mut self,
        wanted: Wanted<'_>,
        ground: Ground<'_>,
        library: &mut Library,
    ) -> Option<ClassNumber> {
        let Wanted { pack, kind, quarantined, trial } = wanted;
        let answers = &ground.here.folk.kind(kind)?.answers;
        // A version that is tried does not follow what they had.
        let whose = (kind, quarantined);
        let former = if trial.is_none() { self.former.remove(&whose) } else { None };
        let after = former.as_ref().and_then(|former| self.after(former, wanted, ground));
        let (documents, needs) = after.unwrap_or_else(|| {
            let selectors = ground.here.selectors;
            let selected = selectors.selecting(answers);
            let documents = pack.documents(&selected, selectors);
            (documents, pack.needs(&selected, selectors, ground.leaves))
        });
        let key = key(pack.number, quarantined, &documents, &needs);
        if let Some(&number) = self.by_key.get(&key) {
            former.into_iter().for_each(|former| self.disinherit(&former));
            return Some(number);
        }
        let keys = self.sets.keys(ground.leaves.keys(&documents));
        let bare = Class {
            key,
            pack: pack.number,
            quarantined,
            documents: documents.into(),
            needs: needs.into(),
            keys,
            sets: Box::default(),
            mentioned: None,
            kinds: Vec::new(),
            heirs: 0,
            digest: Digest([0; 32]),
        };
        let number = self.put(bare, former, ground.here, library);
        self.by_key.insert(key, number);
        self.mention(number, ground);
        let bytes = self.encoded(number, pack, trial, ground.leaves)?;
        let digest = Digest::of(&bytes);
        library.put(digest, &bytes);
        self.class_mut(number)?.digest = digest;
        Some(number)
    }

    /// Documents and needs of hosts of a kind, by what they had before.
    fn after(
        &self,
        former: &Former,
        Wanted { pack, kind, .. }: Wanted<'_>,
        Ground { here: Here { folk, selectors }, leaves, packs }: Ground<'_>,
    ) -> Option<(Vec<LeafNumber>, Vec<SelectorNumber>)> {
        let answers = &folk.kind(kind)?.answers;
        let class = self.class(former.class)?;
        let before = pack::find(packs, class.pack)?;
        let documents =
            pack.documents_after(before, &class.documents, answers, selectors, leaves)?;
        let needs = pack.needs_after(&class.needs, &former.rules, answers, selectors, leaves);
        Some((documents, needs))
    }

    /// Gives a class the sets of its needs, and a number: that of what its hosts had, with the sets that it needs still, if
    /// nobody has that any more.
    fn put(
        &mut self,
        bare: Class,
        former: Option<Former>,
        here: Here<'_>,
        library: &mut Library,
    ) -> ClassNumber {
        let Self { all, by_key, sets, .. } = self;
        let few = |class: &Class| class.needs.len() <= SETS_MAX;
        let number = former.as_ref().map(|former| former.class);
        if let Some(number) = number
            && let Some(class) = all.get_mut(number as usize).and_then(Option::as_mut)
            && class.kinds.is_empty()
            && class.heirs == 1
            && class.keys == bare.keys
            && few(class)
            && few(&bare)
        {
            let set = |need: &SelectorNumber| sets.find(&[*need], bare.keys);
            let gone = missing(&class.needs, &bare.needs);
            let gone: Vec<SetNumber> = gone.iter().filter_map(set).collect();
            let mut kept: Vec<SetNumber> = class.sets.to_vec();
            kept.retain(|set| !gone.contains(set));
            for need in missing(&bare.needs, &class.needs) {
                kept.push(sets.take(&[need], bare.keys, number, here, library));
            }
            kept.sort_unstable();
            by_key.remove(&class.key);
            *class = Class { sets: kept.into(), mentioned: class.mentioned, ..bare };
            gone.into_iter().for_each(|set| self.leave_set(set));
            return number;
        }
        former.into_iter().for_each(|former| self.disinherit(&former));
        let Self { all, free, sets, .. } = self;
        let number = free.pop().unwrap_or_else(|| {
            all.push(None);
            ClassNumber::try_from(all.len() - 1).expect("classes are fewer than 2^32")
        });
        let most = if few(&bare) { 1 } else { bare.needs.len() };
        let take = |needs| sets.take(needs, bare.keys, number, here, library);
        let mut taken: Vec<SetNumber> = bare.needs.chunks(most).map(take).collect();
        taken.sort_unstable();
        if let Some(place) = all.get_mut(number as usize) {
            *place = Some(Class { sets: taken.into(), ..bare });
        }
        number
    }

    /// Works out which hosts the documents of a class call by a name and of which nothing more need be known: without
    /// them, nobody could tell the name from a mistake.
    fn mention(&mut self, number: ClassNumber, ground: Ground<'_>) {
        let Ground { here: Here { folk, selectors }, leaves, packs: _ } = ground;
        let Some(class) = self.class(number) else { return };
        let leaf = class.documents.iter().filter_map(|leaf| leaves.leaf(*leaf));
        let words = leaf.flat_map(|leaf| &leaf.words);
        let called: BTreeSet<HostNumber> = words.filter_map(|word| folk.called(word)).collect();
        let needed = |number: &HostNumber| {
            let Some(known) = folk.host(*number) else { return true };
            let kind = folk.kind(known.kind).filter(|_| !known.quarantined);
            kind.is_some_and(|kind| {
                class.needs.iter().any(|need| selectors.needs(*need, &kind.answers))
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
        if let Some(class) = self.class_mut(number) {
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
        let documents = class.documents.iter().filter_map(|leaf| leaves.leaf(*leaf));
        let mut members: Vec<Entry<'_>> =
            class.sets.iter().filter_map(|set| self.sets.entry(*set)).collect();
        // Two selectors may mean the same hosts.
        members.sort_unstable();
        members.dedup_by_key(|entry| entry.digest);
        let mentioned = class.mentioned.map(|(digest, bytes)| Piece {
            digest: digest.0.to_vec(),
            bytes,
            name: "mentioned".to_owned(),
            sections: 0,
        });
        let end = Manifest {
            members: mentioned.into_iter().collect(),
            confirm_within_s: trial.map_or(0, |rollout| rollout.confirm_within_s),
            rollout: trial.map_or(0, |rollout| rollout.id),
            quarantine: class.quarantined,
            forced: trial.is_some_and(|rollout| rollout.forced),
            ..Manifest::default()
        };
        let end = end.encode_to_vec();
        // Messages one behind the other are one message with the fields of all.
        let parts = std::iter::once(&*pack.head).chain(documents.map(|leaf| &*leaf.entry));
        let parts = parts.chain(members.iter().map(|entry| entry.bytes));
        let parts: Vec<&[u8]> = parts.chain(std::iter::once(end.as_slice())).collect();
        Some(parts.concat().into())
    }
}

impl Class {
    /// Whether no hosts have it, and none that are not asked about had it.
    fn is_unused(&self) -> bool {
        self.kinds.is_empty() && self.heirs == 0
    }
}

/// What of `these` is not among `others`, both ascending.
fn missing(these: &[SelectorNumber], others: &[SelectorNumber]) -> Vec<SelectorNumber> {
    these.iter().copied().filter(|it| others.binary_search(it).is_err()).collect()
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
    Digest(*hasher.finalize().as_bytes()).half()
}
