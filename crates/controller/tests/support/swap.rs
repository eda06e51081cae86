//! What a store that compares and swaps makes of a batch.

use std::collections::BTreeMap;

use controller::{Batch, Change, Digest};

/// A batch expected something else of this key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict(pub(crate) String);

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
