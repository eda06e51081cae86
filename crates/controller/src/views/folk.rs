//! The hosts, and which of them are of one kind: no selector at hand tells those apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::Arc,
};

use jiff::Timestamp;
use verdict::Address;

use super::vocabulary::{Answers, Ask, Term, Vocabulary};
use crate::{
    records::HostRecord,
    spot::{Spot, Spots, spot},
};

/// A host's number: small, and used again once the host is gone.
pub type HostNumber = u32;

/// What the operators say of a host. Words that many hosts share are kept once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Numbers of the words, sorted by the text of the key.
    pub(super) labels: Box<[(u32, u32)]>,
    pub(super) addresses: Box<[Address]>,
    pub(super) names: Box<[Arc<str>]>,
}

/// A host.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) id: Arc<str>,
    pub(super) spot: Spot,
    pub(super) facts: Facts,
    pub(super) quarantined: bool,
    pub(super) since: u64,
    pub(super) enrolled_at: Timestamp,
    pub(super) kind: u32,
}

/// Hosts of one kind.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) answers: Arc<Answers>,
    /// Those that are not shut off, ascending.
    pub(super) hosts: Vec<HostNumber>,
    /// How many there are, those that are shut off among them.
    count: u32,
}

/// All hosts.
#[derive(Debug, Default)]
pub(super) struct Folk {
    hosts: Vec<Option<Known>>,
    free: Vec<HostNumber>,
    /// Whose other names these are.
    names: BTreeMap<Arc<str>, HostNumber>,
    /// Hosts that have a label, whether a policy asks for it or not; some may have had it only.
    by_label: BTreeMap<(u32, u32), Vec<HostNumber>>,
    by_address: BTreeSet<(u128, HostNumber)>,
    by_spot: Spots,
    shut_off: BTreeSet<HostNumber>,
    kinds: Vec<Kind>,
    by_answers: BTreeMap<Arc<Answers>, u32>,
    /// Kinds by each term that holds for them, or for an address of them.
    by_term: Vec<Vec<u32>>,
    /// Kinds of hosts of which nobody knows an address.
    placeless: Vec<u32>,
    /// Kinds that have no hosts.
    deserted: usize,
}

/// What became of a host.
#[derive(Clone, Debug)]
pub(super) struct Moved {
    pub(super) host: HostNumber,
    pub(super) id: Arc<str>,
    /// Its kind before, where others knew of it.
    pub(super) before: Option<u32>,
    /// Its kind now, where others are to know of it.
    pub(super) after: Option<u32>,
    /// What else it was called or is called.
    pub(super) names: Vec<Arc<str>>,
}

impl Folk {
    pub(super) fn number(&self, id: &str) -> Option<HostNumber> {
        let is = |number| self.host(number).is_some_and(|known| *known.id == *id);
        self.by_spot.find(spot(id), is)
    }

