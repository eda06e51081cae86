//! The root: which keys have which role, and what a host does once its policy is too old.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    document::{Payload, counted, keys, named, threshold},
    envelope::{Authority, Envelope, EnvelopeError},
    key::NamedKey,
    limits::{KEYS_MAX, ROOT_BYTES_MAX},
    role::Role,
    stale::Then,
};

/// Which keys have which role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Counts from 1; a root follows the one with the number before it.
    pub version: u64,
    /// From then on nothing is taken by it any more.
    pub expires: Timestamp,
    /// All keys.
    pub keys: Vec<NamedKey>,
    /// Who has which role.
    pub roles: Roles,
    /// What a host does once its policy is too old. Without it, it keeps what it has, however old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_stale: Option<MaxStale>,
}

/// The holders of each role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roles {
    /// See [`Role::Root`].
    pub root: Holders,
    /// See [`Role::Policy`].
    pub policy: Holders,
    /// See [`Role::Snapshot`].
    pub snapshot: Holders,
    /// See [`Role::Timestamp`].
    pub timestamp: Holders,
}

/// Who has a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holders {
    /// Names of keys.
    pub keys: Vec<String>,
    /// How many of them must sign.
    pub threshold: u32,
}

/// What follows when a policy stays stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxStale {
    /// Seconds after the timestamp expired.
    pub seconds: u32,
    /// What is done then.
    pub then: Then,
}

/// Why a root is not followed.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// It is not in order, or the keys of the root it follows have not signed it, or its own have not.
    #[error("root {version}: {error}")]
    Envelope {
        /// Its version, as far as it is known.
        version: u64,
        /// What is wrong.
        error: EnvelopeError,
    },
    /// One is left out.
    #[error("root {found} does not follow root {have}: root {} is missing", .have + 1)]
    Gap {
        /// The last one that is trusted.
        have: u64,
        /// The one that came.
        found: u64,
    },
}

impl Root {
    /// The holders of a role.
    pub fn holders(&self, role: Role) -> &Holders {
        match role {
            Role::Root => &self.roles.root,
            Role::Policy => &self.roles.policy,
            Role::Snapshot => &self.roles.snapshot,
            Role::Timestamp => &self.roles.timestamp,
        }
    }

    /// Who may sign for a role.
    pub fn authority(&self, role: Role) -> Authority<'_> {
        let holders = self.holders(role);
        let keys = self.keys.iter().filter(|it| holders.keys.contains(&it.name)).collect();
        Authority { name: format!("the role {role}"), keys, threshold: holders.threshold }
    }

    /// Takes a first root, which somebody brought on a way they trust: it must be signed by its own keys.
    ///
    /// # Errors
    /// If it is not.
    pub fn first(envelope: &Envelope) -> Result<Self, RootError> {
        let wrong = |version| move |error| RootError::Envelope { version, error };
        let root: Self = envelope.unverified().map_err(wrong(0))?;
        envelope.signed_by(&root.authority(Role::Root)).map_err(wrong(root.version))?;
        Ok(root)
    }

    /// Takes the root after this one: it must have the next number and be signed by enough keys of both.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn next(&self, envelope: &Envelope) -> Result<Self, RootError> {
        let version = self.version.saturating_add(1);
        let wrong = |error| RootError::Envelope { version, error };
        let next: Self = envelope.verified(&self.authority(Role::Root)).map_err(wrong)?;
        if next.version != version {
            return Err(RootError::Gap { have: self.version, found: next.version });
        }
        envelope.signed_by(&next.authority(Role::Root)).map_err(wrong)?;
        Ok(next)
    }

    /// Whether a role has the same keys in `other` and needs as many of them.
    pub(crate) fn same_holders(&self, other: &Self, role: Role) -> bool {
        let of = |root: &Self| {
            let authority = root.authority(role);
            let mut keys: Vec<_> = authority.keys.iter().map(|it| it.key.clone()).collect();
            keys.sort();
            (keys, authority.threshold)
        };
        of(self) == of(other)
    }
}

impl Payload for Root {
    const TYPE: &'static str = "application/vnd.fwnet.root+json";
    const BYTES_MAX: usize = ROOT_BYTES_MAX;

    fn sound(&self) -> Result<(), String> {
        counted(self.version)?;
        keys("the root", &self.keys)?;
        for role in Role::ALL {
            let holders = self.holders(role);
            let what = format!("the role {role}");
            if holders.keys.len() > KEYS_MAX {
                return Err(format!("{what} has more than {KEYS_MAX} keys"));
            }
            for (at, name) in holders.keys.iter().enumerate() {
                named("a key", name)?;
                if !self.keys.iter().any(|it| it.name == *name) {
                    return Err(format!("{what} has the key `{name}`, which is not in the root"));
                }
                if holders.keys.iter().skip(at + 1).any(|other| other == name) {
                    return Err(format!("{what} has the key `{name}` twice"));
                }
            }
            threshold(&what, holders.threshold, holders.keys.len())?;
        }
        Ok(())
    }
}
