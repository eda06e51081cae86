//! The hosts, and which of them are of one kind: no selector at hand tells those apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use verdict::Address;
use wire::sync::{Label, Member};

use super::vocabulary::{Answers, Vocabulary};
use crate::records::HostRecord;

/// A host's number: small, and used again once the host is gone.
pub type HostNumber = u32;

/// What the operators say of a host. Words that many hosts share are kept once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Sorted by key.
    pub(super) labels: Box<[(Arc<str>, Arc<str>)]>,
    pub(super) addresses: Box<[Address]>,
    pub(super) names: Box<[Arc<str>]>,
}

/// A host.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) id: Arc<str>,
    pub(super) facts: Facts,
    pub(super) quarantined: bool,
    pub(super) since: u64,
    pub(super) enrolled_at: Timestamp,
    pub(super) kind: u32,
}

/// Hosts of one kind.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) answers: Answers,
    /// Those that are not shut off, ascending.
    pub(super) hosts: Vec<HostNumber>,
    /// How many there are, those that are shut off among them.
    pub(super) count: u32,
}

/// All hosts.
#[derive(Clone, Debug, Default)]
pub(super) struct Folk {
    hosts: Vec<Option<Known>>,
    free: Vec<HostNumber>,
    numbers: BTreeMap<Arc<str>, HostNumber>,
    /// Whose other names these are.
    names: BTreeMap<Arc<str>, HostNumber>,
    words: BTreeSet<Arc<str>>,
    pub(super) kinds: Vec<Kind>,
    by_answers: BTreeMap<Answers, u32>,
    /// Kinds by each term that holds for them.
    by_term: Vec<Vec<u32>>,
}

/// What became of a host.
#[derive(Clone, Debug)]
pub(super) struct Moved {
    pub(super) host: HostNumber,
    /// Its kind before, where others knew of it.
    pub(super) before: Option<u32>,
    /// Its kind now, where others are to know of it.
    pub(super) after: Option<u32>,
}

impl Folk {
    pub(super) fn number(&self, id: &str) -> Option<HostNumber> {
        self.numbers.get(id).copied()
    }