    pub(super) fn host(&self, number: HostNumber) -> Option<&Known> {
        self.hosts.get(number as usize)?.as_ref()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (HostNumber, &Known)> {
        (0..).zip(&self.hosts).filter_map(|(number, host)| Some((number, host.as_ref()?)))
    }

    pub(super) fn count(&self) -> usize {
        self.by_spot.count()
    }

    /// The hosts at some spots, in their order.
    pub(super) fn at(
        &self,
        spots: RangeInclusive<Spot>,
    ) -> impl Iterator<Item = (Spot, HostNumber)> {
        self.by_spot.within(spots)
    }

    /// The host of this id or name.
    pub(super) fn called(&self, word: &str) -> Option<HostNumber> {
        self.number(word).or_else(|| self.names.get(word).copied())
    }

    pub(super) fn kind(&self, kind: u32) -> Option<&Kind> {
        self.kinds.get(kind as usize)
    }

    /// Kinds with hosts, ascending.
    pub(super) fn all_kinds(&self) -> Vec<u32> {
        let some = (0..).zip(&self.kinds).filter(|(_, kind)| kind.count != 0);
        some.map(|(number, _)| number).collect()
    }

    /// Kinds of hosts of which nobody knows an address.
    pub(super) fn placeless(&self) -> &[u32] {
        &self.placeless
    }

    /// Kinds for which one of these terms holds, ascending.
    pub(super) fn with(&self, terms: &[Term]) -> Vec<u32> {
        let of = |term: &Term| self.by_term.get(*term as usize).into_iter().flatten().copied();
        let mut kinds: Vec<u32> = terms.iter().flat_map(of).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// How many kinds there are for which a term holds.
    pub(super) fn count_with(&self, term: Term) -> usize {
        self.by_term.get(term as usize).map_or(0, Vec::len)
    }

    /// Hosts of these kinds, those that are shut off among them, ascending.
    pub(super) fn of_kinds(&self, kinds: &BTreeSet<u32>) -> Vec<HostNumber> {
        let open = kinds.iter().filter_map(|kind| self.kind(*kind)).flat_map(|kind| &kind.hosts);
        let is_of = |number: &&HostNumber| {
            self.host(**number).is_some_and(|known| kinds.contains(&known.kind))
        };
        let shut_off = self.shut_off.iter().filter(is_of);
        let mut hosts: Vec<HostNumber> = open.chain(shut_off).copied().collect();
        hosts.sort_unstable();
        hosts
    }

    /// Kinds that lie around without hosts, and the others.
    pub(super) fn kind_counts(&self) -> (usize, usize) {
        (self.deserted, self.kinds.len() - self.deserted)
    }

    /// Takes over what a host is now; `None` if it is gone.
    pub(super) fn put(
        &mut self,
        id: &str,
        record: Option<&HostRecord>,
        vocabulary: &mut Vocabulary,
    ) -> Option<Moved> {
        let number = self.number(id);
        let (mut before, mut names, mut had) = (None, Vec::new(), None);
        if let Some(number) = number {
            let known = self.hosts.get_mut(number as usize).and_then(Option::take)?;
            for name in &known.facts.names {
                self.names.remove(name);
            }
            before = self.leave(number, &known);
            names.extend(known.facts.names.iter().cloned());
            for address in &known.facts.addresses {
                self.by_address.remove(&(address.bits(), number));
            }
            had = Some(known);
        }
        let Some(record) = record else {
            let (number, had) = (number?, had?);
            self.by_spot.remove(had.spot, number);
            self.free.push(number);
            return Some(Moved { host: number, id: had.id, before, after: None, names });
        };
        let label = |(key, value): (&String, &String)| {
            (vocabulary.words.number(key), vocabulary.words.number(value))
        };
        let labels: Box<[(u32, u32)]> = record.labels.iter().map(label).collect();
        let facts = Facts {
            labels,
            addresses: record.addresses.clone().into(),
            names: record.names.iter().map(|name| name.as_str().into()).collect(),
        };
        let number = number.or_else(|| self.free.pop()).unwrap_or_else(|| {
            self.hosts.push(None);
            HostNumber::try_from(self.hosts.len() - 1).expect("hosts are fewer than 2^32")
        });
        let id: Arc<str> = had.as_ref().map_or_else(|| id.into(), |known| Arc::clone(&known.id));
        for name in &facts.names {
            self.names.insert(Arc::clone(name), number);
        }
        for address in &facts.addresses {
            self.by_address.insert((address.bits(), number));
        }
        let had_label = |label: &(u32, u32)| {
            had.as_ref().is_some_and(|known| known.facts.labels.contains(label))
        };
        for label in facts.labels.iter().filter(|label| !had_label(label)) {
            self.carries(*label, number);
        }
        names.extend(facts.names.iter().cloned());
        let spot = had.as_ref().map_or_else(|| spot(&id), |known| known.spot);
        self.by_spot.insert(spot, number);
        let known = Known {
            id: Arc::clone(&id),
            spot,
            facts,
            quarantined: record.quarantined,
            since: record.since,
            enrolled_at: record.enrolled_at,
            kind: 0,
        };
        let after = self.join(number, known, vocabulary);
        Some(Moved { host: number, id, before, after, names })
    }

    /// A host has a label. Those that have it no longer go when the list would have to grow.
    fn carries(&mut self, label: (u32, u32), number: HostNumber) {
        let Self { hosts, by_label, .. } = self;
        let list = by_label.entry(label).or_default();
        if list.len() == list.capacity() && 64 < list.len() {
            let has = |number: &HostNumber| {
                let known = hosts.get(*number as usize).and_then(Option::as_ref);
                known.is_some_and(|known| known.facts.labels.contains(&label))
            };
            list.retain(has);
            list.sort_unstable();
            list.dedup();
        }
        list.push(number);
    }

    /// Sorts the hosts anew for which something holds that is asked of late. Kinds that came out of others, each with the
    /// one it came from: no selector from before tells the two apart.
    pub(super) fn regroup(
        &mut self,
        fresh: &[Ask],
        vocabulary: &mut Vocabulary,
    ) -> Vec<(u32, u32)> {
        self.by_term.resize_with(vocabulary.terms(), Vec::new);
        let mut hosts: Vec<HostNumber> = Vec::new();
        for ask in fresh {
            self.answering(ask, &mut hosts);
        }
        hosts.sort_unstable();
        hosts.dedup();
        let (mut left, mut joined, mut pairs) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for number in hosts {
            let Some(known) = self.host(number) else { continue };
            let (old, quarantined) = (known.kind, known.quarantined);
            let answers = vocabulary.answers(&known.id, &known.facts);
            if self.kind(old).is_some_and(|kind| *kind.answers == answers) {
                continue;
            }
            let new = self.kind_of(answers, vocabulary);
            if let Some(known) = self.hosts.get_mut(number as usize).and_then(Option::as_mut) {
                known.kind = new;
            }
            self.counted(old, false);
            self.counted(new, true);
            if let Some(kind) = self.kinds.get_mut(new as usize).filter(|_| !quarantined) {
                kind.hosts.push(number);
                joined.insert(new);
            }
            left.insert(old);
            pairs.insert((old, new));
        }
        for kind in left.union(&joined) {
            let Self { hosts, kinds, .. } = self;
            let Some(of) = kinds.get_mut(*kind as usize) else { continue };
            of.hosts.retain(|number| {
                let known = hosts.get(*number as usize).and_then(Option::as_ref);
                known.is_some_and(|known| known.kind == *kind)
            });
            of.hosts.sort_unstable();
            of.hosts.dedup();
        }
        pairs.into_iter().collect()
    }

    /// Hosts for which something may hold that is asked.
    fn answering(&self, ask: &Ask, hosts: &mut Vec<HostNumber>) {
        match ask {
            Ask::Label(key, value) => {
                hosts.extend(self.by_label.get(&(*key, *value)).into_iter().flatten());
            }
            Ask::Has(key) => {
                let of = self.by_label.range((*key, 0)..=(*key, u32::MAX));
                hosts.extend(of.flat_map(|(_, hosts)| hosts));
            }
            Ask::Called(word) => hosts.extend(self.called(word)),
            Ask::Id(id) => hosts.extend(self.number(id)),
            Ask::Among(ranges) => {
                for &(first, last) in ranges.iter() {
                    let there = self.by_address.range((first, 0)..=(last, HostNumber::MAX));
                    hosts.extend(there.map(|(_, number)| number));
                }
            }
        }
    }

    fn counted(&mut self, kind: u32, more: bool) {
        let Some(of) = self.kinds.get_mut(kind as usize) else { return };
        if more {
            self.deserted -= usize::from(of.count == 0);
            of.count += 1;
        } else {
            of.count -= 1;
            self.deserted += usize::from(of.count == 0);
        }
    }

    fn kind_of(&mut self, answers: Answers, vocabulary: &Vocabulary) -> u32 {
        if let Some(&kind) = self.by_answers.get(&answers) {
            return kind;
        }
        let kind = u32::try_from(self.kinds.len()).expect("kinds are fewer than 2^32");
        let places = answers.places.iter().flat_map(|place| vocabulary.at(*place));
        let terms: BTreeSet<&Term> = answers.terms.iter().chain(places).collect();
        for term in terms {
            if let Some(kinds) = self.by_term.get_mut(*term as usize) {
                kinds.push(kind);
            }
        }
        if answers.places.is_empty() {
            self.placeless.push(kind);
        }
        let answers = Arc::new(answers);
        self.by_answers.insert(Arc::clone(&answers), kind);
        self.kinds.push(Kind { answers, hosts: Vec::new(), count: 0 });
        self.deserted += 1;
        kind
    }

    fn join(
        &mut self,
        number: HostNumber,
        known: Known,
        vocabulary: &mut Vocabulary,
    ) -> Option<u32> {
        let answers = vocabulary.answers(&known.id, &known.facts);
        let kind = self.kind_of(answers, vocabulary);
        self.counted(kind, true);
        let open = !known.quarantined;
        if open {
            let of = self.kinds.get_mut(kind as usize)?;
            if let Err(at) = of.hosts.binary_search(&number) {
                of.hosts.insert(at, number);
            }
        } else {
            self.shut_off.insert(number);
        }
        if let Some(place) = self.hosts.get_mut(number as usize) {
            *place = Some(Known { kind, ..known });
        }
        open.then_some(kind)
    }

    /// The kind it was of, where others knew of it. A kind without hosts stays: it costs little, and is found again.
    fn leave(&mut self, number: HostNumber, known: &Known) -> Option<u32> {
        self.counted(known.kind, false);
        self.shut_off.remove(&number);
        let of = self.kinds.get_mut(known.kind as usize)?;
        if let Ok(at) = of.hosts.binary_search(&number) {
            of.hosts.remove(at);
        }
        (!known.quarantined).then_some(known.kind)
    }
}
