//! What a store is asked to do.

use crate::{
    digest::Digest,
    model::Model,
    records::{Key, encode},
};

/// Writes that happen all together, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Chunks of pieces. They are what their digests say whoever writes them, so they may be written before the rest, a
    /// few at a time, and stay where the rest is refused.
    pub pieces: Vec<(String, Vec<u8>)>,
    /// Records that must be as they were read: their digests, or that there is none.
    pub expect: Vec<(String, Option<Digest>)>,
    /// Records to write.
    pub put: Vec<(String, Vec<u8>)>,
    /// Records to remove; those that are not there are no matter.
    pub remove: Vec<String>,
}

impl Batch {
    /// Expects `key` to be as it is in `model`.
    pub(super) fn expecting(mut self, model: &Model, key: &Key) -> Self {
        self.expect.push((key.text(), model.digest(key)));
        self
    }

    /// Writes.
    pub(super) fn putting<T: serde::Serialize>(mut self, key: &Key, value: &T) -> Self {
        self.put.push((key.text(), encode(value)));
        self
    }

    /// Writes where `model` says that something else stood, and nobody may have changed it.
    pub(super) fn replacing<T: serde::Serialize>(
        self,
        model: &Model,
        key: &Key,
        value: &T,
    ) -> Self {
        self.expecting(model, key).putting(key, value)
    }

    /// Removes what is as it is in `model`.
    pub(super) fn removing(mut self, model: &Model, key: &Key) -> Self {
        self = self.expecting(model, key);
        self.remove.push(key.text());
        self
    }
}
