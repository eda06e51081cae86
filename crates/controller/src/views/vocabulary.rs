//! What the policies at hand ask about hosts: labels, names and addresses, each a *term* with a number. Hosts that answer
//! all of it alike are of one *kind*, and no selector tells them apart.
//!
//! A term keeps its number for good, also when nobody asks for it any more: a new one sorts the hosts anew that it holds
//! for, and no others.

use std::{collections::BTreeMap, sync::Arc};

use super::{folk::Facts, meant::Meant, prefixes::Prefixes};

/// A term's number.
pub(super) type Term = u32;

/// Something that a selector can ask about a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// It has this label with this value: numbers of both words.
    Label(u32, u32),
    /// It has this label.
    Has(u32),
    /// It is called so, by its id or another name.
    Called(Arc<str>),
    /// Its id is this.
    Id(Arc<str>),
    /// One of its addresses lies in one of these ranges.
    Among(Arc<[(u128, u128)]>),
}

/// Texts that are kept once.
#[derive(Debug, Default)]
pub(super) struct Words {
    numbers: BTreeMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
}

impl Words {
    pub(super) fn number(&mut self, text: &str) -> u32 {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = u32::try_from(self.texts.len()).expect("words are fewer than 2^32");
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, number);
        number
    }

    pub(super) fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", |text| text)
    }
}

/// Everything that is asked.
#[derive(Debug, Default)]
pub(super) struct Vocabulary {
    pub(super) words: Words,
    labels: BTreeMap<(u32, u32), Term>,
    keys: BTreeMap<u32, Term>,
    called: BTreeMap<Arc<str>, Term>,
    /// Words of those.
    words_called: BTreeMap<Term, Arc<str>>,
    ids: BTreeMap<Arc<str>, Term>,
    among: BTreeMap<Arc<[(u128, u128)]>, Term>,
    prefixes: Prefixes,
    /// How many selectors in use ask for each term.
    uses: Vec<u32>,
    /// Sets of terms that hold at an address, each with a number.
    places: BTreeMap<Arc<[Term]>, u32>,
    at_place: Vec<Arc<[Term]>>,
}

/// What a host answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Answers {
    /// Terms that hold for the host, ascending; those about addresses are not among them.
    pub(super) terms: Box<[Term]>,
    /// Places of its addresses: the terms about addresses that hold there, by number; ascending, each once.
    pub(super) places: Box<[u32]>,
}

impl Vocabulary {
    /// How many terms there are.
    pub(super) fn terms(&self) -> usize {
        self.uses.len()
    }

    /// Whether somebody asks for a host of this name.
    pub(super) fn calls(&self, word: &str) -> bool {
        let term = self.called.get(word);
        term.and_then(|term| self.uses.get(*term as usize)).is_some_and(|uses| *uses != 0)
    }

    /// The terms that hold at a place.
    pub(super) fn at(&self, place: u32) -> &[Term] {
        self.at_place.get(place as usize).map_or(&[], |terms| terms)
    }

    /// The term of something that is asked; a new one is put into `fresh`.
    pub(super) fn term(&mut self, ask: Ask, fresh: &mut Vec<Ask>) -> Term {
        let next = Term::try_from(self.uses.len()).expect("terms are fewer than 2^32");
        let term = match &ask {
            Ask::Label(key, value) => *self.labels.entry((*key, *value)).or_insert(next),
            Ask::Has(key) => *self.keys.entry(*key).or_insert(next),
            Ask::Called(word) => *self.called.entry(Arc::clone(word)).or_insert(next),
            Ask::Id(word) => *self.ids.entry(Arc::clone(word)).or_insert(next),
            Ask::Among(ranges) => *self.among.entry(Arc::clone(ranges)).or_insert(next),
        };
        if term == next {
            match &ask {
                Ask::Among(ranges) => {
                    ranges.iter().for_each(|range| self.prefixes.put(*range, term));
                }
                Ask::Called(word) => {
                    self.words_called.insert(term, Arc::clone(word));
                }
                Ask::Label(..) | Ask::Has(_) | Ask::Id(_) => {}
            }
            self.uses.push(0);
            fresh.push(ask);
        }
        term
    }

    /// The word of a term that says how a host is called.
    pub(super) fn word(&self, term: Term) -> Option<Arc<str>> {
        self.words_called.get(&term).cloned()
    }

    /// One selector more (or fewer) asks for a term. Whether that is the first one, or was the last.
    pub(super) fn uses(&mut self, term: Term, more: bool) -> bool {
        let Some(uses) = self.uses.get_mut(term as usize) else { return false };
        let before = *uses;
        *uses = if more { before + 1 } else { before.saturating_sub(1) };
        (before == 0) != (*uses == 0)
    }

    /// What a host answers.
    pub(super) fn answers(&mut self, id: &str, facts: &Facts) -> Answers {
        let mut terms: Vec<Term> = Vec::new();
        terms.extend(self.ids.get(id));
        terms.extend(self.called.get(id));
        for name in &facts.names {
            terms.extend(self.called.get(name));
        }
        for (key, value) in &facts.labels {
            terms.extend(self.keys.get(key));
            terms.extend(self.labels.get(&(*key, *value)));
        }
        terms.sort_unstable();
        terms.dedup();
        let own = facts.addresses.iter().filter(|address| !address.is_loopback());
        let mut places: Vec<u32> = Vec::new();
        for address in own {
            let there = self.prefixes.holding(address.bits());
            places.push(self.place(there));
        }
        places.sort_unstable();
        places.dedup();
        Answers { terms: terms.into(), places: places.into() }
    }

    fn place(&mut self, terms: Vec<Term>) -> u32 {
        if let Some(&place) = self.places.get(terms.as_slice()) {
            return place;
        }
        let place = u32::try_from(self.at_place.len()).expect("places are fewer than 2^32");
        let terms: Arc<[Term]> = terms.into();
        self.at_place.push(Arc::clone(&terms));
        self.places.insert(terms, place);
        place
    }

    /// What a leaf of a selector asks for, with the words of labels numbered.
    pub(super) fn asks(&mut self, leaf: &Meant) -> Vec<Ask> {
        match leaf {
            Meant::Host(word) => vec![Ask::Called(word.as_str().into())],
            Meant::Label(key, values) if values.is_empty() => {
                vec![Ask::Has(self.words.number(key))]
            }
            Meant::Label(key, values) => {
                let key = self.words.number(key);
                values.iter().map(|value| Ask::Label(key, self.words.number(value))).collect()
            }
            Meant::Id(ids) => ids.iter().map(|id| Ask::Id(id.as_str().into())).collect(),
            Meant::Addresses(ranges) => vec![Ask::Among(ranges.as_slice().into())],
            Meant::Any
            | Meant::Me
            | Meant::Known
            | Meant::Not(_)
            | Meant::All(_)
            | Meant::Either(_) => Vec::new(),
        }
    }
}
