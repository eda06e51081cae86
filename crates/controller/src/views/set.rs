//! Sets of hosts that manifests speak of: each one piece, or several where the hosts are many, and one that lists those
//! ([`section`](super::section)). What is kept of a piece is its digest; its bytes are made when somebody wants them. Of a
//! set that changed it is known who came, went or changed since some earlier pieces, so that who has one of those is sent
//! no more than that.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use prost::Message;
use wire::sync::{Difference, Manifest, Members, Piece};

use super::{
    class::ClassNumber,
    folk::{Folk, HostNumber, Known},
    library::Library,
    member,
    section::{Place, Renewed, Sections, Stretch},
    selectors::{SelectorNumber, Selectors},
};
use crate::{
    digest::Digest,
    spot::{Spot, spot},
};

/// A set's number.
pub(super) type SetNumber = u32;

/// Changes of one set that are remembered, so that differences lead from the pieces before them to the current ones.
const TURNS_MAX: usize = 8;
/// Hosts of one set that may have changed in all of those.
const CHANGED_MAX: usize = 4_096;
/// Sets that are kept though nobody needs them now.
const IDLE_MAX: usize = 4_096;

/// The hosts that some selectors need, with some labels.
#[derive(Debug)]
struct Set {
    needs: Box<[SelectorNumber]>,
    keys_number: KeysNumber,
    /// Numbers of the words, ascending.
    keys: Arc<[u32]>,
    name: Arc<str>,
    /// What manifests name, and that encoded as one of their members; `None` if there is nobody.
    piece: Option<Named>,
    entry: Box<[u8]>,
    sections: Sections,
    /// Who came, went or changed since the sections were made.
    pending: Vec<Arc<str>>,
    stale: bool,
    /// Changes, counted from the first time that the sections were made; and the last of them, with who came, went or
    /// changed, the newest last.
    turn: u64,
    turns: VecDeque<(u64, Vec<Arc<str>>)>,
    /// What manifests named earlier, where that listed sections; the newest last.
    lists: VecDeque<Digest>,
    /// Classes that have it, and perhaps some that do not any more.
    users: Vec<ClassNumber>,
    uses: usize,
    /// It waits to be forgotten.
    idle: bool,
}

/// What manifests name of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Named {
    digest: Digest,
    bytes: u64,
    /// How many sections it lists; 0 where it has the hosts itself.
    sections: u32,
}

/// What manifests say of a set: they have them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry<'a> {
    pub(super) digest: Digest,
    name: &'a str,
    /// As one of a manifest's members.
    pub(super) bytes: &'a [u8],
}

/// The number of label keys that go together.
pub(super) type KeysNumber = u32;

/// What a set is known by: its label keys, and the first of its needs with the others.
type Key = (KeysNumber, SelectorNumber, Box<[SelectorNumber]>);

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sets {
    all: Vec<Option<Set>>,
    free: Vec<SetNumber>,
    /// By label keys and needs.
    by_key: BTreeMap<Key, SetNumber>,
    by_need: BTreeMap<SelectorNumber, Vec<SetNumber>>,
    /// What is a current piece of which set: a section, or what lists them.
    by_digest: BTreeMap<(Digest, SetNumber), Option<Stretch>>,
    /// Label keys that go together, by number.
    keys: Vec<Arc<[u32]>>,
    key_numbers: BTreeMap<Arc<[u32]>, KeysNumber>,
    stale: BTreeSet<SetNumber>,
    idle: VecDeque<SetNumber>,
}

/// The hosts as they are.
#[derive(Clone, Copy)]
pub(super) struct Here<'a> {
    pub(super) folk: &'a Folk,
    pub(super) selectors: &'a Selectors,
}

impl Sets {
    fn set(&self, number: SetNumber) -> Option<&Set> {
        self.all.get(number as usize)?.as_ref()
    }

    fn set_mut(&mut self, number: SetNumber) -> Option<&mut Set> {
        self.all.get_mut(number as usize)?.as_mut()
    }

