//! Selectors that can match nothing by construction, whatever hosts there are: `role=a & role=b`, disjoint prefixes,
//! something except itself.
//!
//! Each selector becomes a list of conjunctions of what an address must fulfil, `not` pushed down to the tests. What is
//! too much work or cannot be said in a conjunction counts as "can match": nothing is reported that might match.

mod conjunction;

use std::collections::BTreeMap;

use image::AddressSet;
use verdict::Address;

use self::conjunction::Conjunction;
use super::{names::Found, walk};
use crate::{
    diagnostic::{Code, Diagnostic, Diagnostics, SourceIndex},
    inventory::HOST_KEY,
    limits::CONJUNCTIONS_MAX,
    roll::Roll,
    syntax::{Document, Expression, LabelTest, Meaning, Selector, Statement, Word},
};

/// Conjunctions that are joined during one check before everything else counts as "can match".
const WORK_MAX: usize = 1_000_000;

/// Ways to fulfil a selector; none means that nothing can.
type Ways<'a> = Vec<Conjunction<'a>>;

struct Search<'a, 'r> {
    source: SourceIndex,
    roll: Option<&'a dyn Roll>,
    /// What each name's selector, and its complement, can be fulfilled by.
    names: BTreeMap<&'a str, (Ways<'a>, Ways<'a>)>,
    work: usize,
    report: &'r mut Diagnostics,
}

pub(super) fn find(
    source: SourceIndex,
    document: &Document,
    found: &Found,
    roll: Option<&dyn Roll>,
    report: &mut Diagnostics,
) {
    let mut search = Search { source, roll, names: BTreeMap::new(), work: WORK_MAX, report };
    for &at in &found.order {
        let Some(Statement::Name(name)) =
            document.lines.get(at).and_then(|line| line.statement.as_ref())
        else {
            continue;
        };
        let Meaning::Selector(selector) = &name.means else { continue };
        let ways = search.ways(selector, true);
        let complement = search.ways(selector, false);
        search.names.insert(&name.name.text, (ways, complement));
    }
    for (_, _, statement) in walk::numbered(document) {
        if !matches!(statement, Statement::Name(_)) {
            for selector in statement.selectors() {
                search.ways(selector, true);
            }
        }
    }
}

