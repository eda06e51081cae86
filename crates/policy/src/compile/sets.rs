//! The address sets of the peers that rules name, each selector worked out once.

use std::collections::BTreeMap;

use image::AddressSet;

use super::Placed;
use crate::{
    diagnostic::SourceIndex,
    facts::Here,
    format::selector_text,
    inventory::Inventory,
    policy::Policy,
    resolve::{AddressOrder, Far, Part},
    syntax::Selector,
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

/// What each key stands for at this host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sets(BTreeMap<SetKey, AddressSet>);

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
            if !self.0.contains_key(key) {
                self.0.insert(key.clone(), far.addresses(&key.selector, key.part));
            }
        }
    }

    pub(crate) fn get(&self, key: &SetKey) -> Option<&AddressSet> {
        self.0.get(key)
    }
}