    /// The number of these label keys, which are numbers of words, ascending.
    pub(super) fn keys(&mut self, keys: Vec<u32>) -> KeysNumber {
        if let Some(&known) = self.key_numbers.get(keys.as_slice()) {
            return known;
        }
        let number = KeysNumber::try_from(self.keys.len()).expect("keys are fewer than 2^32");
        let keys: Arc<[u32]> = keys.into();
        self.keys.push(Arc::clone(&keys));
        self.key_numbers.insert(keys, number);
        number
    }

    /// The set of these needs, ascending, for one more class.
    pub(super) fn take(
        &mut self,
        needs: &[SelectorNumber],
        keys: KeysNumber,
        user: ClassNumber,
        here: Here<'_>,
        library: &mut Library,
    ) -> SetNumber {
        let known = self.find(needs, keys);
        let number = known.unwrap_or_else(|| self.made(key(keys, needs), needs, here));
        self.refresh(number, here, library);
        if let Some(set) = self.set_mut(number) {
            set.users.push(user);
            set.uses += 1;
        }
        number
    }

    fn made(&mut self, key: Key, needs: &[SelectorNumber], here: Here<'_>) -> SetNumber {
        let number = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            SetNumber::try_from(self.all.len() - 1).expect("sets are fewer than 2^32")
        });
        for need in needs {
            self.by_need.entry(*need).or_default().push(number);
        }
        let keys = self.keys.get(key.0 as usize).cloned().unwrap_or_default();
        let set = Set {
            needs: needs.into(),
            keys_number: key.0,
            name: name(needs, &keys, here.selectors),
            keys,
            piece: None,
            entry: Box::default(),
            sections: Sections::default(),
            pending: Vec::new(),
            stale: true,
            turn: 0,
            turns: VecDeque::new(),
            lists: VecDeque::new(),
            users: Vec::new(),
            uses: 0,
            idle: false,
        };
        if let Some(place) = self.all.get_mut(number as usize) {
            *place = Some(set);
        }
        self.by_key.insert(key, number);
        number
    }

    /// A class does not have a set any more. One that nobody has waits for a while: it may be wanted again.
    pub(super) fn leave(&mut self, number: SetNumber) {
        let Some(set) = self.set_mut(number) else { return };
        set.uses -= 1;
        if set.uses == 0 && !set.idle {
            set.idle = true;
            self.idle.push_back(number);
        }
        while self.idle.len() > IDLE_MAX {
            let Some(number) = self.idle.pop_front() else { return };
            match self.set_mut(number) {
                Some(set) if set.uses != 0 => set.idle = false,
                _ => self.forget(number),
            }
        }
    }

    fn forget(&mut self, number: SetNumber) {
        let Some(set) = self.all.get_mut(number as usize).and_then(Option::take) else { return };
        for need in &set.needs {
            if let Some(sets) = self.by_need.get_mut(need) {
                sets.retain(|it| *it != number);
                if sets.is_empty() {
                    self.by_need.remove(need);
                }
            }
        }
        let pieces = set.sections.all().map(|(_, section)| section.digest);
        for digest in pieces.chain(set.piece.map(|it| it.digest)) {
            self.by_digest.remove(&(digest, number));
        }
        self.stale.remove(&number);
        self.by_key.remove(&key(set.keys_number, &set.needs));
        self.free.push(number);
    }

    /// A host came, went or changed that these selectors need.
    pub(super) fn changed(&mut self, host: &Arc<str>, needs: &[SelectorNumber]) {
        let Self { all, by_need, stale, .. } = self;
        for &number in needs.iter().filter_map(|need| by_need.get(need)).flatten() {
            let Some(set) = all.get_mut(number as usize).and_then(Option::as_mut) else { continue };
            set.stale = true;
            // With more than that all sections are made anew, and no difference is.
            if set.pending.len() <= CHANGED_MAX {
                set.pending.push(Arc::clone(host));
            }
            stale.insert(number);
        }
    }

    /// Makes the pieces of those that changed and that somebody has. The classes of which a piece is another one now, and
    /// some others perhaps.
    pub(super) fn refresh_all(
        &mut self,
        here: Here<'_>,
        library: &mut Library,
    ) -> Vec<ClassNumber> {
        let mut classes = Vec::new();
        for number in std::mem::take(&mut self.stale) {
            if self.set(number).is_none_or(|set| set.uses == 0) {
                // When it is wanted.
                continue;
            }
            if self.refresh(number, here, library)
                && let Some(set) = self.set(number)
            {
                classes.extend(&set.users);
            }
        }
        classes.sort_unstable();
        classes.dedup();
        classes
    }

    /// Whether the piece is another one.
    fn refresh(&mut self, number: SetNumber, here: Here<'_>, library: &mut Library) -> bool {
        let Self { all, by_digest, .. } = self;
        let set = all.get_mut(number as usize).and_then(Option::as_mut);
        let Some(set) = set.filter(|set| set.stale) else { return false };
        set.stale = false;
        let (before, list) = (set.piece, set.list());
        let Renewed { put, gone } = set.renew(here);
        if put.is_empty() && gone.is_empty() {
            return false;
        }
        for digest in gone.into_iter().chain(before.map(|it| it.digest)) {
            by_digest.remove(&(digest, number));
        }
        for (stretch, section) in set.sections.all() {
            by_digest.insert((section.digest, number), Some(stretch));
        }
        if let Some(after) = set.piece.filter(|it| it.sections != 0) {
            by_digest.insert((after.digest, number), None);
        }
        if let Some(before) = before {
            // Who has what was before is about to ask for what is new.
            let lists = list.into_iter().map(|bytes| (before.digest, bytes));
            let after = set.piece.zip(set.list()).map(|(piece, bytes)| (piece.digest, bytes));
            let sections = put.into_iter().map(|(_, digest, bytes)| (digest, bytes));
            for (digest, bytes) in lists.chain(sections).chain(after) {
                library.put(digest, &bytes.into());
            }
        }
        true
    }

    /// What manifests say of a set, unless there is nobody.
    pub(super) fn entry(&self, number: SetNumber) -> Option<Entry<'_>> {
        let set = self.set(number)?;
        Some(Entry { digest: set.piece?.digest, name: &set.name, bytes: &set.entry })
    }

    /// The set of these needs, ascending.
    pub(super) fn find(&self, needs: &[SelectorNumber], keys: KeysNumber) -> Option<SetNumber> {
        self.by_key.get(&key(keys, needs)).copied()
    }

    /// Keeps of the classes that have had a set those that `has` says have it.
    pub(super) fn tidy(&mut self, number: SetNumber, has: impl Fn(ClassNumber) -> bool) {
        let Some(set) = self.set_mut(number) else { return };
        if set.users.len() > 2 * set.uses + 16 {
            set.users.sort_unstable();
            set.users.dedup();
            set.users.retain(|user| has(*user));
        }
    }

    /// The sets of which a piece is a current one.
    fn current(&self, digest: &Digest) -> impl Iterator<Item = (&Set, Option<Stretch>)> {
        let of = self.by_digest.range((*digest, 0)..=(*digest, SetNumber::MAX));
        of.filter_map(|((_, number), section)| Some((self.set(*number)?, *section)))
    }

    /// The bytes of a piece that is current.
    pub(super) fn bytes(&self, digest: &Digest, here: Here<'_>) -> Option<Vec<u8>> {
        let bytes = match self.current(digest).next()? {
            (set, Some(stretch)) => {
                let places = set.places(&[stretch], set.sections.hosts(), here).pop()?;
                set.encode(&places, here)
            }
            (set, None) => set.list()?,
        };
        // A set that nobody has may have changed since.
        (Digest::of(&bytes) == *digest).then_some(bytes)
    }

    /// What makes the current piece `digest` of the earlier piece `base`, if that is less than the whole. What lists
    /// sections is not among it: see [`Sets::follows`].
    pub(super) fn difference(
        &self,
        base: &Digest,
        digest: &Digest,
        here: Here<'_>,
    ) -> Option<Vec<u8>> {
        self.current(digest).find_map(|(set, section)| set.difference(base, section?, here))
    }

    /// Whether a piece that lists sections is current, and `base` is an earlier one of the same set.
    pub(super) fn follows(&self, base: &Digest, digest: &Digest) -> bool {
        self.current(digest).any(|(set, section)| section.is_none() && set.lists.contains(base))
    }
}

