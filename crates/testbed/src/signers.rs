//! People who sign policy, for tests: their keys, the root that names them, and bundles that are in order. Their keys are
//! of seeds that everybody knows, and what they sign is the same each time.

use jiff::Timestamp;
use wire::{
    Bundle, Envelope, Holders, Listed, NamedKey, Payload, Policy, Role, Roles, Root, SecretKey,
    Snapshot, Stamp, digest,
};

/// Those who sign for a fleet.
#[derive(Clone, Copy, Debug)]
pub struct Signers {
    /// By role, in the order of [`Role::ALL`].
    seeds: [u8; 4],
    expires: Timestamp,
}

impl Signers {
    /// One key with every role. What it signs is good until `expires`.
    pub fn one(expires: Timestamp) -> Self {
        Self { seeds: [7; 4], expires }
    }

    /// A key for each role. What they sign is good until `expires`.
    pub fn each(expires: Timestamp) -> Self {
        Self { seeds: [1, 2, 3, 4], expires }
    }

    fn seed(&self, role: Role) -> u8 {
        let [root, policy, snapshot, timestamp] = self.seeds;
        match role {
            Role::Root => root,
            Role::Policy => policy,
            Role::Snapshot => snapshot,
            Role::Timestamp => timestamp,
        }
    }

    fn key(&self, role: Role) -> SecretKey {
        SecretKey::from_seed([self.seed(role); 32])
    }

    fn signed<T: Payload>(&self, payload: &T, role: Role) -> Envelope {
        let mut envelope = Envelope::new(payload);
        envelope.sign(&self.key(role));
        envelope
    }

    /// The first root: each role needs one signature.
    pub fn root(&self) -> Envelope {
        let name = |role: Role| format!("key-{}", self.seed(role));
        let mut keys: Vec<NamedKey> = Role::ALL
            .map(|role| NamedKey { name: name(role), key: self.key(role).public() })
            .to_vec();
        keys.dedup_by(|a, b| a.name == b.name);
        let holders = |role| Holders { keys: vec![name(role)], threshold: 1 };
        let root = Root {
            version: 1,
            expires: self.expires,
            keys,
            roles: Roles {
                root: holders(Role::Root),
                policy: holders(Role::Policy),
                snapshot: holders(Role::Snapshot),
                timestamp: holders(Role::Timestamp),
            },
            max_stale: None,
        };
        self.signed(&root, Role::Root)
    }

    /// The same as a file.
    ///
    /// # Panics
    /// Never: an envelope is JSON.
    pub fn root_text(&self) -> String {
        serde_json::to_string(&self.root()).expect("an envelope is JSON")
    }

    /// A bundle of documents, each with its name, all of this version.
    pub fn bundle(&self, version: u64, documents: &[(&str, &str)]) -> Bundle {
        let expires = self.expires;
        let document = |(name, text): &(&str, &str)| {
            let policy = Policy {
                name: (*name).to_owned(),
                version,
                expires,
                audience: Vec::new(),
                policy: (*text).to_owned(),
                delegations: Vec::new(),
            };
            let envelope = self.signed(&policy, Role::Policy);
            (Listed::of(&policy, envelope.payload()), envelope)
        };
        let (documents, envelopes) = documents.iter().map(document).unzip();
        let snapshot = Snapshot { version, expires, audience: Vec::new(), documents };
        let snapshot = self.signed(&snapshot, Role::Snapshot);
        let digest = digest(snapshot.payload());
        let stamp = Stamp { version, expires, snapshot: version, digest };
        let stamp = self.signed(&stamp, Role::Timestamp);
        Bundle::new(vec![self.root()], stamp, snapshot, envelopes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{Moment, Trust};

    #[test]
    fn what_they_sign_is_taken_by_whoever_trusts_their_root() {
        for signers in [Signers::one(Timestamp::MAX), Signers::each(Timestamp::MAX)] {
            let trust = Trust::begin(signers.root_text().as_bytes()).unwrap();
            let bundle = signers.bundle(3, &[("base", "deny any -> 192.0.2.1 : any\n")]).to_json();
            let moment = Moment { now: Timestamp::UNIX_EPOCH, names: None, host: None };
            let accepted = trust.verify(bundle.as_bytes(), moment).unwrap();
            assert_eq!(accepted.documents.len(), 1);
        }
    }
}
