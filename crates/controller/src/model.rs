//! What the store holds, as the controller reads it. Made of records and of nothing else: own commits come back through
//! the store like everybody's.
//!
//! Records are kept as the bytes they are: what a commit expects ([`Batch`](crate::Batch)) is a digest of those, and
//! those of hosts are read one at a time when they are needed.

mod pieces;
mod rolled;

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use wire::Trust;

use crate::orders::pieces as pieces_of;
use crate::{
    digest::Digest,
    records::{
        CollectedRecord, CurrentRecord, HostRecord, Key, RecordError, RelayRecord, RevokedRecord,
        RolloutRecord, Taken, TokenRecord, VersionRecord, Who, decode,
    },
};
use pieces::Store as PieceStore;
pub(crate) use pieces::chunks;
pub(crate) use rolled::Rolled;

/// A record that was written, or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its key.
    pub key: String,
    /// Its value from now on; `None` if it is gone.
    pub value: Option<Vec<u8>>,
}

/// All records that the controller knows.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Those of hosts, relays, operators, tokens, addresses and names.
    records: BTreeMap<String, Box<[u8]>>,
    pieces: PieceStore,
    versions: BTreeMap<u64, (VersionRecord, Digest)>,
    current: Option<(CurrentRecord, Digest)>,
    rollout: Option<(RolloutRecord, Digest)>,
    collected: Option<(CollectedRecord, Digest)>,
    trust: Option<(Trust, Digest)>,
    hosts: usize,
}

/// What some changes meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Hosts, each with what it was and what it is.
    pub hosts: Vec<HostChange>,
    /// Relays that are gone or have another certificate.
    pub relays: Vec<String>,
    /// There are other versions.
    pub versions: bool,
    /// Another version, or another timestamp of it, is current.
    pub current: bool,
    /// The rollout is another one or stands otherwise.
    pub rollout: bool,
}

/// A host that is new, changed or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostChange {
    /// Its id.
    pub id: String,
    /// What it was.
    pub before: Option<HostRecord>,
    /// What it is.
    pub after: Option<HostRecord>,
}

