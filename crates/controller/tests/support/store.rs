//! A store in memory that compares and swaps, and a model that follows it.

use std::collections::BTreeMap;

use controller::{Batch, Change, Digest, Model};

/// A batch expected something else of this key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict(pub(crate) String);

/// Records, and a controller's model of them.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) records: BTreeMap<String, Vec<u8>>,
    pub(crate) model: Model,
}

impl Store {
    /// All of a batch; the model follows. What is loaded anew is the same model.
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<(), Conflict> {
        let changes = swap(&mut self.records, batch)?;
        self.model.apply(changes).unwrap();
        let loaded = Model::load(self.records.clone()).unwrap();
        assert_eq!(format!("{loaded:?}"), format!("{:?}", self.model));
        Ok(())
    }
}

/// All of it, or nothing.
pub(crate) fn swap(
    records: &mut BTreeMap<String, Vec<u8>>,
    batch: Batch,
) -> Result<Vec<Change>, Conflict> {
    let Batch { pieces, expect, put, remove } = batch;
    assert!(expect.len() <= 120 && put.len() + remove.len() <= 120, "etcd would refuse it");
    for (key, wanted) in expect {
        if records.get(&key).map(|value| Digest::of(value)) != wanted {
            return Err(Conflict(key));
        }
    }
    let mut changes = Vec::new();
    for (key, value) in pieces.into_iter().chain(put) {
        records.insert(key.clone(), value.clone());
        changes.push(Change { key, value: Some(value) });
    }
    for key in remove {
        if records.remove(&key).is_some() {
            changes.push(Change { key, value: None });
        }
    }
    Ok(changes)
}