impl Set {
    fn numbers(&self, here: Here<'_>) -> Vec<HostNumber> {
        let mut numbers: Vec<HostNumber> =
            self.needs.iter().flat_map(|it| here.selectors.members(*it, here.folk)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    fn needed<'a>(&self, number: HostNumber, here: Here<'a>) -> Option<&'a Known> {
        let Here { folk, selectors } = here;
        let known = folk.host(number).filter(|known| !known.quarantined)?;
        let answers = &folk.kind(known.kind)?.answers;
        self.needs.iter().any(|it| selectors.needs(*it, answers)).then_some(known)
    }

    /// Who is in each of these stretches. There are about `count` hosts in the set: what costs less is looked at, those or
    /// everybody in the stretches.
    fn places(&self, stretches: &[Stretch], count: usize, here: Here<'_>) -> Vec<Vec<Place>> {
        let everybody: usize = stretches.iter().map(|it| it.of(here.folk.count())).sum();
        if everybody <= count {
            let needed = |(_, number): &Place| self.needed(*number, here).is_some();
            let within = |it: &Stretch| here.folk.at(it.spots()).filter(needed).collect();
            return stretches.iter().map(within).collect();
        }
        let place = |number| Some((here.folk.host(number)?.spot, number));
        let mut all: Vec<Place> = self.numbers(here).into_iter().filter_map(place).collect();
        all.sort_unstable();
        let within = |it: &Stretch| {
            let (first, last) = it.spots().into_inner();
            let from = all.partition_point(|(spot, _)| *spot < first);
            let until = all.partition_point(|(spot, _)| *spot <= last);
            all.get(from..until).unwrap_or_default().to_vec()
        };
        stretches.iter().map(within).collect()
    }

