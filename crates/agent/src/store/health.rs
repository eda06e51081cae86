//! What a store found wrong, for whoever asks for the status.

use std::fmt;

use super::Fault;

/// One thing that was not as it was left.
#[derive(Debug)]
pub struct Finding {
    /// The name of the file.
    pub file: String,
    /// What is wrong with it.
    pub fault: Fault,
    /// What is used in its place.
    pub used: Used,
}

/// What is used in the place of a file that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Used {
    /// The one before it, in the file of this name.
    Before(String),
    /// There is none that can be used.
    Nothing,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.file, self.fault)?;
        let mut source = std::error::Error::source(&self.fault);
        while let Some(deeper) = source {
            write!(formatter, ": {deeper}")?;
            source = deeper.source();
        }
        match &self.used {
            Used::Before(name) => write!(formatter, "; {name} is used instead"),
            Used::Nothing => formatter.write_str("; there is no earlier one to use"),
        }
    }
}

/// How the store is. The default is that all is well.
#[derive(Debug, Default)]
pub struct Health {
    /// Files that could not be used when the store was opened, and have not been written since.
    pub findings: Vec<Finding>,
    /// Files of writes that did not finish, found when the store was opened: power was lost or the agent was killed.
    /// What was there before those writes is what counts.
    pub unfinished: Vec<String>,
    /// Why the last write did not succeed; `None` once one does.
    pub unwritten: Option<String>,
}

impl Health {
    /// Whether nothing is lost and everything can be written. A write that was cut short is no loss: nobody was told
    /// that it was done.
    pub fn is_well(&self) -> bool {
        let Self { findings, unfinished: _, unwritten } = self;
        findings.is_empty() && unwritten.is_none()
    }

    /// Whether `file` was there and nothing could be used in its place: what it said is lost.
    pub fn has_lost(&self, file: &str) -> bool {
        self.findings.iter().any(|found| found.file == file && found.used == Used::Nothing)
    }

    /// One sentence for each thing that is not well.
    pub fn sentences(&self) -> Vec<String> {
        let unfinished = |file: &String| {
            format!("{file}: a write was cut short; what was there before it is used")
        };
        let findings = self.findings.iter().map(ToString::to_string);
        let unwritten = self.unwritten.iter().cloned();
        findings.chain(self.unfinished.iter().map(unfinished)).chain(unwritten).collect()
    }
}
