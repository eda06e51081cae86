//! A small fleet's keys, and bundles that its people make, right or wrong.

use jiff::{SignedDuration, Timestamp};
use wire::{
    Accepted, Bundle, Delegation, Envelope, Holders, Listed, Moment, NamedKey, Payload, Policy,
    Roles, Root, SecretKey, Snapshot, Stamp, Trust, digest,
};

/// When everything happens: `hours` after the beginning.
pub(crate) fn at(hours: i64) -> Timestamp {
    let beginning: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    beginning.checked_add(SignedDuration::from_hours(hours)).unwrap()
}

/// Somebody's key: the same for the same name.
pub(crate) fn key(name: &str) -> SecretKey {
    SecretKey::from_seed(*blake3_of(name))
}

fn blake3_of(name: &str) -> Box<[u8; 32]> {
    let hex = digest(name.as_bytes());
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    Box::new(std::array::from_fn(byte))
}

pub(crate) fn named(name: &str) -> NamedKey {
    NamedKey { name: name.to_owned(), key: key(name).public() }
}

pub(crate) fn holders(names: &[&str], threshold: u32) -> Holders {
    Holders { keys: names.iter().map(|&name| name.to_owned()).collect(), threshold }
}

pub(crate) fn signed<T: Payload>(payload: &T, by: &[&str]) -> Envelope {
    let mut envelope = Envelope::new(payload);
    by.iter().for_each(|name| envelope.sign(&key(name)));
    envelope
}

/// Anna, Ben and Carl are root, two of three; Dora and Emil sign policy, both; machines do the rest.
pub(crate) fn root() -> Root {
    let names = ["anna", "ben", "carl", "dora", "emil", "snap", "clock"];
    Root {
        version: 1,
        expires: at(10_000),
        keys: names.map(named).to_vec(),
        roles: Roles {
            root: holders(&["anna", "ben", "carl"], 2),
            policy: holders(&["dora", "emil"], 2),
            snapshot: holders(&["snap"], 1),
            timestamp: holders(&["clock"], 1),
        },
        max_stale: None,
    }
}

pub(crate) fn policy(name: &str, version: u64, text: &str) -> Policy {
    Policy {
        name: name.to_owned(),
        version,
        expires: at(5_000),
        audience: Vec::new(),
        policy: text.to_owned(),
        delegations: Vec::new(),
    }
}

pub(crate) fn delegation(name: &str, by: &[&str], scope: &str) -> Delegation {
    Delegation {
        name: name.to_owned(),
        keys: by.iter().map(|&name| named(name)).collect(),
        threshold: u32::try_from(by.len()).unwrap(),
        scope: serde_json::from_str(scope).unwrap(),
    }
}

/// What a bundle is made of. Every part can be changed before it is put together.
#[derive(Clone)]
pub(crate) struct Making {
    pub(crate) roots: Vec<Envelope>,
    pub(crate) documents: Vec<Envelope>,
    pub(crate) snapshot: Snapshot,
    pub(crate) stamp: Stamp,
    pub(crate) snapshot_by: Vec<&'static str>,
    pub(crate) stamp_by: Vec<&'static str>,
}

impl Making {
    /// Of documents that Dora and Emil sign.
    pub(crate) fn of(policies: &[Policy]) -> Self {
        Self::with(policies.iter().map(|it| signed(it, &["dora", "emil"])).collect())
    }

    /// Of signed documents.
    pub(crate) fn with(documents: Vec<Envelope>) -> Self {
        let listed = documents.iter().map(listed).collect();
        Self {
            roots: vec![signed(&root(), &["anna", "ben"])],
            documents,
            snapshot: Snapshot {
                version: 1,
                expires: at(2_000),
                audience: Vec::new(),
                documents: listed,
            },
            stamp: Stamp { version: 1, expires: at(168), snapshot: 1, digest: String::new() },
            snapshot_by: vec!["snap"],
            stamp_by: vec!["clock"],
        }
    }

    /// With this number for snapshot and timestamp.
    pub(crate) fn numbered(mut self, version: u64) -> Self {
        (self.snapshot.version, self.stamp.version) = (version, version);
        self
    }

    pub(crate) fn bundle(mut self) -> Bundle {
        let snapshot = signed(&self.snapshot, &self.snapshot_by);
        self.stamp.snapshot = self.snapshot.version;
        self.stamp.digest = digest(snapshot.payload());
        let stamp = signed(&self.stamp, &self.stamp_by);
        Bundle::new(self.roots, stamp, snapshot, self.documents)
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.bundle().to_json().into_bytes()
    }
}

fn listed(envelope: &Envelope) -> Listed {
    match envelope.unverified::<Policy>() {
        Ok(policy) => Listed::of(&policy, envelope.payload()),
        Err(_) => Listed {
            name: "broken".to_owned(),
            version: 1,
            digest: digest(envelope.payload()),
            concerns: None,
        },
    }
}

pub(crate) fn trust() -> Trust {
    let root = serde_json::to_vec(&signed(&root(), &["anna", "ben"])).unwrap();
    Trust::begin(&root).unwrap()
}

/// Verifies as host `web-1` of audience `prod` at an hour.
pub(crate) fn verify_at(trust: &Trust, bundle: &[u8], hour: i64) -> Result<Accepted, String> {
    let names = ["web-1".to_owned(), "prod".to_owned()];
    let moment = Moment { now: at(hour), names: Some(&names), host: None };
    trust.verify(bundle, moment).map_err(|error| error.to_string())
}

#[track_caller]
pub(crate) fn taken(trust: &Trust, bundle: &[u8]) -> Accepted {
    verify_at(trust, bundle, 1).unwrap()
}

#[track_caller]
pub(crate) fn refused(trust: &Trust, bundle: &[u8]) -> String {
    verify_at(trust, bundle, 1).unwrap_err()
}
