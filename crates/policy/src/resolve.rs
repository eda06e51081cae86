//! Selectors and services with their names looked up.
//!
//! A selector is looked at from two sides. From *near* it is asked which of this host's addresses it means: a host or a
//! label means the whole host, whatever its address. From *far* it is the set of all addresses that it means, which is
//! what the peer is compared with. Both are the same algebra over different leaves.

mod far;
mod hosts;
mod near;
mod process;
mod services;

use crate::{
    inventory::{HOST_KEY, Host},
    policy::Policy,
    syntax::{Expression, LabelTest, Meaning, Name, Selector, Word},
};

pub(crate) use far::{AddressOrder, Far, Part};
pub(crate) use near::{Eye, Near, NearNames};
pub(crate) use process::{Who, is_any_process, placed, who};
pub(crate) use services::ServiceNames;

/// Whether a host passes a label test.
pub(crate) fn passes(host: &Host, key: &Word, test: &LabelTest) -> bool {
    let value = if key.text == HOST_KEY {
        Some(host.id.as_str())
    } else {
        host.labels.get(&key.text).map(String::as_str)
    };
    let is = |word: &Word| value == Some(word.text.as_str());
    match test {
        LabelTest::Is(word) => is(word),
        LabelTest::IsNot(word) => !is(word),
        LabelTest::In(words) => words.iter().any(is),
        LabelTest::NotIn(words) => !words.iter().any(is),
        LabelTest::Present => value.is_some(),
    }
}

/// Whether `selector` is `any`, perhaps by a name.
pub(crate) fn is_any(selector: &Selector, policy: &Policy) -> bool {
    let mut selector = selector;
    loop {
        match &*selector.expression {
            Expression::Any => return true,
            Expression::Named(word) => match policy.meaning(word) {
                Some(Meaning::Selector(meant)) => selector = meant,
                Some(Meaning::Services(_)) | None => return false,
            },
            Expression::Me
            | Expression::Addresses(_)
            | Expression::Label { .. }
            | Expression::Not(_)
            | Expression::AllOf(_)
            | Expression::AnyOf(_)
            | Expression::Except(..) => return false,
        }
    }
}

/// The definitions that `selector` uses, directly or through others, each after those it uses.
pub(crate) fn needed<'a>(selector: &Selector, policy: &'a Policy) -> Vec<(&'a Name, &'a Selector)> {
    let mut wanted: Vec<&str> = selector.words();
    wanted.retain(|word| policy.meaning(word).is_some());
    if wanted.is_empty() {
        return Vec::new();
    }
    let mut wanted: std::collections::BTreeSet<&str> = wanted.into_iter().collect();
    let names: Vec<&Name> = policy.names_in_order().collect();
    let mut found = Vec::new();
    for name in names.into_iter().rev() {
        if let Meaning::Selector(meant) = &name.means
            && wanted.contains(name.name.text.as_str())
        {
            wanted.extend(meant.words());
            found.push((name, meant));
        }
    }
    found.reverse();
    found
}
