//! What the store holds: a key and a JSON value each, and the bytes of pieces.
//!
//! | key | value |
//! |---|---|
//! | `host/ID` | [`HostRecord`] |
//! | `relay/NAME` | [`RelayRecord`] |
//! | `operator/NAME` | [`RevokedRecord`] |
//! | `address/A`, `name/N` | [`Taken`]: whose address or name it is, so that no two hosts can get it at the same time |
//! | `token/host/ID`, `token/relay/NAME` | [`TokenRecord`] |
//! | `piece/DIGEST/N` | bytes N mebibytes on of an envelope, at most [`CHUNK_BYTES`] of them |
//! | `version/N` | [`VersionRecord`], N in ten digits so that keys sort as numbers |
//! | `current` | [`CurrentRecord`] |
//! | `rollout` | [`RolloutRecord`], at most one |
//! | `collected` | [`CollectedRecord`], once pieces that nobody needed were removed |
//! | `root` | `wire::Trust`: what the controller itself verifies bundles by |
//!
//! Keys that are not among these are left alone: a leader's lease, or what a later fwnet keeps there.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use verdict::Address;

use crate::digest::Digest;

/// Bytes of one chunk of a piece: etcd takes 1.5 MiB a request, and its gateway spells values in base64.
pub const CHUNK_BYTES: usize = 1 << 20;

/// Key of [`CurrentRecord`].
pub const CURRENT: &str = "current";
/// Key of [`RolloutRecord`].
pub const ROLLOUT: &str = "rollout";
/// Key of [`CollectedRecord`].
pub const COLLECTED: &str = "collected";
/// Key of the controller's own `wire::Trust`.
pub const ROOT: &str = "root";

/// An enrolled host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRecord {
    /// Its labels, the operator's.
    pub labels: BTreeMap<String, String>,
    /// Its addresses, the operator's, or the one it was seen at when it was enrolled.
    #[serde(with = "addresses")]
    pub addresses: Vec<Address>,
    /// What else it is called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The fingerprint of its certificate (BLAKE3 of the DER), and of the one before, which it may show until it has
    /// shown the new one.
    pub certificate: Digest,
    /// See `certificate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// When it was enrolled.
    pub enrolled_at: Timestamp,
    /// It is shut off: only its failsafe set is allowed, and nobody else's policy knows its addresses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quarantined: bool,
    /// The version that was current when something here last changed that may make another target for it: it gets
    /// nothing older than that.
    #[serde(default)]
    pub since: u64,
}

/// An enrolled relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayRecord {
    /// See [`HostRecord::certificate`].
    pub certificate: Digest,
    /// See [`HostRecord::previous`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// When it was enrolled.
    pub enrolled_at: Timestamp,
}

/// An operator whose certificates are worth nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedRecord {
    /// Those that were made until then.
    pub until: Timestamp,
    /// Which operator said so.
    pub by: String,
}

/// Whose an address or a name is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// The id of the host.
    pub host: String,
}

/// Somebody who enrols: a host or a relay.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// A host, by its id.
    Host(String),
    /// A relay, by its name.
    Relay(String),
}

/// What lets somebody enrol, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// BLAKE3 of the secret in it.
    pub secret: Digest,
    /// From then on it is worth nothing.
    pub expires: Timestamp,
    /// What the host will be; empty for a relay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The same.
    #[serde(default, with = "addresses", skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// The same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Which operator made it.
    pub by: String,
}

/// A version of the policy: never changed once it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionRecord {
    /// Its number: counts from 1.
    pub version: u64,
    /// When it was applied.
    pub at: Timestamp,
    /// Which operator applied it.
    pub by: String,
    /// What they said about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub what: String,
    /// The version of its snapshot.
    pub snapshot: u64,
    /// When the first of root, snapshot and documents expires.
    pub vouched_until: Timestamp,
    /// Its envelopes.
    pub bundle: Pieces,
    /// The snapshot says of every document what the document says itself of whom it concerns: nobody has to read it for
    /// that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub agreed: bool,
}

/// The envelopes of a bundle, each a piece: its JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pieces {
    /// Roots, oldest first.
    pub roots: Vec<Digest>,
    /// The timestamp it came with.
    pub timestamp: Digest,
    /// The snapshot.
    pub snapshot: Digest,
    /// Documents, in the order of the snapshot.
    pub documents: Vec<Digest>,
}

/// What every host should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurrentRecord {
    /// The versions that hosts may have, oldest first; the last one is current. A host is left with an earlier one for
    /// as long as nothing that concerns it has changed since, so that a rule changed for a hundred hosts is no news to
    /// the others. Never empty.
    pub steps: Vec<Step>,
}

