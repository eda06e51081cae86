//! The hosts of a model, as far as a check of a policy asks about them: nothing is copied but the labels that there are, each
//! once.

use std::collections::{BTreeMap, BTreeSet};

use policy::Roll;

use super::Model;

/// The hosts of a model.
#[derive(Debug)]
pub(crate) struct Rolled<'a> {
    model: &'a Model,
    labels: BTreeMap<String, BTreeSet<String>>,
}

impl<'a> Rolled<'a> {
    pub(crate) fn of(model: &'a Model) -> Self {
        let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        // Of one that is shut off, others know that it is there and nothing else.
        for (_, host) in model.hosts().filter(|(_, host)| !host.quarantined) {
            for (key, value) in host.labels {
                if let Some(values) = labels.get_mut(&key) {
                    values.insert(value);
                } else {
                    labels.insert(key, BTreeSet::from([value]));
                }
            }
        }
        Self { model, labels }
    }
}

impl Roll for Rolled<'_> {
    fn id(&self, word: &str) -> Option<&str> {
        self.model.called(word)
    }

    fn has_label(&self, key: &str, value: &str) -> bool {
        self.labels.get(key).is_some_and(|values| values.contains(value))
    }

    fn keys(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.labels.keys().map(String::as_str))
    }

    fn values<'a>(&'a self, key: &'a str) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        Box::new(self.labels.get(key).into_iter().flatten().map(String::as_str))
    }

    fn words(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.model.words())
    }
}
