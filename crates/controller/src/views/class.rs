//! Classes: hosts with the same documents and the same needs, which have one manifest.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use prost::Message;
use wire::sync::{Manifest, Members, Piece};

use super::{
    Asked, Way,
    folk::{Folk, HostNumber},
    library::Library,
    pack::{Pack, SelectorNumber},
};
use crate::{digest::Digest, records::RolloutRecord};

/// Sets of hosts in one manifest: with more needs, there is one set of all of them, which fewer hosts share.
const SETS_MAX: usize = 1_000;

/// What makes hosts of one class.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    way: Way,
    quarantined: bool,
    /// Places of the documents in the version.
    documents: Vec<u16>,
    /// Selectors whose hosts must be known.
    needs: Vec<SelectorNumber>,
}

/// A class.
#[derive(Debug)]
struct Class {
    key: Key,
    /// Seconds, and which rollout.
    trial: Option<(u64, u64)>,
    sets: Vec<usize>,
    /// Kinds whose hosts have this manifest, of those that were asked about.
    kinds: BTreeSet<u32>,
    manifest: Arc<[u8]>,
    digest: Digest,
}

/// The hosts that some selectors need, with some labels.
#[derive(Debug)]
struct Set {
    needs: Vec<SelectorNumber>,
    keys: Arc<BTreeSet<String>>,
    name: Arc<str>,
    /// `None` if there is nobody.
    piece: Option<Piece>,
    stale: bool,
    users: Vec<usize>,
}

/// All classes that were asked for.
#[derive(Debug, Default)]
pub(super) struct Classes {
    classes: Vec<Class>,
    by_key: BTreeMap<Key, usize>,
    /// Kinds, each with how its hosts are served.
    by_kind: BTreeMap<(Way, bool, u32), usize>,
    sets: Vec<Set>,
    set_by_key: BTreeMap<(Vec<SelectorNumber>, Arc<BTreeSet<String>>), usize>,
    /// Sets by each selector they are made of.
    set_by_need: BTreeMap<SelectorNumber, Vec<usize>>,
    stale_mentions: bool,
    /// Names of the sets before all was cleared: they are found again, or rest.
    former: BTreeSet<Arc<str>>,
}

/// Whose class is asked for.
pub(super) struct Wanted<'a> {
    pub(super) way: Way,
    pub(super) kind: u32,
    pub(super) quarantined: bool,
    pub(super) selected: &'a [SelectorNumber],
    pub(super) trial: Option<&'a RolloutRecord>,
}

impl Classes {
    pub(super) fn count(&self) -> usize {
        self.classes.len()
    }

    /// The versions are others: all is worked out again when it is asked for.
    pub(super) fn clear(&mut self) {
        let mut former = std::mem::take(&mut self.former);
        former.extend(self.sets.iter().map(|set| Arc::clone(&set.name)));
        *self = Self { former, ..Self::default() };
    }

    /// Hosts that these selectors need have changed.
    pub(super) fn stale(&mut self, needs: impl Fn(SelectorNumber) -> bool) {
        for (selector, sets) in &self.set_by_need {
            if needs(*selector) {
                for &set in sets {
                    if let Some(set) = self.sets.get_mut(set) {
                        set.stale = true;
                    }
                }
            }
        }
    }

    /// A host has changed that some document calls by its name.
    pub(super) fn stale_mentions(&mut self) {
        self.stale_mentions = true;
    }

