//! Sets of pods and addresses as selectors: who is in all of some and in none of others.

use image::AddressSet;
use verdict::Address;

use super::super::{
    area::Region,
    spell::{all_of, any_of, except},
};
use crate::syntax::{Expression, LabelTest, Selector};

/// Who is in every selector of `all` and in none of `none`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    all: Vec<Selector>,
    none: Vec<Selector>,
    empty: bool,
}

impl Group {
    /// Whoever there is.
    pub(super) fn everyone() -> Self {
        Self { all: Vec::new(), none: Vec::new(), empty: false }
    }

    pub(super) fn of(selector: Selector) -> Self {
        let all = if *selector.expression == Expression::Any { Vec::new() } else { vec![selector] };
        Self { all, ..Self::everyone() }
    }

    /// Without those of `selectors`.
    pub(super) fn but(mut self, selectors: &[Selector]) -> Self {
        self.none.extend_from_slice(selectors);
        self
    }

    /// With `first` in front: `me` for the end that a rule is about.
    pub(super) fn selector(&self, first: Option<Selector>) -> Selector {
        let mut wanted: Vec<Selector> = first.into_iter().collect();
        wanted.extend(self.all.iter().flat_map(members));
        let mut distinct: Vec<Selector> = Vec::new();
        for member in wanted {
            if !distinct.contains(&member) {
                distinct.push(member);
            }
        }
        let wanted = all_of(distinct);
        match any_of(self.none.clone()) {
            Some(unwanted) => except(wanted, unwanted),
            None => wanted,
        }
    }
}

/// What a conjunction is made of; anything else is made of itself.
pub(super) fn members(selector: &Selector) -> Vec<Selector> {
    match &*selector.expression {
        Expression::Any => Vec::new(),
        Expression::AllOf(members) => members.clone(),
        Expression::Me
        | Expression::Named(_)
        | Expression::Addresses(_)
        | Expression::Label { .. }
        | Expression::Not(_)
        | Expression::AnyOf(_)
        | Expression::Except(..) => vec![selector.clone()],
    }
}

impl Region for Group {
    fn meet(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.all.extend(other.all.iter().filter(|own| !self.all.contains(own)).cloned());
        both.none.extend(other.none.iter().filter(|own| !self.none.contains(own)).cloned());
        both.empty |= other.empty;
        both
    }

    /// What is taken away is a group as a policy gives it: at most one selector.
    fn minus(&self, other: &Self) -> Self {
        let mut rest = self.clone();
        match other.all.as_slice() {
            [] => rest.empty = true,
            [one] => {
                if !rest.none.contains(one) {
                    rest.none.push(one.clone());
                }
            }
            [_, _, ..] => rest.none.push(all_of(other.all.clone())),
        }
        rest
    }

    fn is_empty(&self) -> bool {
        self.empty
            || self.all.iter().any(|own| self.none.contains(own))
            || contradicts(&self.all.iter().flat_map(members).collect::<Vec<_>>())
    }
}

/// Whether selectors that all have to hold cannot: two values of one label, or addresses that have none in common.
fn contradicts(members: &[Selector]) -> bool {
    let mut values: Vec<(&str, &str)> = Vec::new();
    let mut addresses: Option<AddressSet> = None;
    for member in members {
        match &*member.expression {
            Expression::Label { key, test: LabelTest::Is(value) } => {
                let known = values.iter().find(|(known, _)| *known == key.text);
                if known.is_some_and(|(_, known)| *known != value.text) {
                    return true;
                }
                values.push((&key.text, &value.text));
            }
            Expression::Addresses(range) => {
                let set =
                    AddressSet::from_ranges(range.ranges().map(|(first, last)| {
                        (Address::from_bits(first), Address::from_bits(last))
                    }));
                let common =
                    addresses.map_or_else(|| set.clone(), |known| known.intersection(&set));
                if common.is_empty() {
                    return true;
                }
                addresses = Some(common);
            }
            Expression::Any
            | Expression::Me
            | Expression::Named(_)
            | Expression::Label { .. }
            | Expression::Not(_)
            | Expression::AllOf(_)
            | Expression::AnyOf(_)
            | Expression::Except(..) => {}
        }
    }
    false
}
