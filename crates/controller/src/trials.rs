//! The tests in the policy, run again whenever hosts or labels change.
//!
//! Running them may take long, so they are a job of their own: [`Trial::of`] takes what it needs out of the model,
//! [`Trial::run`] can run wherever the shell likes, and what comes out is told to [`Trials::ran`].

use jiff::Timestamp;
use policy::{Inventory, TestResult, TrialError, run_tests};
use serde::Serialize;

use crate::{
    edition::{Edition, inventory},
    model::Model,
    orders::Refusal,
};

/// Tests to be run.
#[derive(Debug)]
pub struct Trial {
    edition: Edition,
    inventory: Inventory,
    /// Which changes it saw.
    serial: u64,
}

/// How tests came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Those that fail, or why none could be run.
    pub failing: Vec<String>,
    serial: u64,
}

/// A test that fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// Which, and the first flow with another answer.
    pub test: String,
    /// What changed before it began to fail; the last changes first, where several were looked at together.
    pub since: Vec<String>,
}

/// Which tests fail, and since when.
#[derive(Clone, Debug, Default)]
pub struct Trials {
    failing: Vec<Failing>,
    /// Changes since the last run, the newest last.
    changes: Vec<String>,
    /// How many changes there have been, and how many the last run saw.
    serial: u64,
    seen: u64,
    /// How many were left out of `changes`.
    running: bool,
}

/// Changes that are named for one run.
const CHANGES_MAX: usize = 100;

impl Trials {
    /// Something changed that tests may fail by.
    pub fn changed(&mut self, what: String) {
        self.serial += 1;
        if self.changes.len() == CHANGES_MAX {
            self.changes.remove(0);
        }
        self.changes.push(what);
    }

    /// Whether tests are to be run.
    pub fn due(&self) -> bool {
        self.seen < self.serial && !self.running
    }

    /// The job: runs the tests of the current version. `None` if nothing is to be run now.
    ///
    /// # Errors
    /// If the store lacks a part of the version.
    pub fn begin(&mut self, model: &Model) -> Result<Option<Trial>, Refusal> {
        if !self.due() {
            return Ok(None);
        }
        let trial = Trial::of(model, self.serial)?;
        if trial.is_none() {
            self.seen = self.serial;
            self.changes.clear();
            self.failing.clear();
        }
        self.running = trial.is_some();
        Ok(trial)
    }

    /// How it came out.
    pub fn ran(&mut self, outcome: Outcome) {
        self.running = false;
        let fresh = self.serial.saturating_sub(outcome.serial);
        let left = self.changes.len().saturating_sub(usize::try_from(fresh).unwrap_or(usize::MAX));
        let mut since: Vec<String> = self.changes.drain(..left).collect();
        since.reverse();
        let before = std::mem::take(&mut self.failing);
        self.seen = outcome.serial;
        let known = |test: &String| before.iter().find(|failing| failing.test == *test).cloned();
        self.failing = outcome
            .failing
            .into_iter()
            .map(|test| known(&test).unwrap_or_else(|| Failing { test, since: since.clone() }))
            .collect();
    }

    /// Those that fail.
    pub fn failing(&self) -> &[Failing] {
        &self.failing
    }
}

impl Trial {
    /// The tests of the current version; `None` if it has none.
    ///
    /// # Errors
    /// If the store lacks a part of the version.
    fn of(model: &Model, serial: u64) -> Result<Option<Self>, Refusal> {
        let Some(current) = model.current() else { return Ok(None) };
        let edition = Edition::read(model, current.version())?;
        if !edition.has_tests() {
            return Ok(None);
        }
        Ok(Some(Self { edition, inventory: inventory(model), serial }))
    }

    /// Runs them.
    pub fn run(&self, now: Timestamp) -> Outcome {
        let checked = self.edition.check(&self.inventory, now);
        let failing = if checked.diagnostics.has_errors() {
            vec![checked.short()]
        } else {
            match run_tests(&checked, &self.inventory, now) {
                Ok(results) => {
                    results.iter().filter(|it| !it.passed).map(TestResult::line).collect()
                }
                Err(error) => vec![told(&error)],
            }
        };
        Outcome { failing, serial: self.serial }
    }
}

/// An error with what is behind it.
pub(crate) fn told(error: &TrialError) -> String {
    let TrialError::Compile { host: _, source } = error;
    format!("{error}: {source}")
}
