//! What the policies at hand ask about hosts: labels, names and addresses. Hosts that answer all of it alike are of one
//! *kind*, and no selector tells them apart.

use std::collections::BTreeMap;

use verdict::Address;

use super::{folk::Facts, meant::Meant};

/// Something that a selector can ask about a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Term {
    /// It has this label with this value.
    Label(String, String),
    /// It has this label.
    Has(String),
    /// It is called so, by its id or another name.
    Called(String),
    /// Its id is this.
    Id(String),
}

/// Everything that is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Vocabulary {
    terms: BTreeMap<Term, u32>,
    /// Where an address begins to be told from the one before it, ascending; begins with 0.
    borders: Vec<u128>,
}

/// What a host answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Answers {
    /// Numbers of the terms that hold, ascending.
    pub(super) terms: Box<[u32]>,
    /// The first address of each stretch that one of its addresses lies in, ascending.
    pub(super) places: Box<[u128]>,
}

impl Vocabulary {
    /// Of these selectors.
    pub(super) fn of<'a>(selectors: impl Iterator<Item = &'a Meant>) -> Self {
        let mut vocabulary = Self { terms: BTreeMap::new(), borders: vec![0] };
        for selector in selectors {
            selector.each(&mut |leaf| vocabulary.add(leaf));
        }
        vocabulary.borders.sort_unstable();
        vocabulary.borders.dedup();
        for (number, term) in (0..).zip(vocabulary.terms.values_mut()) {
            *term = number;
        }
        vocabulary
    }

    fn add(&mut self, leaf: &Meant) {
        let mut add = |term: Term| {
            self.terms.insert(term, 0);
        };
        match leaf {
            Meant::Host(word) => add(Term::Called(word.clone())),
            Meant::Label(key, values) if values.is_empty() => add(Term::Has(key.clone())),
            Meant::Label(key, values) => {
                values.iter().for_each(|value| add(Term::Label(key.clone(), value.clone())));
            }
            Meant::Id(ids) => ids.iter().for_each(|id| add(Term::Id(id.clone()))),
            Meant::Addresses(ranges) => {
                for &(first, last) in ranges {
                    self.borders.push(first);
                    self.borders.extend(last.checked_add(1));
                }
            }
            Meant::Any
            | Meant::Me
            | Meant::Known
            | Meant::Not(_)
            | Meant::All(_)
            | Meant::Either(_) => {}
        }
    }

    pub(super) fn terms(&self) -> usize {
        self.terms.len()
    }

    /// Whether somebody asks for a host of this name.
    pub(super) fn calls(&self, word: &str) -> bool {
        self.terms.contains_key(&Term::Called(word.to_owned()))
    }

    /// What a host answers.
    pub(super) fn answers(&self, id: &str, facts: &Facts) -> Answers {
        let mut terms = Vec::new();
        let mut ask = |term: &Term| terms.extend(self.terms.get(term).copied());
        ask(&Term::Id(id.to_owned()));
        ask(&Term::Called(id.to_owned()));
        for name in &facts.names {
            ask(&Term::Called(String::from(&**name)));
        }
        for (key, value) in &facts.labels {
            ask(&Term::Has(String::from(&**key)));
            ask(&Term::Label(String::from(&**key), String::from(&**value)));
        }
        terms.sort_unstable();
        terms.dedup();
        let own = facts.addresses.iter().filter(|address| !address.is_loopback());
        let mut places: Vec<u128> = own
            .filter_map(|address| {
                let after = self.borders.partition_point(|&border| border <= address.bits());
                self.borders.get(after.checked_sub(1)?).copied()
            })
            .collect();
        places.sort_unstable();
        places.dedup();
        Answers { terms: terms.into(), places: places.into() }
    }

    /// A selector with its terms by number.
    pub(super) fn bind(&self, selector: &Meant) -> Bound {
        let term = |term: Term| self.terms.get(&term).copied();
        let all = |members: &[Meant]| members.iter().map(|it| self.bind(it)).collect();
        match selector {
            Meant::Any => Bound::Any,
            Meant::Me => Bound::Me,
            Meant::Host(word) => Bound::terms(term(Term::Called(word.clone())).into_iter()),
            Meant::Addresses(ranges) => Bound::Addresses(ranges.clone()),
            Meant::Label(key, values) if values.is_empty() => {
                Bound::terms(term(Term::Has(key.clone())).into_iter())
            }
            Meant::Label(key, values) => {
                let label = |value: &String| term(Term::Label(key.clone(), value.clone()));
                Bound::terms(values.iter().filter_map(label))
            }
            Meant::Id(ids) => Bound::terms(ids.iter().filter_map(|id| term(Term::Id(id.clone())))),
            Meant::Known => Bound::Known,
            Meant::Not(inner) => Bound::Not(Box::new(self.bind(inner))),
            Meant::All(members) => Bound::All(all(members)),
            Meant::Either(members) => Bound::Either(all(members)),
        }
    }
}

