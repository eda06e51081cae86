//! People who sign: their keys, and the bundles they make.

use jiff::{SignedDuration, Timestamp};
use wire::{
    Bundle, Envelope, Holders, Listed, NamedKey, Payload, Policy, Roles, Root, SecretKey, Snapshot,
    Stamp, digest,
};

/// `hours` after the beginning.
pub(crate) fn at(hours: i64) -> Timestamp {
    let beginning: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    beginning.checked_add(SignedDuration::from_hours(hours)).expect("a time")
}

/// Somebody's key: the same for the same name.
pub(crate) fn key(name: &str) -> SecretKey {
    SecretKey::from_seed(controller::Digest::of(name.as_bytes()).0)
}

fn signed<T: Payload>(payload: &T, by: &str) -> Envelope {
    let mut envelope = Envelope::new(payload);
    envelope.sign(&key(by));
    envelope
}

fn root() -> Root {
    let role = |name: &str| Holders { keys: vec![name.to_owned()], threshold: 1 };
    let named = |name: &str| NamedKey { name: name.to_owned(), key: key(name).public() };
    Root {
        version: 1,
        expires: at(100_000),
        keys: ["anna", "dora", "snap", "clock"].map(named).to_vec(),
        roles: Roles {
            root: role("anna"),
            policy: role("dora"),
            snapshot: role("snap"),
            timestamp: role("clock"),
        },
        max_stale: None,
    }
}

/// The root as a file.
pub(crate) fn root_bytes() -> Vec<u8> {
    serde_json::to_vec(&signed(&root(), "anna")).expect("an envelope is JSON")
}

pub(crate) fn policy(name: &str, version: u64, text: &str) -> Policy {
    Policy {
        name: name.to_owned(),
        version,
        expires: at(50_000),
        audience: Vec::new(),
        policy: text.to_owned(),
        delegations: Vec::new(),
    }
}

/// What a bundle is made of.
#[derive(Clone)]
pub(crate) struct Making {
    pub(crate) documents: Vec<Envelope>,
    pub(crate) snapshot: Snapshot,
    pub(crate) stamp: Stamp,
}

impl Making {
    pub(crate) fn of(policies: &[Policy]) -> Self {
        let documents: Vec<Envelope> = policies.iter().map(|it| signed(it, "dora")).collect();
        let list =
            |(envelope, policy): (&Envelope, &Policy)| Listed::of(policy, envelope.payload());
        let documents_listed = documents.iter().zip(policies).map(list).collect();
        Self {
            documents,
            snapshot: Snapshot {
                version: 1,
                expires: at(20_000),
                audience: Vec::new(),
                documents: documents_listed,
            },
            stamp: Stamp { version: 1, expires: at(168), snapshot: 1, digest: String::new() },
        }
    }

    /// With this number for snapshot and timestamp.
    pub(crate) fn numbered(mut self, version: u64) -> Self {
        (self.snapshot.version, self.stamp.version) = (version, version);
        self
    }

    pub(crate) fn bytes(mut self) -> Vec<u8> {
        let snapshot = signed(&self.snapshot, "snap");
        self.stamp.snapshot = self.snapshot.version;
        self.stamp.digest = digest(snapshot.payload());
        let stamp = signed(&self.stamp, "clock");
        let roots = vec![signed(&root(), "anna")];
        Bundle::new(roots, stamp, snapshot, self.documents).to_json().into_bytes()
    }
}
