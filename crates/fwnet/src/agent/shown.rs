//! The last status that the core wrote down, for those who ask while it is busy: a list of a million lines that is
//! imported, or thousands of connections that are ended, hold it for seconds.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::Core;
use crate::api::routes::status::Status;

/// Where it is written down: the core's end, and that of the API.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown(Arc<Mutex<Option<(Status, Timestamp)>>>);

impl Shown {
    /// Writes down what is true now.
    pub(crate) fn write(&self, core: &Core) {
        let status = (Status::of(core), Timestamp::now());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    /// What was true when the core began what it is at; `None` before it wrote anything.
    pub(crate) fn busy(&self) -> Option<Status> {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        shown.map(|(status, written)| Status { busy_since: Some(written), ..status })
    }
}
