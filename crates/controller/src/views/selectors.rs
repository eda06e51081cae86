//! All distinct selectors of the versions at hand, and which hosts each means.
//!
//! A selector has its number for as long as the views live. One that no document has any more is taken out of the indexes
//! and found again when it comes back; when too many of them lie around, the views are made anew ([`Selectors::idle`]).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    bound::{Anchors, Borders, Bound},
    folk::{Folk, HostNumber},
    leaf::LeafNumber,
    meant::Meant,
    vocabulary::{Answers, Ask, Term, Vocabulary},
};
use crate::digest::Digest;

/// A selector's number.
pub(super) type SelectorNumber = u32;

/// A selector.
#[derive(Debug)]
struct Known {
    bound: Bound,
    terms: Box<[Term]>,
    /// `None` if no address is written in it.
    borders: Option<Box<Borders>>,
    anchors: Anchors,
    /// Some of the digest of what is meant: the same wherever it is read.
    name: [u8; 16],
    /// Documents that have it at the end of a rule.
    rules: Vec<LeafNumber>,
    /// Documents of which it says whom they concern.
    concerned: Vec<LeafNumber>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Selectors {
    pub(super) vocabulary: Vocabulary,
    /// By the digests of what they mean.
    numbers: BTreeMap<Digest, SelectorNumber>,
    all: Vec<Known>,
    /// Selectors by a term without which they mean nobody.
    by_term: Vec<Vec<SelectorNumber>>,
    /// Those of them that mean whom nobody knows an address of, too.
    placeless: BTreeSet<SelectorNumber>,
    /// Those without such terms.
    others: BTreeSet<SelectorNumber>,
    idle: usize,
    /// What is asked since [`Selectors::settle`], and the selectors that ask.
    fresh: Vec<Ask>,
    unsettled: Vec<SelectorNumber>,
    /// Words that somebody calls hosts by since then, or not any more.
    called: BTreeSet<Term>,
}

/// What a document does with a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A rule has it at an end.
    Rule,
    /// It says whom the document concerns.
    Concern,
}

impl Selectors {
    /// The number of a selector. A new one means nobody before it is settled.
    pub(super) fn number(&mut self, meant: &Meant) -> SelectorNumber {
        let digest = Digest::of(format!("{meant:?}").as_bytes());
        if let Some(&number) = self.numbers.get(&digest) {
            return number;
        }
        let number = SelectorNumber::try_from(self.all.len()).expect("fewer than 2^32 selectors");
        let mut terms = Vec::new();
        let bound = Bound::of(meant, &mut self.vocabulary, &mut self.fresh, &mut terms);
        terms.sort_unstable();
        terms.dedup();
        let mut ranges = false;
        meant.each_range(&mut |_, _| ranges = true);
        self.all.push(Known {
            bound,
            terms: terms.into(),
            borders: ranges.then(|| Box::new(Borders::of(meant))),
            anchors: Anchors::None,
            name: digest.half(),
            rules: Vec::new(),
            concerned: Vec::new(),
        });
        self.numbers.insert(digest, number);
        self.idle += 1;
        number
    }

    /// A document has a selector from now on (or not any more).
    pub(super) fn have(&mut self, number: SelectorNumber, of: Use, leaf: LeafNumber, on: bool) {
        let Some(known) = self.all.get_mut(number as usize) else { return };
        let before = known.rules.is_empty() && known.concerned.is_empty();
        let documents = match of {
            Use::Rule => &mut known.rules,
            Use::Concern => &mut known.concerned,
        };
        if on {
            documents.push(leaf);
        } else if let Some(at) = documents.iter().position(|it| *it == leaf) {
            documents.swap_remove(at);
        }
        let after = known.rules.is_empty() && known.concerned.is_empty();
        if before == after {
            return;
        }
        let terms = known.terms.clone();
        for term in terms {
            if self.vocabulary.uses(term, before) && !self.called.remove(&term) {
                self.called.insert(term);
            }
        }
        if before {
            self.idle -= 1;
            self.unsettled.push(number);
        } else {
            self.idle += 1;
            self.index(number, false);
        }
    }

    /// Selectors that no document has.
    pub(super) fn idle(&self) -> usize {
        self.idle
    }

    /// Those that documents have.
    pub(super) fn in_use(&self) -> usize {
        self.all.len() - self.idle
    }

    /// Sorts the hosts by what is asked of late, and puts the selectors that ask where they are found. Kinds that came out
    /// of others, each with the one it came from.
    pub(super) fn settle(&mut self, folk: &mut Folk) -> Vec<(u32, u32)> {
        self.by_term.resize_with(self.vocabulary.terms(), Vec::new);
        let fresh = std::mem::take(&mut self.fresh);
        let moved = folk.regroup(&fresh, &mut self.vocabulary);
        let unsettled: BTreeSet<SelectorNumber> =
            std::mem::take(&mut self.unsettled).into_iter().collect();
        for number in unsettled {
            let Some(known) = self.all.get_mut(number as usize) else { continue };
            if known.rules.is_empty() && known.concerned.is_empty() {
                continue;
            }
            known.anchors = known.bound.anchors(&|term| folk.count_with(term));
            self.index(number, true);
        }
        moved
    }

