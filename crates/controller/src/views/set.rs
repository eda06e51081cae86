//! Sets of hosts that manifests speak of: each one piece. What is kept of a piece is its digest; its bytes are made when
//! somebody wants them. Of a set that changed it is known who came, went or changed since some earlier pieces, so that who
//! has one of those is sent no more than that.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use prost::Message;
use wire::sync::{Difference, Piece};

use super::{
    class::ClassNumber,
    folk::{Folk, HostNumber},
    library::Library,
    member,
    selectors::{SelectorNumber, Selectors},
};
use crate::digest::Digest;

/// A set's number.
pub(super) type SetNumber = u32;

/// Earlier pieces of one set from which differences lead to the current one.
const FORMER_MAX: usize = 8;
/// Hosts that may differ from the earliest of them.
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
    /// Digest and bytes of the piece; `None` if there is nobody.
    piece: Option<(Digest, u64)>,
    /// Who came, went or changed since the piece was made.
    pending: Vec<Arc<str>>,
    stale: bool,
    /// Earlier pieces, each with who came, went or changed then; the newest last.
    former: VecDeque<(Digest, Vec<Arc<str>>)>,
    /// Classes that have it, and perhaps some that do not any more.
    users: Vec<ClassNumber>,
    uses: usize,
    /// It waits to be forgotten.
    idle: bool,
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
    by_digest: BTreeSet<(Digest, SetNumber)>,
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
        let key = key(keys, needs);
        let number = match self.by_key.get(&key) {
            Some(&number) => number,
            None => self.made(key, needs, here),
        };
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
            pending: Vec::new(),
            stale: true,
            former: VecDeque::new(),
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
        if let Some((digest, _)) = set.piece {
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
            // With more than that no difference is made.
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
        let Some(set) = self.set_mut(number).filter(|set| set.stale) else { return false };
        set.stale = false;
        let before = set.piece;
        let bytes = set.bytes(here);
        set.piece = (!bytes.is_empty()).then(|| (Digest::of(&bytes), bytes.len() as u64));
        let pending = member::ids(std::mem::take(&mut set.pending).iter());
        if set.piece == before {
            return false;
        }
        set.remember(before, pending);
        let after = set.piece;
        if let Some((digest, _)) = before {
            self.by_digest.remove(&(digest, number));
        }
        if let Some((digest, _)) = after {
            self.by_digest.insert((digest, number));
            if before.is_some() {
                library.put(digest, &bytes.into());
            }
        }
        true
    }

    /// The piece of a set, unless there is nobody.
    pub(super) fn piece(&self, number: SetNumber) -> Option<Piece> {
        let set = self.set(number)?;
        let (digest, bytes) = set.piece?;
        Some(Piece { digest: digest.0.to_vec(), bytes, name: String::from(&*set.name) })
    }

    /// What a set is needed for.
    pub(super) fn needs(&self, number: SetNumber) -> &[SelectorNumber] {
        self.set(number).map_or(&[], |set| &set.needs)
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

    fn current(&self, digest: &Digest) -> Option<&Set> {
        let mut of = self.by_digest.range((*digest, 0)..=(*digest, SetNumber::MAX));
        self.set(of.next()?.1)
    }

    /// The bytes of a piece that is current.
    pub(super) fn bytes(&self, digest: &Digest, here: Here<'_>) -> Option<Vec<u8>> {
        let bytes = self.current(digest)?.bytes(here);
        // A set that nobody has may have changed since.
        (Digest::of(&bytes) == *digest).then_some(bytes)
    }

    /// What makes the current piece `digest` of the earlier piece `base`, if that is less than the whole.
    pub(super) fn difference(
        &self,
        base: &Digest,
        digest: &Digest,
        here: Here<'_>,
    ) -> Option<Vec<u8>> {
        let of = self.by_digest.range((*digest, 0)..=(*digest, SetNumber::MAX));
        let mut sets = of.filter_map(|(_, number)| self.set(*number));
        sets.find_map(|set| set.difference(base, here))
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

    fn bytes(&self, here: Here<'_>) -> Vec<u8> {
        let numbers = self.numbers(here).into_iter();
        member::members(numbers, &self.keys, here.folk, &here.selectors.vocabulary)
    }

    fn remember(&mut self, before: Option<(Digest, u64)>, changed: Vec<Arc<str>>) {
        match before {
            Some((digest, _)) => self.former.push_back((digest, changed)),
            None => self.former.clear(),
        }
        let count = |former: &VecDeque<(Digest, Vec<Arc<str>>)>| -> usize {
            former.iter().map(|(_, changed)| changed.len()).sum()
        };
        while self.former.len() > FORMER_MAX || count(&self.former) > CHANGED_MAX {
            self.former.pop_front();
        }
    }

    fn difference(&self, base: &Digest, here: Here<'_>) -> Option<Vec<u8>> {
        if self.stale {
            return None;
        }
        let (_, bytes) = self.piece?;
        let from = self.former.iter().rposition(|(digest, _)| digest == base)?;
        let changed = member::ids(self.former.iter().skip(from).flat_map(|(_, ids)| ids));
        let (mut put, mut gone) = (Vec::new(), Vec::new());
        let Here { folk, selectors } = here;
        for id in changed {
            let known = folk.number(&id).and_then(|number| folk.host(number));
            let needed = known.filter(|known| {
                let kind = folk.kind(known.kind);
                let needs = |answers| self.needs.iter().any(|it| selectors.needs(*it, answers));
                !known.quarantined && kind.is_some_and(|kind| needs(&kind.answers))
            });
            match needed {
                Some(known) => put.push(known.member(&self.keys, &selectors.vocabulary)),
                None => gone.push(String::from(&*id)),
            }
        }
        let difference = Difference { put, gone }.encode_to_vec();
        ((difference.len() as u64) < bytes).then_some(difference)
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