    fn encode(&self, places: &[Place], here: Here<'_>) -> Vec<u8> {
        let numbers = places.iter().map(|(_, number)| *number);
        member::members(numbers, &self.keys, here.folk, &here.selectors.vocabulary)
    }

    /// What lists the sections, encoded, if there are several.
    fn list(&self) -> Option<Vec<u8>> {
        let mut sections = self.sections.all().map(|(stretch, section)| Piece {
            digest: section.digest.0.to_vec(),
            bytes: section.bytes,
            name: format!("{}/{stretch}", self.name),
            sections: 0,
        });
        let (first, second) = (sections.next()?, sections.next()?);
        let sections = [first, second].into_iter().chain(sections).collect();
        Some(Members { hosts: Vec::new(), sections }.encode_to_vec())
    }

    /// Makes the sections again in which hosts came, went or changed.
    fn renew(&mut self, here: Here<'_>) -> Renewed {
        let pending = std::mem::take(&mut self.pending);
        self.turn += 1;
        let known = self.turn != 1 && pending.len() <= CHANGED_MAX;
        let changed = known.then(|| member::ids(pending.iter()));
        let spots: Option<Vec<Spot>> =
            changed.as_ref().map(|changed| changed.iter().map(|id| spot(id)).collect());
        let mut sections = std::mem::take(&mut self.sections);
        let count = sections.hosts();
        let hosts = |stretches: &[Stretch]| self.places(stretches, count, here);
        let encode = |places: &[Place]| self.encode(places, here);
        let renewed = sections.renew(spots.as_deref(), self.turn, hosts, encode);
        self.sections = sections;
        self.remember(changed);
        self.name_piece();
        renewed
    }

