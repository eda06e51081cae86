//! What the files of the state say, beside where the host enforces, which only its shell understands. Each record holds
//! all that is needed to act on it, so that nothing depends on files elsewhere.

use serde::{Deserialize, Serialize};

use crate::{
    edition::{Applied, Edition},
    trusted::Trusted,
};

/// An edition that rolls back unless it is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// The edition.
    pub edition: Edition,
    /// The end of the time to confirm, by the clock that the kernel programs read: nanoseconds of `CLOCK_BOOTTIME`.
    pub until_boottime_ns: u64,
    /// The boot in which that clock counts (`/proc/sys/kernel/random/boot_id`). In any other one the time is over.
    pub boot: String,
    /// What is trusted once it is confirmed, and not before: a trial that ends leaves what was seen before it, so that the
    /// policy in force then is acceptable again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted: Option<Trusted>,
}

/// What decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stance {
    /// The policy and the lists.
    Policy,
    /// Only the failsafe set is allowed.
    Lockdown,
    /// Nothing is enforced.
    Open,
}

/// A stance that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// Which.
    pub stance: Stance,
    /// Who took it, and when.
    pub by: Applied,
}
