//! What operators ask for, and what they are told.

use std::{collections::BTreeMap, net::IpAddr};

pub use controller::records::Share;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Lets somebody in: the body of `POST /v1/fleet/tokens`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enroll {
    /// Whom: `fwnet:host/web-1` or `fwnet:relay/r1`.
    pub subject: String,
    /// A host's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// A host's addresses; without any it gets the one it is seen at when it enrols.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// A host's other names.
    #[serde(default)]
    pub names: Vec<String>,
    /// Whether it may be enrolled already.
    #[serde(default)]
    pub again: bool,
    /// Seconds for which the token is good.
    pub valid_s: u64,
}

/// The answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What `fwnet up --join` takes. Whoever has it can join.
    pub token: String,
    /// From then on it is worth nothing.
    pub expires: Timestamp,
}

/// A bundle is to be the next version: the body of `POST /v1/fleet/versions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// As `fwnet bundle` wrote it.
    pub bundle: String,
    /// What the operator says about it.
    #[serde(default)]
    pub what: String,
    /// Some hosts first.
    #[serde(default)]
    pub canary: Option<Canary>,
    /// Even if tests in the policy fail.
    #[serde(default)]
    pub force: bool,
}

/// Some hosts first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// Which.
    pub share: Share,
    /// It is rolled back by itself unless it is confirmed within so many seconds.
    pub confirm_s: u64,
}

/// A host is to be shut off or released: the body of `POST /v1/fleet/hosts/ID/quarantine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    /// Shut off, or released.
    pub quarantined: bool,
}

/// An operator whose older certificates are worth nothing: part of the answer to `GET /v1/fleet/operators`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// What they are called.
    pub operator: String,
    /// Certificates that were made until then.
    pub until: Timestamp,
    /// Which operator said so.
    pub by: String,
}

/// A host as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its id.
    pub id: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its other names.
    pub names: Vec<String>,
    /// When it was enrolled.
    pub enrolled_at: Timestamp,
    /// Whether it is shut off.
    pub quarantined: bool,
}

/// All of them: the answer to `GET /v1/fleet/hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hosts {
    /// Sorted by id.
    pub hosts: Vec<Host>,
    /// Relays, by name.
    pub relays: Vec<String>,
    /// Who was let in and has not come yet: `host/ID` or `relay/NAME`, and until when they may.
    pub awaited: Vec<(String, Timestamp)>,
}

/// A version of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its number.
    pub version: u64,
    /// When it was applied.
    pub at: Timestamp,
    /// Which operator applied it.
    pub by: String,
    /// What they said about it.
    pub what: String,
    /// The version of its snapshot.
    pub snapshot: u64,
    /// Whether it is the current one.
    pub current: bool,
    /// Whether it is being tried.
    pub tried: bool,
    /// Whether its documents are kept still.
    pub documents: bool,
}

/// The answer to `GET /v1/fleet/versions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Oldest first.
    pub versions: Vec<Version>,
}

/// A version's documents: the answer to `GET /v1/fleet/versions/N`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Documents {
    /// The version.
    pub version: u64,
    /// Each.
    pub documents: Vec<Document>,
}

/// A document of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// The policy, as it was signed.
    pub policy: String,
}

/// A rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The version before.
    pub from: u64,
    /// The version that is tried.
    pub to: u64,
    /// When it began.
    pub began: Timestamp,
    /// It ends by itself then.
    pub confirm_until: Timestamp,
    /// `canary`, `halted` or `done`.
    pub state: String,
    /// Why it was halted; empty unless it was.
    pub why: String,
    /// Who began it.
    pub by: String,
}

/// Something was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The version that is current now; 0 before the first.
    pub current: u64,
    /// The newest rollout.
    pub rollout: Option<Rollout>,
}