/// See [`CurrentRecord::steps`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The version.
    pub version: u64,
    /// Its timestamp, which may be newer than the one it came with.
    pub timestamp: Digest,
    /// When that one expires.
    pub expires: Timestamp,
    /// When the first of what vouches for it expires, the timestamp among them.
    pub fresh_until: Timestamp,
}

impl CurrentRecord {
    /// The version that is current.
    pub fn version(&self) -> u64 {
        self.last().version
    }

    /// The newest step.
    pub fn last(&self) -> &Step {
        self.steps.last().expect("there is no record of no version: `Model` refuses it")
    }

    /// The oldest step.
    pub fn floor(&self) -> &Step {
        self.steps.first().expect("there is no record of no version: `Model` refuses it")
    }
}

/// Who gets a new version first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// So many hundredths of a percent of the hosts: 100 is 1 %.
    Fraction(u32),
    /// So many hosts.
    Count(u32),
    /// Those that a selector of the policy language means.
    Selector(String),
}

/// Which hosts try a new version. None that enrolled after the rollout began, and none that is quarantined, is among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pick {
    /// Those whose rank in this rollout ([`rank`](crate::rollout::rank)) is no more than this.
    Rank(u64),
    /// These, sorted.
    Hosts(Vec<String>),
}

/// A new version on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutRecord {
    /// Which: counts from 1, over all that there have been.
    pub id: u64,
    /// The version before.
    pub from: u64,
    /// What it is once it is confirmed.
    pub step: Step,
    /// Who tries it.
    pub share: Share,
    /// Which hosts that means.
    pub pick: Pick,
    /// When it began.
    pub began: Timestamp,
    /// It ends by itself then, unless it was confirmed.
    pub confirm_until: Timestamp,
    /// What the hosts are told: they go back by themselves after so many seconds.
    pub confirm_within_s: u64,
    /// How it stands.
    pub state: RolloutState,
    /// Who began it.
    pub by: String,
    /// Failing tests halt it as little as they kept it from beginning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
}

/// How a rollout stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RolloutState {
    /// The canary hosts have it, or are to get it.
    Canary,
    /// It was stopped, and everybody is to have the version before.
    Halted(String),
    /// Everybody has it, or is to get it.
    Done,
}

/// Pieces were removed: what was worked out before, and relies on some that were there, is to be worked out anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectedRecord {
    /// How often: each time it is another record.
    pub batches: u64,
}

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is not JSON of the form that its key stands for.
    #[error("the record `{key}` cannot be read: {source}")]
    Form {
        /// Its key.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Its key is not in order.
    #[error("the record `{key}` has no business there: {why}")]
    Key {
        /// The key.
        key: String,
        /// What is wrong.
        why: &'static str,
    },
    /// It contradicts another one.
    #[error("the record `{key}` contradicts another one: {why}")]
    Contradiction {
        /// Its key.
        key: String,
        /// How.
        why: String,
    },
}

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// `host/ID`
    Host(String),
    /// `relay/NAME`
    Relay(String),
    /// `operator/NAME`
    Operator(String),
    /// `address/A`
    Address(Address),
    /// `name/N`
    Name(String),
    /// `token/host/ID` or `token/relay/NAME`
    Token(Who),
    /// `piece/DIGEST/N`
    Piece(Digest, u32),
    /// `version/N`
    Version(u64),
    /// [`CURRENT`]
    Current,
    /// [`ROLLOUT`]
    Rollout,
    /// [`COLLECTED`]
    Collected,
    /// [`ROOT`]
    Root,
}