    /// Works out again what is stale. The kinds of which the manifest is another one now.
    pub(super) fn refresh<'a>(
        &mut self,
        folk: &Folk,
        asked: &Asked,
        library: &mut Library,
        pack: impl Fn(Way) -> Option<&'a Pack>,
    ) -> Vec<u32> {
        let mut classes = BTreeSet::new();
        for set in &mut self.sets {
            if std::mem::take(&mut set.stale) {
                let before = set.piece.take();
                set.gather(folk, asked, library);
                if set.piece != before {
                    classes.extend(set.users.iter().copied());
                }
            }
        }
        if std::mem::take(&mut self.stale_mentions) {
            classes.extend(0..self.classes.len());
        }
        let mut kinds = Vec::new();
        for at in classes {
            let Some(class) = self.classes.get(at) else { continue };
            let Some(pack) = pack(class.key.way) else { continue };
            let (manifest, digest) = self.encoded(class, pack, folk, asked, library);
            let Some(class) = self.classes.get_mut(at) else { continue };
            if class.digest != digest {
                (class.manifest, class.digest) = (manifest, digest);
                kinds.extend(class.kinds.iter().copied());
            }
        }
        kinds
    }

    /// The manifest of hosts of a kind, with its digest.
    pub(super) fn manifest(
        &mut self,
        wanted: &Wanted<'_>,
        pack: &Pack,
        folk: &Folk,
        asked: &Asked,
        library: &mut Library,
    ) -> Option<(Arc<[u8]>, Digest)> {
        let Wanted { way, kind, quarantined, selected, trial } = *wanted;
        let at = match self.by_kind.get(&(way, quarantined, kind)) {
            Some(&at) => at,
            None => {
                let selects = |selector| selected.binary_search(&selector).is_ok();
                let documents = pack.documents(selects);
                let mut needs: Vec<SelectorNumber> = selected
                    .iter()
                    .filter_map(|selector| pack.opposite.get(selector))
                    .flatten()
                    .copied()
                    .collect();
                needs.sort_unstable();
                needs.dedup();
                let key = Key { way, quarantined, documents, needs };
                let at = match self.by_key.get(&key) {
                    Some(&at) => at,
                    None => self.made(key, trial, pack, folk, asked, library),
                };
                self.by_kind.insert((way, quarantined, kind), at);
                at
            }
        };
        let class = self.classes.get_mut(at)?;
        class.kinds.insert(kind);
        Some((Arc::clone(&class.manifest), class.digest))
    }

    fn made(
        &mut self,
        key: Key,
        trial: Option<&RolloutRecord>,
        pack: &Pack,
        folk: &Folk,
        asked: &Asked,
        library: &mut Library,
    ) -> usize {
        let at = self.classes.len();
        let leaves = key.documents.iter().filter_map(|place| pack.leaves.get(usize::from(*place)));
        let keys: BTreeSet<String> = leaves.flat_map(|leaf| &leaf.keys).cloned().collect();
        let keys = Arc::new(keys);
        let groups: Vec<Vec<SelectorNumber>> = if key.needs.len() > SETS_MAX {
            vec![key.needs.clone()]
        } else {
            key.needs.iter().map(|&need| vec![need]).collect()
        };
        let sets = groups.into_iter().map(|needs| self.set(needs, &keys, folk, asked, library));
        let sets: Vec<usize> = sets.collect();
        for &set in &sets {
            if let Some(set) = self.sets.get_mut(set) {
                set.users.push(at);
            }
        }
        let trial = trial.map(|rollout| (rollout.confirm_within_s, rollout.id));
        let mut class = Class {
            key: key.clone(),
            trial,
            sets,
            kinds: BTreeSet::new(),
            manifest: Arc::default(),
            digest: Digest([0; 32]),
        };
        (class.manifest, class.digest) = self.encoded(&class, pack, folk, asked, library);
        self.classes.push(class);
        self.by_key.insert(key, at);
        at
    }

    fn set(
        &mut self,
        needs: Vec<SelectorNumber>,
        keys: &Arc<BTreeSet<String>>,
        folk: &Folk,
        asked: &Asked,
        library: &mut Library,
    ) -> usize {
        let key = (needs.clone(), Arc::clone(keys));
        if let Some(&at) = self.set_by_key.get(&key) {
            return at;
        }
        let at = self.sets.len();
        for &need in &needs {
            self.set_by_need.entry(need).or_default().push(at);
        }
        let name = name(&needs, keys, asked);
        self.former.remove(&name);
        let keys = Arc::clone(keys);
        let mut set = Set { needs, keys, name, piece: None, stale: false, users: Vec::new() };
        set.gather(folk, asked, library);
        self.sets.push(set);
        self.set_by_key.insert(key, at);
        at
    }

    fn encoded(
        &self,
        class: &Class,
        pack: &Pack,
        folk: &Folk,
        asked: &Asked,
        library: &mut Library,
    ) -> (Arc<[u8]>, Digest) {
        let leaf = |place: &u16| pack.leaves.get(usize::from(*place));
        let leaves = || class.key.documents.iter().filter_map(leaf);
        let documents = leaves().map(|leaf| Piece {
            digest: leaf.paper.piece.0.to_vec(),
            bytes: leaf.paper.bytes,
            name: leaf.paper.name.clone(),
        });
        let sets = class.sets.iter().filter_map(|set| self.sets.get(*set));
        let mut members: Vec<Piece> = sets.filter_map(|set| set.piece.clone()).collect();
        // Two selectors may mean the same hosts.
        members.sort_by(|a, b| (&a.digest, &a.name).cmp(&(&b.digest, &b.name)));
        members.dedup_by(|a, b| a.digest == b.digest);
        let words = leaves().flat_map(|leaf| leaf.paper.document.hosts());
        members.extend(mentioned(words, &class.key, folk, asked, library));
        let (confirm_within_s, rollout) = class.trial.unwrap_or_default();
        let manifest = Manifest {
            roots: pack.roots.clone(),
            timestamp: Some(pack.timestamp.clone()),
            snapshot: Some(pack.snapshot.clone()),
            documents: documents.collect(),
            members,
            confirm_within_s,
            rollout,
            quarantine: class.key.quarantined,
        };
        let bytes: Arc<[u8]> = manifest.encode_to_vec().into();
        let digest = Digest::of(&bytes);
        (bytes, digest)
    }
}

