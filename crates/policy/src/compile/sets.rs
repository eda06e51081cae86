//! The address sets of the peers that rules name, each selector worked out once.

use std::{collections::BTreeMap, sync::Arc};

use image::AddressSet;

use super::Placed;
use crate::{
    diagnostic::SourceIndex,
    facts::Here,
    format::selector_text,
    inventory::Inventory,
    policy::Policy,
    resolve::{AddressOrder, Far, Near, Part, needed},
    syntax::{Expression, LabelTest, Selector},
};

/// A selector that stands for peers. Selectors of one document that are written alike are one.
#[derive(Clone, Debug)]
pub(crate) struct SetKey {
    pub(crate) source: SourceIndex,
    pub(crate) part: Part,
    text: String,
    pub(crate) selector: Selector,
}

impl SetKey {
    pub(crate) fn new(policy: &Policy, selector: &Selector, part: Part) -> Self {
        let text = selector_text(selector);
        Self { source: policy.source, part, text, selector: selector.clone() }
    }

    fn identity(&self) -> (SourceIndex, Part, &str) {
        (self.source, self.part, &self.text)
    }
}

impl PartialEq for SetKey {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for SetKey {}

impl PartialOrd for SetKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SetKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.identity().cmp(&other.identity())
    }
}

/// What a relabelled host can change the meaning of: a label with its value, or `None` for whether it is there at all.
type Term = (String, Option<String>);

/// What each key stands for at this host, and which keys speak of which label.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sets {
    sets: BTreeMap<Arc<SetKey>, AddressSet>,
    terms: BTreeMap<Term, Vec<Arc<SetKey>>>,
}

impl Sets {
    /// Works out what `placed` rules of `policy` name and is not known yet.
    pub(crate) fn fill<'a>(
        &mut self,
        policy: &Policy,
        placed: impl Iterator<Item = &'a Placed>,
        inventory: &Inventory,
        here: &Here,
        order: &AddressOrder,
    ) {
        let mut far = Far::new(policy, inventory, here, order);
        for key in placed.flat_map(|placed| &placed.halves).filter_map(|half| half.remote.as_ref())
        {
            if !self.sets.contains_key(key) {
                let key = Arc::new(key.clone());
                let set = far.addresses(&key.selector, key.part);
                self.sets.insert(key, set);
            }
        }
    }

    /// Notes which labels the keys of `policy` speak of, for [`Sets::speaking_of`]. Once for each key.
    pub(crate) fn index<'a>(&mut self, policy: &Policy, keys: impl Iterator<Item = &'a SetKey>) {
        for key in keys {
            let Some((key, _)) = self.sets.get_key_value(key) else { continue };
            for term in terms(&key.selector, policy) {
                let speaking = self.terms.entry(term).or_default();
                if !speaking.contains(key) {
                    speaking.push(Arc::clone(key));
                }
            }
        }
    }

    /// The keys that may mean another set when a host's labels change from `old` to `new`, each once.
    pub(crate) fn speaking_of(&self, old: &Labels, new: &Labels) -> Vec<Arc<SetKey>> {
        let mut found: Vec<Arc<SetKey>> = Vec::new();
        for key in old.keys().chain(new.keys()) {
            let (before, after) = (old.get(key), new.get(key));
            if before == after {
                continue;
            }
            let presence = (before.is_some() != after.is_some()).then_some(None);
            let values = [before, after].into_iter().flatten().map(|value| Some(value.clone()));
            for term in values.chain(presence).map(|value| (key.clone(), value)) {
                found.extend(self.terms.get(&term).into_iter().flatten().cloned());
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Every key that is known.
    pub(crate) fn keys(&self) -> Vec<Arc<SetKey>> {
        self.sets.keys().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.sets.len()
    }

    pub(crate) fn knows(&self, key: &SetKey) -> bool {
        self.sets.contains_key(key)
    }

    /// Makes `key` mean, of the addresses in `domain`, those that `near` means. Says whether that changed anything.
    pub(crate) fn patch(&mut self, key: &SetKey, domain: &AddressSet, near: &Near) -> bool {
        let Some(set) = self.sets.get_mut(key) else { return false };
        let domain = key.part.of(domain.clone());
        let wanted = near.within(&domain);
        let mut single = domain.ranges();
        if single
            .all(|(first, last)| first == last && set.contains(first) == wanted.contains(first))
        {
            return false;
        }
        let patched = set.difference(&domain).union(&wanted);
        let changed = patched != *set;
        *set = patched;
        changed
    }

    pub(crate) fn get(&self, key: &SetKey) -> Option<&AddressSet> {
        self.sets.get(key)
    }
}

/// A host's labels.
type Labels = BTreeMap<String, String>;

/// The labels that a selector speaks of, by itself or through names.
fn terms(selector: &Selector, policy: &Policy) -> Vec<Term> {
    let mut terms = Vec::new();
    let names = needed(selector, policy);
    for selector in names.into_iter().map(|(_, meant)| meant).chain([selector]) {
        selector.each(&mut |selector| {
            if let Expression::Label { key, test } = &*selector.expression {
                let values = match test {
                    LabelTest::Is(value) | LabelTest::IsNot(value) => std::slice::from_ref(value),
                    LabelTest::In(values) | LabelTest::NotIn(values) => values.as_slice(),
                    LabelTest::Present => &[],
                };
                let present = (*test == LabelTest::Present).then_some(None);
                let values = values.iter().map(|value| Some(value.text.clone()));
                terms.extend(values.chain(present).map(|value| (key.text.clone(), value)));
            }
        });
    }
    terms.sort_unstable();
    terms.dedup();
    terms
}
