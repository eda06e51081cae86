//! Who may sign what.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A role. Each has keys of its own, and a number of them that must sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Says which keys have which role. Kept offline.
    Root,
    /// Writes rules, and hands parts of that on.
    Policy,
    /// Says which versions of all documents belong together.
    Snapshot,
    /// Says, again and again, which snapshot is the newest. May be a machine.
    Timestamp,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Root, Self::Policy, Self::Snapshot, Self::Timestamp];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Policy => "policy",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.word())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.word() == text);
        found.ok_or_else(|| {
            format!("`{text}` is not a role: root, policy, snapshot and timestamp are")
        })
    }
}