/// A selector with its terms by number: it is asked about kinds of hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Any,
    Me,
    Known,
    /// One of these terms, ascending.
    Terms(Vec<u32>),
    Addresses(Vec<(u128, u128)>),
    Not(Box<Self>),
    All(Vec<Self>),
    Either(Vec<Self>),
}

/// A host of some kind, or nobody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Somebody<'a> {
    /// The terms that hold; `None` for an address of nobody.
    pub(super) terms: Option<&'a [u32]>,
    /// Whether it is the host that enforces.
    pub(super) me: bool,
}

impl Bound {
    fn terms(found: impl Iterator<Item = u32>) -> Self {
        let mut terms: Vec<u32> = found.collect();
        terms.sort_unstable();
        Self::Terms(terms)
    }

    /// Whether an address is meant, whose it is being known.
    pub(super) fn holds(&self, whose: Somebody<'_>, at: u128) -> bool {
        match self {
            Self::Any => true,
            Self::Me => whose.me,
            Self::Known => whose.terms.is_some(),
            Self::Terms(wanted) => whose.terms.is_some_and(|terms| meet(wanted, terms)),
            Self::Addresses(ranges) => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&at))
            }
            Self::Not(inner) => !inner.holds(whose, at),
            Self::All(members) => members.iter().all(|member| member.holds(whose, at)),
            Self::Either(members) => members.iter().any(|member| member.holds(whose, at)),
        }
    }

    /// Whether others must know hosts of a kind to know what is meant.
    pub(super) fn needs(&self, answers: &Answers) -> bool {
        let host = Somebody { terms: Some(&answers.terms), me: false };
        let nobody = Somebody { terms: None, me: false };
        answers.places.iter().any(|&at| self.holds(host, at) != self.holds(nobody, at))
    }

    /// Whether a rule that has this at one end says anything about a host of a kind: one of its addresses is meant, or one
    /// of loopback. Where nobody knows its addresses, any may be its own. `borders` are its own.
    pub(super) fn concerns(&self, answers: &Answers, borders: &Borders) -> bool {
        let me = Somebody { terms: Some(&answers.terms), me: true };
        let holds = |at: &u128| self.holds(me, *at);
        if answers.places.is_empty() {
            return borders.all.iter().any(holds);
        }
        answers.places.iter().any(holds) || borders.loopback.iter().any(holds)
    }

    /// Terms one of which a host must have to be meant; `None` where others can be meant, too.
    pub(super) fn anchors(&self) -> Option<Vec<u32>> {
        match self {
            Self::Terms(terms) => Some(terms.clone()),
            Self::Any | Self::Me | Self::Known | Self::Addresses(_) | Self::Not(_) => None,
            Self::All(members) => members.iter().filter_map(Self::anchors).min_by_key(Vec::len),
            Self::Either(members) => {
                let mut all = Vec::new();
                for member in members {
                    all.extend(member.anchors()?);
                }
                all.sort_unstable();
                all.dedup();
                Some(all)
            }
        }
    }
}

/// Whether two ascending lists have something in common; `wanted` is the shorter one mostly.
fn meet(wanted: &[u32], terms: &[u32]) -> bool {
    if wanted.len() <= terms.len() {
        wanted.iter().any(|term| terms.binary_search(term).is_ok())
    } else {
        terms.iter().any(|term| wanted.binary_search(term).is_ok())
    }
}

/// One address of each stretch that a selector can tell from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Borders {
    all: Vec<u128>,
    /// Those on loopback.
    loopback: Vec<u128>,
}

impl Borders {
    pub(super) fn of(selector: &Meant) -> Self {
        let mut all = vec![0, Address::LOOPBACK_V4.bits() - 1, Address::LOOPBACK_V6.bits()];
        selector.each_range(&mut |first, last| {
            all.push(first);
            all.extend(last.checked_add(1));
        });
        all.sort_unstable();
        all.dedup();
        let is_loopback = |at: &&u128| Address::from_bits(**at).is_loopback();
        let loopback = all.iter().filter(is_loopback).copied().collect();
        Self { all, loopback }
    }
}