    fn name_piece(&mut self) {
        let before = self.piece.filter(|it| it.sections != 0);
        self.piece = match (self.list(), self.sections.all().next()) {
            (Some(list), _) => Some(Named {
                digest: Digest::of(&list),
                bytes: list.len() as u64,
                sections: u32::try_from(self.sections.all().count())
                    .expect("sections are fewer than hosts"),
            }),
            (None, Some((_, only))) => {
                Some(Named { digest: only.digest, bytes: only.bytes, sections: 0 })
            }
            (None, None) => None,
        };
        self.entry = self.piece.map(|it| it.encoded(&self.name)).unwrap_or_default();
        if let Some(before) = before.filter(|it| self.piece != Some(*it)) {
            self.lists.push_back(before.digest);
            if TURNS_MAX < self.lists.len() {
                self.lists.pop_front();
            }
        }
    }

    /// Remembers who changed at this turn; `None` where that is not known.
    fn remember(&mut self, changed: Option<Vec<Arc<str>>>) {
        match changed {
            Some(changed) => self.turns.push_back((self.turn, changed)),
            None => self.turns.clear(),
        }
        let count = |turns: &VecDeque<(u64, Vec<Arc<str>>)>| -> usize {
            turns.iter().map(|(_, changed)| changed.len()).sum()
        };
        while self.turns.len() > TURNS_MAX || count(&self.turns) > CHANGED_MAX {
            self.turns.pop_front();
        }
    }

    fn difference(&self, base: &Digest, stretch: Stretch, here: Here<'_>) -> Option<Vec<u8>> {
        if self.stale {
            return None;
        }
        let section = self.sections.find(stretch)?;
        let (_, ended) = section.former.iter().rev().find(|(digest, _)| digest == base)?;
        let oldest = self.turns.front().map(|(turn, _)| *turn);
        if oldest.is_none_or(|oldest| *ended < oldest) {
            return None;
        }
        let since = self.turns.iter().skip_while(|(turn, _)| turn < ended);
        let changed =
            since.flat_map(|(_, ids)| ids).filter(|id| stretch.spots().contains(&spot(id)));
        let (mut put, mut gone) = (Vec::new(), Vec::new());
        for id in member::ids(changed) {
            let needed = here.folk.number(&id).and_then(|number| self.needed(number, here));
            match needed {
                Some(known) => put.push(known.member(&self.keys, &here.selectors.vocabulary)),
                None => gone.push(String::from(&*id)),
            }
        }
        let difference = Difference { put, gone, ..Difference::default() }.encode_to_vec();
        ((difference.len() as u64) < section.bytes).then_some(difference)
    }
}

impl Named {
    /// As one of a manifest's members.
    fn encoded(&self, name: &str) -> Box<[u8]> {
        let Self { digest, bytes, sections } = *self;
        let piece = Piece { digest: digest.0.to_vec(), bytes, name: name.to_owned(), sections };
        Manifest { members: vec![piece], ..Manifest::default() }.encode_to_vec().into()
    }
}

fn key(keys: KeysNumber, needs: &[SelectorNumber]) -> Key {
    let (first, others) = needs.split_first().unwrap_or((&0, &[]));
    (keys, *first, others.into())
}

/// The same on every controller, and no selector: that may name hosts.
fn name(needs: &[SelectorNumber], keys: &[u32], selectors: &Selectors) -> Arc<str> {
    let mut names: Vec<[u8; 16]> = needs.iter().map(|need| selectors.name(*need)).collect();
    names.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    names.iter().for_each(|name| {
        hasher.update(name);
    });
    let words = &selectors.vocabulary.words;
    let keys: BTreeSet<&str> = keys.iter().map(|key| words.text(*key)).collect();
    hasher.update(format!("{keys:?}").as_bytes());
    let hex = hasher.finalize().to_hex();
    format!("hosts-{}", hex.get(..16).unwrap_or_default()).into()
}
