//! An edition that is to be applied: compiled, and held against what is in force, before anything changes.

use std::sync::Arc;

use ::agent::edition::{Edition, Written};

use super::{
    core::{Core, edition_of},
    guard,
    making::Making,
};
use crate::{documents::Documents, orders::Ready, rules, trial};

/// What is wrong with rules that somebody wants applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsound {
    /// They have errors.
    #[error("the policy has errors")]
    Errors {
        /// Where, with carets.
        shown: String,
    },
    /// Tests that stand in them fail.
    #[error("{failed} of the policy's tests fail")]
    Tests {
        /// How many.
        failed: usize,
        /// Which, with the rules.
        shown: String,
    },
    /// A file cannot be used.
    #[error("{0:#}")]
    File(anyhow::Error),
}

/// Checks rules and runs the tests that stand in them; says how many passed. Touches nothing.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn sound(written: &Written) -> Result<usize, Unsound> {
    let checked = rules::checked(written, jiff::Timestamp::now()).map_err(Unsound::File)?;
    let Some(documents) = checked else { return Ok(0) };
    let Documents { checked, .. } = &documents;
    if checked.diagnostics.has_errors() {
        return Err(Unsound::Errors { shown: checked.render() });
    }
    if is_assigned(written) {
        // A test may speak of hosts that are not known here: the controller has run them all.
        return Ok(0);
    }
    let results = trial::run(&documents).map_err(Unsound::File)?;
    match results.iter().filter(|result| !result.passed).count() {
        0 => Ok(results.len()),
        failed => Err(Unsound::Tests { failed, shown: trial::text(&results, checked) }),
    }
}

fn is_assigned(written: &Written) -> bool {
    matches!(written, Written::Documents { target: Some(_), .. })
}

/// A compiled draft.
pub(crate) struct Draft {
    /// What would be in force.
    pub(crate) new: Arc<Ready>,
    /// What it would cut, each in one sentence.
    pub(crate) cuts: Vec<String>,
}

impl Core {
    /// Compiles an edition as the next one, for this host as it is now.
    ///
    /// # Errors
    /// Where it does not fit, or names a host that nobody knows.
    pub(crate) fn draft(&mut self, edition: &Edition) -> anyhow::Result<Draft> {
        let now = self.now();
        let version = self.kept.store.next_version();
        let fronts = self.kept.store.fronts()?;
        let edition = Edition { version, ..edition.clone() };
        let state = self.kept.store.state();
        let find = |version| edition_of(state, Some(&edition), version);
        let (place, ended_at) = (&self.settled.place, self.ended_at);
        let controllers = &self.controllers;
        let known = None;
        let making = Making { place, controllers, fronts, known, ended_at, edition: &find };
        let new = making.now_only(version, &now)?;
        let cuts = guard::cuts(Some(&self.force.ready), &new, edition.applied.session.as_deref());
        Ok(Draft { new, cuts })
    }
}