impl Key {
    /// What `text` stands for; `None` for what is no business of the controller's.
    ///
    /// # Errors
    /// If it begins like a key of the controller's and does not go on like one.
    pub fn read(text: &str) -> Result<Option<Self>, RecordError> {
        let wrong = |why| RecordError::Key { key: text.to_owned(), why };
        let key = match text.split_once('/') {
            None => match text {
                CURRENT => Self::Current,
                ROLLOUT => Self::Rollout,
                COLLECTED => Self::Collected,
                ROOT => Self::Root,
                _ => return Ok(None),
            },
            Some((_, "")) => return Err(wrong("nothing stands behind the slash")),
            Some(("host", id)) => Self::Host(id.to_owned()),
            Some(("relay", name)) => Self::Relay(name.to_owned()),
            Some(("operator", name)) => Self::Operator(name.to_owned()),
            Some(("name", name)) => Self::Name(name.to_owned()),
            Some(("address", address)) => {
                Self::Address(addresses::one(address).ok_or_else(|| wrong("it is no address"))?)
            }
            Some(("token", who)) => match who.split_once('/') {
                Some(("host", id)) if !id.is_empty() => Self::Token(Who::Host(id.to_owned())),
                Some(("relay", name)) if !name.is_empty() => {
                    Self::Token(Who::Relay(name.to_owned()))
                }
                _ => return Err(wrong("a token is a host's or a relay's")),
            },
            Some(("piece", rest)) => {
                let (digest, at) = rest.split_once('/').ok_or_else(|| wrong("it has no number"))?;
                let digest = digest.parse().map_err(|_odd| wrong("it has no digest"))?;
                Self::Piece(digest, at.parse().map_err(|_odd| wrong("it has no number"))?)
            }
            Some(("version", number)) => {
                Self::Version(number.parse().map_err(|_odd| wrong("it has no number"))?)
            }
            Some(_) => return Ok(None),
        };
        // One spelling each: two keys for one thing would be two truths.
        if key.text() != text {
            return Err(wrong("it is not spelled as such keys are"));
        }
        Ok(Some(key))
    }

    /// As it is written.
    pub fn text(&self) -> String {
        match self {
            Self::Host(id) => format!("host/{id}"),
            Self::Relay(name) => format!("relay/{name}"),
            Self::Operator(name) => format!("operator/{name}"),
            Self::Address(address) => format!("address/{}", addresses::text(*address)),
            Self::Name(name) => format!("name/{name}"),
            Self::Token(Who::Host(id)) => format!("token/host/{id}"),
            Self::Token(Who::Relay(name)) => format!("token/relay/{name}"),
            Self::Piece(digest, at) => format!("piece/{digest}/{at}"),
            Self::Version(number) => format!("version/{number:010}"),
            Self::Current => CURRENT.to_owned(),
            Self::Rollout => ROLLOUT.to_owned(),
            Self::Collected => COLLECTED.to_owned(),
            Self::Root => ROOT.to_owned(),
        }
    }
}

/// Reads a value; the error names the key.
///
/// # Errors
/// If it is not the JSON of a `T`.
pub fn decode<T: DeserializeOwned>(key: &Key, value: &[u8]) -> Result<T, RecordError> {
    serde_json::from_slice(value).map_err(|source| RecordError::Form { key: key.text(), source })
}

/// Writes a value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("records have string keys and no failing serializer")
}

/// Addresses as texts.
pub(crate) mod addresses {
    use policy::syntax::Addresses;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use verdict::Address;

    pub(crate) fn text(address: Address) -> String {
        Addresses::from(address).to_string()
    }

    pub(crate) fn one(text: &str) -> Option<Address> {
        let addresses: Addresses = text.parse().ok()?;
        (addresses.bits() == Some(128)).then(|| addresses.first())
    }

    pub(super) fn serialize<S: Serializer>(list: &[Address], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|&address| text(address)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Address>, D::Error> {
        let texts: Vec<std::borrow::Cow<'de, str>> = Vec::deserialize(from)?;
        let read = |text: std::borrow::Cow<'de, str>| {
            one(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not one address")))
        };
        texts.into_iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_spelling() {
        let digest = Digest::of(b"x");
        let keys = [
            Key::Host("web-1".to_owned()),
            Key::Relay("r".to_owned()),
            Key::Operator("anna".to_owned()),
            Key::Address("10.0.0.1".parse::<policy::syntax::Addresses>().unwrap().first()),
            Key::Name("www".to_owned()),
            Key::Token(Who::Host("web-1".to_owned())),
            Key::Token(Who::Relay("r".to_owned())),
            Key::Piece(digest, 3),
            Key::Version(12),
            Key::Current,
            Key::Rollout,
            Key::Collected,
            Key::Root,
        ];
        for key in keys {
            assert_eq!(Key::read(&key.text()).unwrap(), Some(key.clone()), "{key:?}");
        }
        for odd in ["host/", "address/::ffff:10.0.0.1", "version/12", "piece/00/1", "token/web-1"] {
            let error = Key::read(odd).unwrap_err().to_string();
            assert!(error.contains(odd), "{error}");
        }
        assert_eq!(Key::read("leader").unwrap(), None);
        assert_eq!(Key::read("flows/2026").unwrap(), None);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let key = Key::Host("web-1".to_owned());
        let error = decode::<HostRecord>(&key, b"{\"labels\": 3}").unwrap_err().to_string();
        assert!(error.starts_with("the record `host/web-1` cannot be read: "), "{error}");
    }
}