impl Model {
    /// Everything that a store holds.
    ///
    /// # Errors
    /// The first record that cannot be read, by its key.
    pub fn load(records: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Self, RecordError> {
        let mut model = Self::default();
        for (key, value) in records {
            model.change(Change { key, value: Some(value) }, None)?;
        }
        Ok(model)
    }

    /// Takes over what changed, in the order of the store.
    ///
    /// # Errors
    /// The first record that cannot be read; those before it are taken over.
    pub fn apply(&mut self, changes: Vec<Change>) -> Result<Changed, RecordError> {
        let mut changed = Changed::default();
        for change in changes {
            self.change(change, Some(&mut changed))?;
        }
        Ok(changed)
    }

    fn change(
        &mut self,
        Change { key: text, value }: Change,
        changed: Option<&mut Changed>,
    ) -> Result<(), RecordError> {
        let Some(key) = Key::read(&text)? else { return Ok(()) };
        let mut ignored = Changed::default();
        let changed = changed.unwrap_or(&mut ignored);
        match &key {
            Key::Host(id) => {
                let after = read::<HostRecord>(&key, value.as_deref())?;
                let before = self.host(id);
                self.hosts += usize::from(after.is_some());
                self.hosts -= usize::from(before.is_some());
                changed.hosts.push(HostChange { id: id.clone(), before, after });
                self.keep(text, value);
            }
            Key::Relay(name) => {
                read::<RelayRecord>(&key, value.as_deref())?;
                changed.relays.push(name.clone());
                self.keep(text, value);
            }
            Key::Operator(_) => {
                read::<RevokedRecord>(&key, value.as_deref())?;
                self.keep(text, value);
            }
            Key::Address(_) | Key::Name(_) => {
                read::<Taken>(&key, value.as_deref())?;
                self.keep(text, value);
            }
            Key::Token(_) => {
                read::<TokenRecord>(&key, value.as_deref())?;
                self.keep(text, value);
            }
            Key::Piece(digest, at) => self.pieces.put(*digest, *at, value)?,
            Key::Version(number) => {
                changed.versions = true;
                match kept::<VersionRecord>(&key, value.as_deref())? {
                    Some((record, _)) if record.version != *number => {
                        let why = format!("it is that of version {}", record.version);
                        return Err(RecordError::Contradiction { key: text, why });
                    }
                    Some(record) => {
                        self.versions.insert(*number, record);
                    }
                    None => {
                        self.versions.remove(number);
                    }
                }
            }
            Key::Current => {
                changed.current = true;
                self.current = kept::<CurrentRecord>(&key, value.as_deref())?;
                if self.current.as_ref().is_some_and(|(current, _)| current.steps.is_empty()) {
                    self.current = None;
                    let why = "it names no version".to_owned();
                    return Err(RecordError::Contradiction { key: text, why });
                }
            }
            Key::Rollout => {
                changed.rollout = true;
                self.rollout = kept(&key, value.as_deref())?;
            }
            Key::Collected => self.collected = kept(&key, value.as_deref())?,
            Key::Root => self.trust = kept(&key, value.as_deref())?,
        }
        Ok(())
    }

    fn keep(&mut self, key: String, value: Option<Vec<u8>>) {
        match value {
            Some(value) => {
                self.records.insert(key, value.into_boxed_slice());
            }
            None => {
                self.records.remove(&key);
            }
        }
    }

    /// The digest of a record as it is now; `None` if there is none. Not of pieces.
    pub fn digest(&self, key: &Key) -> Option<Digest> {
        match key {
            Key::Version(number) => self.versions.get(number).map(|(_, digest)| *digest),
            Key::Current => self.current.as_ref().map(|(_, digest)| *digest),
            Key::Rollout => self.rollout.as_ref().map(|(_, digest)| *digest),
            Key::Collected => self.collected.as_ref().map(|(_, digest)| *digest),
            Key::Root => self.trust.as_ref().map(|(_, digest)| *digest),
            Key::Host(_)
            | Key::Relay(_)
            | Key::Operator(_)
            | Key::Address(_)
            | Key::Name(_)
            | Key::Token(_)
            | Key::Piece(..) => self.records.get(&key.text()).map(|value| Digest::of(value)),
        }
    }

    fn record<T: serde::de::DeserializeOwned>(&self, key: &Key) -> Option<T> {
        let value = self.records.get(&key.text())?;
        Some(decode(key, value).expect("records were read when they were taken over"))
    }

    /// An enrolled host.
    pub fn host(&self, id: &str) -> Option<HostRecord> {
        self.record(&Key::Host(id.to_owned()))
    }

    /// The id of the host of this id or other name, as the records spell it.
    fn called(&self, word: &str) -> Option<&str> {
        let id = |id: &str| {
            let (key, _) = self.records.get_key_value(&Key::Host(id.to_owned()).text())?;
            key.strip_prefix("host/")
        };
        id(word).or_else(|| id(&self.named(word)?))
    }

    /// Ids and names of all hosts.
    fn words(&self) -> impl Iterator<Item = &str> {
        self.below("host/").chain(self.below("name/")).map(|(word, _)| word)
    }

    /// How many hosts are enrolled.
    pub fn host_count(&self) -> usize {
        self.hosts
    }

    /// All hosts, sorted by id.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, HostRecord)> {
        self.below("host/").map(|(id, value)| {
            let key = Key::Host(id.to_owned());
            let host = decode(&key, value).expect("records were read when they were taken over");
            (id, host)
        })
    }

    /// An enrolled relay.
    pub fn relay(&self, name: &str) -> Option<RelayRecord> {
        self.record(&Key::Relay(name.to_owned()))
    }

