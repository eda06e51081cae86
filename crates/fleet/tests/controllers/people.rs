//! Somebody who signs everything, and the bundles they make.

use jiff::Timestamp;
use wire::{
    Bundle, Envelope, Holders, Listed, NamedKey, Payload, Policy, Roles, Root, SecretKey, Snapshot,
    Stamp, digest,
};

fn key() -> SecretKey {
    SecretKey::from_seed([7; 32])
}

fn signed<T: Payload>(payload: &T) -> Envelope {
    let mut envelope = Envelope::new(payload);
    envelope.sign(&key());
    envelope
}

fn late() -> Timestamp {
    "2100-01-01T00:00:00Z".parse().unwrap()
}

fn root() -> Envelope {
    let holders = || Holders { keys: vec!["anna".to_owned()], threshold: 1 };
    signed(&Root {
        version: 1,
        expires: late(),
        keys: vec![NamedKey { name: "anna".to_owned(), key: key().public() }],
        roles: Roles {
            root: holders(),
            policy: holders(),
            snapshot: holders(),
            timestamp: holders(),
        },
        max_stale: None,
    })
}

/// The root as a file.
pub(crate) fn root_text() -> String {
    serde_json::to_string(&root()).unwrap()
}

/// A bundle of documents, each with its name, all of this version.
pub(crate) fn bundle(version: u64, documents: &[(&str, &str)]) -> String {
    let policies: Vec<Policy> = documents
        .iter()
        .map(|(name, text)| Policy {
            name: (*name).to_owned(),
            version,
            expires: late(),
            audience: Vec::new(),
            policy: (*text).to_owned(),
            delegations: Vec::new(),
        })
        .collect();
    let envelopes: Vec<Envelope> = policies.iter().map(signed).collect();
    let listed = envelopes.iter().zip(&policies);
    let snapshot = signed(&Snapshot {
        version,
        expires: late(),
        audience: Vec::new(),
        documents: listed.map(|(it, policy)| Listed::of(policy, it.payload())).collect(),
    });
    let stamp = signed(&Stamp {
        version,
        expires: late(),
        snapshot: version,
        digest: digest(snapshot.payload()),
    });
    Bundle::new(vec![root()], stamp, snapshot, envelopes).to_json()
}
