//! A selector with its terms by number: it is asked about kinds of hosts.

use std::sync::Arc;

use verdict::Address;

use super::{
    meant::Meant,
    vocabulary::{Answers, Ask, Term, Vocabulary},
};

/// A selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Any,
    Me,
    Known,
    /// One of these terms, ascending.
    Terms(Box<[Term]>),
    /// An address in one of these ranges: the term that says so, and the ranges themselves.
    Among(Term, Arc<[(u128, u128)]>),
    Not(Box<Self>),
    All(Box<[Self]>),
    Either(Box<Choice>),
}

/// One of several selectors: of very many mostly, where it says whom a document concerns. Asked are those only that may
/// hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    members: Box<[Bound]>,
    /// Places of members by the terms of a host without one of which they do not hold; ascending.
    by_term: Box<[(Term, u32)]>,
    /// Places of the others.
    others: Box<[u32]>,
}

impl Choice {
    fn of(members: Box<[Bound]>) -> Self {
        let (mut by_term, mut others) = (Vec::new(), Vec::new());
        for (place, member) in (0u32..).zip(&members) {
            match member.without_which() {
                Some(terms) => by_term.extend(terms.into_iter().map(|term| (term, place))),
                None => others.push(place),
            }
        }
        by_term.sort_unstable();
        by_term.dedup();
        Self { members, by_term: by_term.into(), others: others.into() }
    }

    fn holds(&self, whose: Somebody<'_>, at: At<'_>) -> bool {
        let holds = |place: &u32| {
            self.members.get(*place as usize).is_some_and(|member| member.holds(whose, at))
        };
        let with = |term: &Term| {
            let from = self.by_term.partition_point(|(it, _)| it < term);
            let rest = self.by_term.get(from..).unwrap_or_default();
            rest.iter().take_while(|(it, _)| it == term).any(|(_, place)| holds(place))
        };
        self.others.iter().any(holds) || whose.terms.is_some_and(|terms| terms.iter().any(with))
    }
}

/// A host of some kind, or nobody.
#[derive(Clone, Copy, Debug)]
struct Somebody<'a> {
    /// The terms that hold; `None` for an address of nobody.
    terms: Option<&'a [Term]>,
    /// Whether it is the host that enforces.
    me: bool,
}

/// Where an address is.
#[derive(Clone, Copy, Debug)]
enum At<'a> {
    /// Where these terms about addresses hold.
    Place(&'a [Term]),
    /// Here.
    Address(u128),
}

/// Whose kinds a selector may mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Anchors {
    /// Any.
    None,
    /// Those for which one of these terms holds, about itself or about an address of it.
    Terms {
        /// The terms.
        terms: Vec<Term>,
        /// As somebody's own, it may mean those of whom nobody knows an address, too.
        placeless: bool,
        /// As somebody's own, it may mean everybody, for the addresses of loopback.
        loopback: bool,
    },
}

impl Bound {
    /// Numbers the terms of a selector; new ones are put into `fresh`, and all of them into `terms`.
    pub(super) fn of(
        meant: &Meant,
        vocabulary: &mut Vocabulary,
        fresh: &mut Vec<Ask>,
        terms: &mut Vec<Term>,
    ) -> Self {
        let mut found: Vec<Term> = Vec::new();
        for ask in vocabulary.asks(meant) {
            found.push(vocabulary.term(ask, fresh));
        }
        terms.extend_from_slice(&found);
        found.sort_unstable();
        let mut all = |members: &[Meant]| {
            members.iter().map(|it| Self::of(it, vocabulary, fresh, terms)).collect()
        };
        match meant {
            Meant::Any => Self::Any,
            Meant::Me => Self::Me,
            Meant::Known => Self::Known,
            Meant::Host(_) | Meant::Label(..) | Meant::Id(_) => Self::Terms(found.into()),
            Meant::Addresses(ranges) => {
                let term = found.first().copied().unwrap_or_default();
                Self::Among(term, ranges.as_slice().into())
            }
            Meant::Not(inner) => Self::Not(Box::new(Self::of(inner, vocabulary, fresh, terms))),
            Meant::All(members) => Self::All(all(members)),
            Meant::Either(members) => Self::Either(Box::new(Choice::of(all(members)))),
        }
    }

    /// Terms of a host without one of which this does not hold; `None` where it may hold without any.
    fn without_which(&self) -> Option<Vec<Term>> {
        match self {
            Self::Terms(terms) => Some(terms.to_vec()),
            Self::All(members) => {
                members.iter().filter_map(Self::without_which).min_by_key(Vec::len)
            }
            Self::Either(choice) => {
                let terms = choice.by_term.iter().map(|(term, _)| *term);
                choice.others.is_empty().then(|| terms.collect())
            }
            Self::Any | Self::Me | Self::Known | Self::Among(..) | Self::Not(_) => None,
        }
    }