    /// Names of all relays, sorted.
    pub fn relays(&self) -> impl Iterator<Item = &str> {
        self.below("relay/").map(|(name, _)| name)
    }

    /// From when on an operator's certificates are worth something, if older ones are not.
    pub fn revoked(&self, operator: &str) -> Option<RevokedRecord> {
        self.record(&Key::Operator(operator.to_owned()))
    }

    /// All operators of whom older certificates are worth nothing, sorted by name.
    pub fn all_revoked(&self) -> impl Iterator<Item = (&str, RevokedRecord)> {
        self.below("operator/").map(|(name, value)| {
            let key = Key::Operator(name.to_owned());
            (name, decode(&key, value).expect("records were read when they were taken over"))
        })
    }

    /// A token.
    pub fn token(&self, who: &Who) -> Option<TokenRecord> {
        self.record(&Key::Token(who.clone()))
    }

    /// Everybody who can still enrol, sorted.
    pub fn tokens(&self) -> impl Iterator<Item = (Who, TokenRecord)> {
        let read = |(text, value): (&str, &[u8])| {
            let key = Key::read(&format!("token/{text}")).ok().flatten()?;
            let Key::Token(who) = &key else { return None };
            Some((who.clone(), decode(&key, value).ok()?))
        };
        self.below("token/").filter_map(read)
    }

    /// Whose an address is.
    pub fn owner(&self, address: verdict::Address) -> Option<String> {
        self.record(&Key::Address(address)).map(|taken: Taken| taken.host)
    }

    /// Whose a name is.
    pub fn named(&self, name: &str) -> Option<String> {
        self.record(&Key::Name(name.to_owned())).map(|taken: Taken| taken.host)
    }

    fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.records
            .range::<str, _>(from)
            .map_while(move |(key, value)| Some((key.strip_prefix(prefix)?, &**value)))
    }

    /// A version that was applied.
    pub fn version(&self, number: u64) -> Option<&VersionRecord> {
        self.versions.get(&number).map(|(record, _)| record)
    }

    /// All that were applied and are kept, oldest first.
    pub fn versions(&self) -> impl DoubleEndedIterator<Item = &VersionRecord> {
        self.versions.values().map(|(record, _)| record)
    }

    /// What every host should have; `None` before the first bundle.
    pub fn current(&self) -> Option<&CurrentRecord> {
        self.current.as_ref().map(|(record, _)| record)
    }

    /// The newest rollout, open or not.
    pub fn rollout(&self) -> Option<&RolloutRecord> {
        self.rollout.as_ref().map(|(record, _)| record)
    }

    /// How often pieces were removed that nobody needed.
    pub fn collected(&self) -> Option<&CollectedRecord> {
        self.collected.as_ref().map(|(record, _)| record)
    }

    /// What the controller verifies bundles by; `None` before `fwnet fleet init` brought a root.
    pub fn trust(&self) -> Option<&Trust> {
        self.trust.as_ref().map(|(trust, _)| trust)
    }

    /// The bytes of a piece: an envelope as JSON. `None` if a part of it is missing.
    pub fn piece(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.pieces.whole(digest)
    }

    /// Whether all documents of a version are there: those of old versions are removed.
    pub fn is_whole(&self, version: &VersionRecord) -> bool {
        pieces_of(&version.bundle).all(|digest| self.piece(&digest).is_some())
    }

    /// Every piece of which something is there, with the number of its chunks.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (Digest, u32)> {
        self.pieces.all()
    }
}

fn read<T: serde::de::DeserializeOwned>(
    key: &Key,
    value: Option<&[u8]>,
) -> Result<Option<T>, RecordError> {
    value.map(|value| decode(key, value)).transpose()
}

fn kept<T: serde::de::DeserializeOwned>(
    key: &Key,
    value: Option<&[u8]>,
) -> Result<Option<(T, Digest)>, RecordError> {
    value.map(|value| Ok((decode(key, value)?, Digest::of(value)))).transpose()
}