    fn index(&mut self, number: SelectorNumber, on: bool) {
        let Some(known) = self.all.get(number as usize) else { return };
        let set = |of: &mut BTreeSet<SelectorNumber>| {
            if on {
                of.insert(number)
            } else {
                of.remove(&number)
            };
        };
        match &known.anchors {
            Anchors::None | Anchors::Terms { loopback: true, .. } => set(&mut self.others),
            Anchors::Terms { terms, placeless, loopback: false } => {
                if *placeless {
                    set(&mut self.placeless);
                }
                for term in terms {
                    let Some(there) = self.by_term.get_mut(*term as usize) else { continue };
                    if on {
                        there.push(number);
                    } else {
                        there.retain(|it| *it != number);
                    }
                }
            }
        }
    }

    /// The words that hosts are called by since this was last asked, or not any more.
    pub(super) fn called(&mut self) -> BTreeSet<Term> {
        std::mem::take(&mut self.called)
    }

    fn known(&self, number: SelectorNumber) -> Option<&Known> {
        self.all.get(number as usize)
    }

    /// Some of the digest of what is meant.
    pub(super) fn name(&self, number: SelectorNumber) -> [u8; 16] {
        self.known(number).map_or([0; 16], |known| known.name)
    }

    /// Documents that have a selector at the end of a rule.
    pub(super) fn rules(&self, number: SelectorNumber) -> &[LeafNumber] {
        self.known(number).map_or(&[], |known| &known.rules)
    }

    /// Documents of which a selector says whom they concern.
    pub(super) fn concerned(&self, number: SelectorNumber) -> &[LeafNumber] {
        self.known(number).map_or(&[], |known| &known.concerned)
    }

    /// Whether others must know hosts of a kind to know what is meant.
    pub(super) fn needs(&self, number: SelectorNumber, answers: &Answers) -> bool {
        self.known(number).is_some_and(|known| known.bound.needs(answers, &self.vocabulary))
    }

    /// Whether a selector selects hosts of a kind.
    pub(super) fn concerns(&self, number: SelectorNumber, answers: &Answers) -> bool {
        self.known(number).is_some_and(|known| match &known.borders {
            Some(borders) => known.bound.concerns(answers, &self.vocabulary, borders),
            None => known.bound.holds_anywhere(answers),
        })
    }

    /// The selectors in use that may mean hosts of a kind, ascending.
    fn candidates(&self, answers: &Answers) -> Vec<SelectorNumber> {
        let of = |term: &Term| self.by_term.get(*term as usize).into_iter().flatten();
        let places = answers.places.iter().flat_map(|place| self.vocabulary.at(*place));
        let mut found: Vec<SelectorNumber> =
            answers.terms.iter().chain(places).flat_map(of).chain(&self.others).copied().collect();
        if answers.places.is_empty() {
            found.extend(&self.placeless);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The selectors that select hosts of a kind, ascending.
    pub(super) fn selecting(&self, answers: &Answers) -> Vec<SelectorNumber> {
        let mut found = self.candidates(answers);
        found.retain(|number| self.concerns(*number, answers));
        found
    }

    /// The selectors for which others must know hosts of a kind, ascending.
    pub(super) fn needing(&self, answers: &Answers) -> Vec<SelectorNumber> {
        let mut found = self.candidates(answers);
        found.retain(|number| self.needs(*number, answers));
        found
    }

    /// Kinds that a selector selects, ascending.
    pub(super) fn selected(&self, number: SelectorNumber, folk: &Folk) -> Vec<u32> {
        let Some(known) = self.known(number) else { return Vec::new() };
        let mut kinds = match &known.anchors {
            Anchors::None | Anchors::Terms { loopback: true, .. } => folk.all_kinds(),
            Anchors::Terms { terms, placeless, loopback: false } => {
                let mut kinds = folk.with(terms);
                if *placeless {
                    kinds.extend(folk.placeless());
                    kinds.sort_unstable();
                    kinds.dedup();
                }
                kinds
            }
        };
        kinds.retain(|kind| folk.kind(*kind).is_some_and(|it| self.concerns(number, &it.answers)));
        kinds
    }

    /// Hosts that others must know to know what a selector means; none that is shut off.
    pub(super) fn members(&self, number: SelectorNumber, folk: &Folk) -> Vec<HostNumber> {
        let Some(known) = self.known(number) else { return Vec::new() };
        let kinds = match &known.anchors {
            Anchors::None => folk.all_kinds(),
            Anchors::Terms { terms, .. } => folk.with(terms),
        };
        let needed = kinds.iter().filter_map(|kind| folk.kind(*kind));
        let needed = needed.filter(|kind| known.bound.needs(&kind.answers, &self.vocabulary));
        needed.flat_map(|kind| &kind.hosts).copied().collect()
    }
}
