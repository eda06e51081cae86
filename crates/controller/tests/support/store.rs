//! A store in memory, and a model that follows it.

use std::collections::BTreeMap;

use controller::{Batch, Model};

use crate::swap::{Conflict, swap};

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