    pub(super) fn host(&self, number: HostNumber) -> Option<&Known> {
        self.hosts.get(number as usize)?.as_ref()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (HostNumber, &Known)> {
        (0..).zip(&self.hosts).filter_map(|(number, host)| Some((number, host.as_ref()?)))
    }

    pub(super) fn count(&self) -> usize {
        self.numbers.len()
    }

    /// The host of this id or name.
    pub(super) fn called(&self, word: &str) -> Option<HostNumber> {
        self.numbers.get(word).or_else(|| self.names.get(word)).copied()
    }

    pub(super) fn kind(&self, kind: u32) -> Option<&Kind> {
        self.kinds.get(kind as usize)
    }

    /// Kinds that have one of these terms.
    pub(super) fn with(&self, terms: &[u32]) -> Vec<u32> {
        let of = |term: &u32| self.by_term.get(*term as usize).into_iter().flatten().copied();
        let mut kinds: Vec<u32> = terms.iter().flat_map(of).collect();
        if terms.len() > 1 {
            kinds.sort_unstable();
            kinds.dedup();
        }
        kinds
    }

    /// Takes over what a host is now; `None` if it is gone.
    pub(super) fn put(
        &mut self,
        id: &str,
        record: Option<&HostRecord>,
        vocabulary: &Vocabulary,
    ) -> Option<Moved> {
        let number = self.number(id);
        let mut before = None;
        if let Some(number) = number {
            let known = self.hosts.get_mut(number as usize).and_then(Option::take)?;
            for name in &known.facts.names {
                self.names.remove(name);
            }
            before = self.leave(number, &known);
        }
        let Some(record) = record else {
            let number = number?;
            self.numbers.remove(id);
            self.free.push(number);
            return Some(Moved { host: number, before, after: None });
        };
        let facts = Facts {
            labels: record.labels.iter().map(|(k, v)| (self.word(k), self.word(v))).collect(),
            addresses: record.addresses.clone().into(),
            names: record.names.iter().map(|name| self.word(name)).collect(),
        };
        let number = number.or_else(|| self.free.pop()).unwrap_or_else(|| {
            self.hosts.push(None);
            HostNumber::try_from(self.hosts.len() - 1).expect("hosts are fewer than 2^32")
        });
        let id: Arc<str> = id.into();
        for name in &facts.names {
            self.names.insert(Arc::clone(name), number);
        }
        self.numbers.insert(Arc::clone(&id), number);
        let known = Known {
            id,
            facts,
            quarantined: record.quarantined,
            since: record.since,
            enrolled_at: record.enrolled_at,
            kind: 0,
        };
        let after = self.join(number, known, vocabulary);
        Some(Moved { host: number, before, after })
    }

    /// Sorts all hosts into kinds anew.
    pub(super) fn regroup(&mut self, vocabulary: &Vocabulary) {
        self.kinds.clear();
        self.by_answers.clear();
        self.by_term = vec![Vec::new(); vocabulary.terms()];
        for number in 0..self.hosts.len() {
            let Some(known) = self.hosts.get_mut(number).and_then(Option::take) else { continue };
            let number = HostNumber::try_from(number).expect("hosts are fewer than 2^32");
            self.join(number, known, vocabulary);
        }
    }

    fn word(&mut self, text: &str) -> Arc<str> {
        if let Some(word) = self.words.get(text) {
            return Arc::clone(word);
        }
        let word: Arc<str> = text.into();
        self.words.insert(Arc::clone(&word));
        word
    }

    fn join(&mut self, number: HostNumber, known: Known, vocabulary: &Vocabulary) -> Option<u32> {
        let answers = vocabulary.answers(&known.id, &known.facts);
        let kind = match self.by_answers.get(&answers) {
            Some(&kind) => kind,
            None => {
                let kind = u32::try_from(self.kinds.len()).expect("kinds are fewer than 2^32");
                for &term in &answers.terms {
                    if let Some(kinds) = self.by_term.get_mut(term as usize) {
                        kinds.push(kind);
                    }
                }
                self.by_answers.insert(answers.clone(), kind);
                self.kinds.push(Kind { answers, hosts: Vec::new(), count: 0 });
                kind
            }
        };
        let of = self.kinds.get_mut(kind as usize)?;
        of.count += 1;
        let open = !known.quarantined;
        if open && let Err(at) = of.hosts.binary_search(&number) {
            of.hosts.insert(at, number);
        }
        if let Some(place) = self.hosts.get_mut(number as usize) {
            *place = Some(Known { kind, ..known });
        }
        open.then_some(kind)
    }

    /// The kind it was of, where others knew of it. A kind without hosts stays: it costs little, and is found again.
    fn leave(&mut self, number: HostNumber, known: &Known) -> Option<u32> {
        let of = self.kinds.get_mut(known.kind as usize)?;
        of.count -= 1;
        if let Ok(at) = of.hosts.binary_search(&number) {
            of.hosts.remove(at);
        }
        (!known.quarantined).then_some(known.kind)
    }
}

impl Known {
    /// As it is told of itself: everything that the operators say.
    pub(super) fn me(&self) -> Member {
        let label = |(key, value): &(Arc<str>, Arc<str>)| Label {
            key: String::from(&**key),
            value: String::from(&**value),
        };
        Member {
            id: String::from(&*self.id),
            names: self.facts.names.iter().map(|name| String::from(&**name)).collect(),
            addresses: self.facts.addresses.iter().map(|&address| bytes(address)).collect(),
            labels: self.facts.labels.iter().map(label).collect(),
        }
    }

    /// As others are told of it: with the labels that they ask for, and the names that anybody asks for.
    pub(super) fn member(&self, keys: &BTreeSet<String>, vocabulary: &Vocabulary) -> Member {
        let mut member = self.me();
        member.labels.retain(|label| keys.contains(&label.key));
        member.names.retain(|name| vocabulary.calls(name));
        member
    }

    /// That it is there, and nothing else.
    pub(super) fn mention(&self, vocabulary: &Vocabulary) -> Member {
        let mut member = self.me();
        (member.labels, member.addresses) = (Vec::new(), Vec::new());
        member.names.retain(|name| vocabulary.calls(name));
        member
    }
}

/// Four bytes or sixteen.
fn bytes(address: Address) -> Vec<u8> {
    match address.as_v4() {
        Some(v4) => v4.to_be_bytes().to_vec(),
        None => address.bits().to_be_bytes().to_vec(),
    }
}