    /// Whether an address is meant, whose it is being known.
    fn holds(&self, whose: Somebody<'_>, at: At<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Me => whose.me,
            Self::Known => whose.terms.is_some(),
            Self::Terms(wanted) => whose.terms.is_some_and(|terms| meet(wanted, terms)),
            Self::Among(term, ranges) => match at {
                At::Place(terms) => terms.binary_search(term).is_ok(),
                At::Address(at) => within(ranges, at),
            },
            Self::Not(inner) => !inner.holds(whose, at),
            Self::All(members) => members.iter().all(|member| member.holds(whose, at)),
            Self::Either(choice) => choice.holds(whose, at),
        }
    }

    /// Whether a host of a kind is meant, itself being who enforces, where no address is written in this: it does not matter
    /// which of its addresses is asked about.
    pub(super) fn holds_anywhere(&self, answers: &Answers) -> bool {
        let me = Somebody { terms: Some(&answers.terms), me: true };
        self.holds(me, At::Address(0))
    }

    /// Whether others must know hosts of a kind to know what is meant.
    pub(super) fn needs(&self, answers: &Answers, vocabulary: &Vocabulary) -> bool {
        let host = Somebody { terms: Some(&answers.terms), me: false };
        let nobody = Somebody { terms: None, me: false };
        let differs = |place: &u32| {
            let at = At::Place(vocabulary.at(*place));
            self.holds(host, at) != self.holds(nobody, at)
        };
        answers.places.iter().any(differs)
    }

    /// Whether a rule that has this at one end says anything about a host of a kind: one of its addresses is meant, or one
    /// of loopback. Where nobody knows its addresses, any may be its own. `borders` are its own.
    pub(super) fn concerns(
        &self,
        answers: &Answers,
        vocabulary: &Vocabulary,
        borders: &Borders,
    ) -> bool {
        let me = Somebody { terms: Some(&answers.terms), me: true };
        let holds = |at: &u128| self.holds(me, At::Address(*at));
        if answers.places.is_empty() {
            return borders.all.iter().any(holds);
        }
        let place = |place: &u32| self.holds(me, At::Place(vocabulary.at(*place)));
        answers.places.iter().any(place) || borders.loopback.iter().any(holds)
    }

    /// Who may be meant at all: of several parts that all have to hold, by the one that fewest may be meant by.
    pub(super) fn anchors(&self, weigh: &impl Fn(Term) -> usize) -> Anchors {
        match self {
            Self::Terms(terms) => {
                Anchors::Terms { terms: terms.to_vec(), placeless: false, loopback: false }
            }
            Self::Among(term, ranges) => {
                let loopback = Address::LOOPBACK_V4.bits() & !0xff_ffff;
                let loopback = [loopback, Address::LOOPBACK_V6.bits()];
                let touches = |&(first, last): &(u128, u128)| {
                    let [v4, v6] = loopback;
                    first <= v4 + 0xff_ffff && v4 <= last || (first..=last).contains(&v6)
                };
                Anchors::Terms {
                    terms: vec![*term],
                    placeless: true,
                    loopback: ranges.iter().any(touches),
                }
            }
            Self::Any | Self::Me | Self::Known | Self::Not(_) => Anchors::None,
            Self::All(members) => {
                let weight = |anchors: &Anchors| match anchors {
                    Anchors::None => (true, 0),
                    Anchors::Terms { terms, placeless, loopback } => {
                        let sum = terms.iter().map(|term| weigh(*term)).sum::<usize>();
                        (*loopback, sum.saturating_add(usize::from(*placeless)))
                    }
                };
                let all = members.iter().map(|member| member.anchors(weigh));
                let found = all.filter(|it| *it != Anchors::None).min_by_key(weight);
                found.unwrap_or(Anchors::None)
            }
            Self::Either(choice) => {
                let (mut all, mut anyones, mut here) = (Vec::new(), false, false);
                for member in &choice.members {
                    match member.anchors(weigh) {
                        Anchors::None => return Anchors::None,
                        Anchors::Terms { terms, placeless, loopback } => {
                            all.extend(terms);
                            anyones |= placeless;
                            here |= loopback;
                        }
                    }
                }
                all.sort_unstable();
                all.dedup();
                Anchors::Terms { terms: all, placeless: anyones, loopback: here }
            }
        }
    }
}

fn within(ranges: &[(u128, u128)], at: u128) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&at))
}

/// Whether two ascending lists have something in common; `wanted` is the shorter one mostly.
fn meet(wanted: &[Term], terms: &[Term]) -> bool {
    if wanted.len() <= terms.len() {
        wanted.iter().any(|term| terms.binary_search(term).is_ok())
    } else {
        terms.iter().any(|term| wanted.binary_search(term).is_ok())
    }
}

/// One address of each stretch that a selector can tell from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Borders {
    all: Box<[u128]>,
    /// Those on loopback.
    loopback: Box<[u128]>,
}

impl Borders {
    /// Of the addresses that are written in a selector.
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
        Self { all: all.into(), loopback }
    }
}