impl<'a> Search<'a, '_> {
    /// Ways to be in `selector`, or to be outside it. Reports, for those inside, where none is left.
    fn ways(&mut self, selector: &'a Selector, inside: bool) -> Ways<'a> {
        match &*selector.expression {
            Expression::Any => truth(inside),
            Expression::Me => truth(true),
            Expression::Named(word) => self.named(word, inside),
            Expression::Addresses(_) => one(Conjunction::of_addresses(
                self.address_set(std::slice::from_ref(selector), inside),
            )),
            Expression::Label { key, test } => label(key, test, inside),
            Expression::Not(inner) => {
                let ways = self.ways(inner, !inside);
                self.reported(selector, ways, inside, true)
            }
            Expression::AllOf(members) => {
                let ways: Vec<Ways<'a>> =
                    members.iter().map(|member| self.ways(member, inside)).collect();
                let possible = ways.iter().all(|ways| !ways.is_empty());
                let joined = if inside { self.all(ways) } else { self.any(ways) };
                self.reported(selector, joined, inside, possible)
            }
            Expression::AnyOf(members) => {
                // A list of a thousand prefixes is one set of addresses, not a thousand ways.
                let (addresses, others): (Vec<&Selector>, Vec<&'a Selector>) = members
                    .iter()
                    .partition(|member| matches!(&*member.expression, Expression::Addresses(_)));
                let mut ways: Vec<Ways<'a>> =
                    others.into_iter().map(|member| self.ways(member, inside)).collect();
                if !addresses.is_empty() {
                    ways.push(one(Conjunction::of_addresses(self.address_set(addresses, inside))));
                }
                if inside { self.any(ways) } else { self.all(ways) }
            }
            Expression::Except(from, without) => {
                let ways = vec![self.ways(from, inside), self.ways(without, !inside)];
                let possible = ways.iter().all(|ways| !ways.is_empty());
                let joined = if inside { self.all(ways) } else { self.any(ways) };
                self.reported(selector, joined, inside, possible)
            }
        }
    }

    fn reported(
        &mut self,
        selector: &Selector,
        ways: Ways<'a>,
        inside: bool,
        possible: bool,
    ) -> Ways<'a> {
        if ways.is_empty() && inside && possible {
            let text = crate::format::selector_text(selector);
            let message = if text.len() <= 80 {
                format!("`{text}` can match nothing")
            } else {
                "this can match nothing".to_owned()
            };
            self.report.push(Diagnostic::new(Code::EmptySet, self.source, selector.span, message));
            // Said once, not again for everything around it.
            return truth(true);
        }
        ways
    }

    fn named(&self, word: &'a str, inside: bool) -> Ways<'a> {
        if let Some((ways, complement)) = self.names.get(word) {
            return if inside { ways.clone() } else { complement.clone() };
        }
        let id = self.roll.and_then(|roll| roll.id(word));
        id.map_or_else(|| truth(true), |id| one(Conjunction::of_label(HOST_KEY, &[id], inside)))
    }

    fn address_set<'s>(
        &self,
        selectors: impl IntoIterator<Item = &'s Selector>,
        inside: bool,
    ) -> AddressSet {
        let ranges = selectors.into_iter().filter_map(|selector| {
            if let Expression::Addresses(addresses) = &*selector.expression {
                Some(addresses.ranges())
            } else {
                None
            }
        });
        let ends = ranges
            .flatten()
            .map(|(first, last)| (Address::from_bits(first), Address::from_bits(last)));
        let set = AddressSet::from_ranges(ends);
        if inside { set } else { set.complement() }
    }

    fn any(&mut self, ways: Vec<Ways<'a>>) -> Ways<'a> {
        let total = ways.iter().map(Vec::len).sum();
        if total > CONJUNCTIONS_MAX || !self.spend(total) {
            return truth(true);
        }
        ways.into_iter().flatten().collect()
    }

    fn all(&mut self, ways: Vec<Ways<'a>>) -> Ways<'a> {
        let mut joined = truth(true);
        for next in ways {
            if joined.len() * next.len() > CONJUNCTIONS_MAX
                || !self.spend(joined.len() * next.len())
            {
                // This member is left out: what remains can match at least as much.
                continue;
            }
            joined = joined.iter().flat_map(|a| next.iter().filter_map(|b| a.and(b))).collect();
        }
        joined
    }

    fn spend(&mut self, work: usize) -> bool {
        let enough = work <= self.work;
        self.work = self.work.saturating_sub(work);
        enough
    }
}

fn truth(holds: bool) -> Ways<'static> {
    if holds { vec![Conjunction::default()] } else { Vec::new() }
}

fn one<'a>(conjunction: Option<Conjunction<'a>>) -> Ways<'a> {
    conjunction.into_iter().collect()
}

fn label<'a>(key: &'a Word, test: &'a LabelTest, inside: bool) -> Ways<'a> {
    let key = key.text.as_str();
    match test {
        LabelTest::Present => one(Conjunction::of_presence(key, inside)),
        LabelTest::Is(value) => one(Conjunction::of_label(key, &[&value.text], inside)),
        LabelTest::In(values) => one(Conjunction::of_label(key, &texts(values), inside)),
        // Outside `key!=value` are the hosts that have it, and every address that belongs to no host.
        LabelTest::IsNot(_) | LabelTest::NotIn(_) if !inside => truth(true),
        LabelTest::IsNot(value) => one(Conjunction::of_label(key, &[&value.text], false)),
        LabelTest::NotIn(values) => one(Conjunction::of_label(key, &texts(values), false)),
    }
}

fn texts(words: &[Word]) -> Vec<&str> {
    words.iter().map(|word| word.text.as_str()).collect()
}