/// The hosts that documents call by a name and of which nothing more need be known: without them, nobody could tell the
/// name from a mistake.
fn mentioned(
    words: impl Iterator<Item = impl AsRef<str>>,
    key: &Key,
    folk: &Folk,
    asked: &Asked,
    library: &mut Library,
) -> Option<Piece> {
    let needed = |number: &HostNumber| {
        let Some(known) = folk.host(*number) else { return true };
        let kind = folk.kind(known.kind);
        !known.quarantined
            && kind.is_some_and(|kind| key.needs.iter().any(|it| asked.needs(*it, &kind.answers)))
    };
    let numbers: BTreeSet<HostNumber> = words
        .filter_map(|word| folk.called(word.as_ref()))
        .filter(|number| !needed(number))
        .collect();
    if numbers.is_empty() {
        return None;
    }
    let known = numbers.into_iter().filter_map(|number| folk.host(number));
    let mut hosts: Vec<_> = known.map(|known| known.mention(&asked.vocabulary)).collect();
    hosts.sort_by(|a, b| a.id.cmp(&b.id));
    Some(put(&"mentioned".into(), Members { hosts }, library))
}

fn put(name: &Arc<str>, members: Members, library: &mut Library) -> Piece {
    let bytes = members.encode_to_vec();
    let (digest, length) = (Digest::of(&bytes), bytes.len() as u64);
    library.put(name, digest, bytes);
    Piece { digest: digest.0.to_vec(), bytes: length, name: String::from(&**name) }
}

/// The same on every controller, and no selector: that may name hosts.
fn name(needs: &[SelectorNumber], keys: &BTreeSet<String>, asked: &Asked) -> Arc<str> {
    let mut hasher = blake3::Hasher::new();
    for need in needs {
        let meant = asked.meant.get(*need as usize);
        hasher.update(format!("{meant:?}\n").as_bytes());
    }
    hasher.update(format!("{keys:?}").as_bytes());
    let hex = hasher.finalize().to_hex();
    format!("hosts-{}", hex.get(..16).unwrap_or_default()).into()
}

impl Set {
    fn gather(&mut self, folk: &Folk, asked: &Asked, library: &mut Library) {
        let mut kinds = BTreeSet::new();
        for &need in &self.needs {
            let needs =
                |kind: &u32| folk.kind(*kind).is_some_and(|kind| asked.needs(need, &kind.answers));
            let selector = asked.selectors.get(need as usize);
            match selector.and_then(|(bound, _)| bound.anchors()) {
                Some(anchors) => kinds.extend(folk.with(&anchors).into_iter().filter(needs)),
                None => {
                    let all = u32::try_from(folk.kinds.len()).expect("kinds are fewer than 2^32");
                    kinds.extend((0..all).filter(needs));
                }
            }
        }
        let numbers = kinds.iter().filter_map(|kind| folk.kind(*kind)).flat_map(|it| &it.hosts);
        let known = numbers.filter_map(|number| folk.host(*number));
        let mut hosts: Vec<_> =
            known.map(|known| known.member(&self.keys, &asked.vocabulary)).collect();
        hosts.sort_by(|a, b| a.id.cmp(&b.id));
        if hosts.is_empty() {
            library.rest(&self.name);
            self.piece = None;
        } else {
            self.piece = Some(put(&self.name, Members { hosts }, library));
        }
    }
}
