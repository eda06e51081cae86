//! A version of the policy, read: its documents and whom they speak of.
//!
//! Everything here was verified when it was applied, and is verified again by each host. What is read here decides who
//! gets what, and never what is enforced.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use policy::{Checked, Diagnostics, Document, Inventory, Source, check, syntax::Expression};
use wire::{Envelope, Listed, Policy, Snapshot};

use crate::{
    digest::Digest,
    model::Model,
    orders::Refusal,
    records::{Pieces, Step},
};

/// A version.
#[derive(Clone, Debug)]
pub struct Edition {
    /// Its number.
    pub version: u64,
    /// Its envelopes.
    pub pieces: Pieces,
    /// Its documents, in the order of the snapshot.
    pub documents: Vec<Arc<Paper>>,
}

/// A document of a version.
#[derive(Clone, Debug)]
pub struct Paper {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// Its envelope.
    pub piece: Digest,
    /// Bytes of its envelope.
    pub bytes: u64,
    /// What its snapshot says of it.
    pub listed: Listed,
    /// The snapshot says what the document says itself of whom it concerns.
    pub agreed: bool,
    /// Names of the documents that it delegates.
    pub delegates: Vec<String>,
    /// Hosts and audiences that it is for; everybody where it is empty.
    pub audience: Vec<String>,
    /// Its text or JSON form.
    pub policy: String,
    /// The same, read.
    pub document: Document,
}

impl Edition {
    /// Reads a version.
    ///
    /// # Errors
    /// [`Refusal::Collected`] if it is an old version, whose documents are gone; [`Refusal::Lost`] if the store lacks a
    /// part of it, or holds something else in its place.
    pub fn read(model: &Model, version: u64) -> Result<Self, Refusal> {
        let named = |step: &Step| step.version == version;
        let open = model.rollout().filter(|rollout| rollout.is_open());
        let needed = model.current().is_some_and(|current| current.steps.iter().any(named))
            || open.is_some_and(|rollout| named(&rollout.step));
        if !needed && model.version(version).is_some_and(|record| !model.is_whole(record)) {
            return Err(Refusal::Collected(version));
        }
        let (pieces, listing) = Listing::of(model, version)?;
        let read = |piece: &Digest| Ok(Arc::new(Paper::read(model, version, piece, &listing)?.0));
        let documents = pieces.documents.iter().map(read).collect::<Result<_, Refusal>>()?;
        Ok(Self { version, pieces: pieces.clone(), documents })
    }

    /// The documents together, with the hosts that there are.
    pub fn check(&self, inventory: &Inventory, now: Timestamp) -> Checked {
        let sources: Vec<Source<'_>> = self.documents.iter().map(|paper| paper.source()).collect();
        check(&sources, Some(inventory), now)
    }

    /// Whether there is anything to test.
    pub fn has_tests(&self) -> bool {
        self.documents.iter().any(|paper| paper.document.tests().next().is_some())
    }

    /// The name of a document that speaks of a host by this id or name.
    pub(crate) fn speaks_of(&self, word: &str) -> Option<&str> {
        let paper = self.documents.iter().find(|paper| paper.document.hosts().contains(word))?;
        Some(&paper.name)
    }
}

fn lost(what: &str, version: u64) -> Refusal {
    Refusal::Lost(format!("{what} of version {version}"))
}

fn part(model: &Model, version: u64, digest: &Digest) -> Result<(u64, Envelope), Refusal> {
    let of = || lost(&format!("the piece {digest}"), version);
    let bytes = model.piece(digest).ok_or_else(of)?;
    let envelope: Envelope = serde_json::from_slice(&bytes).map_err(|_odd| of())?;
    Ok((bytes.len() as u64, envelope))
}

/// What the snapshot of a version says of its documents.
#[derive(Debug)]
pub(crate) enum Listing {
    /// What they say themselves.
    Agreed,
    /// This, by the digest of each document's payload.
    Snapshot(BTreeMap<String, Listed>),
}

impl Listing {
    /// Of a version, with its envelopes. A snapshot is large, and is read only where it has to be.
    ///
    /// # Errors
    /// [`Refusal::Lost`] if the store lacks a part of it, or holds something else in its place.
    pub(crate) fn of(model: &Model, version: u64) -> Result<(&Pieces, Self), Refusal> {
        let none = || Refusal::Lost(format!("version {version}"));
        let record = model.version(version).ok_or_else(none)?;
        let pieces = &record.bundle;
        if record.agreed {
            return Ok((pieces, Self::Agreed));
        }
        let (_, snapshot) = part(model, version, &pieces.snapshot)?;
        // Its selectors were read when it was verified, all of them: here, only those of documents that are new are wanted.
        let odd = |_odd| lost("a readable snapshot", version);
        let snapshot: Snapshot = serde_json::from_slice(snapshot.payload()).map_err(odd)?;
        let listed = snapshot.documents.into_iter().map(|it| (it.digest.clone(), it));
        Ok((pieces, Self::Snapshot(listed.collect())))
    }
}

impl Paper {
    /// Reads a document of a version, with the digest of its payload.
    ///
    /// # Errors
    /// See [`Listing::of`].
    pub(crate) fn read(
        model: &Model,
        of: u64,
        piece: &Digest,
        listing: &Listing,
    ) -> Result<(Self, String), Refusal> {
        let (bytes, envelope) = part(model, of, piece)?;
        let payload = wire::digest(envelope.payload());
        let odd = |_odd| lost("a readable document", of);
        let document: Policy = envelope.unverified().map_err(odd)?;
        let Policy { name, version, policy, delegations, audience, expires: _ } = document;
        let mut report = Diagnostics::default();
        let source = Source { name: &name, bytes: policy.as_bytes() };
        let (_, parsed) = policy::read(source, 0, &mut report);
        let concerns = || wire::concerns(&parsed, &report);
        let (listed, agreed) = match listing {
            Listing::Agreed => {
                let (name, digest) = (name.clone(), payload.clone());
                (Listed { name, version, digest, concerns: concerns() }, true)
            }
            Listing::Snapshot(listed) => {
                let what = || format!("the document `{name}` in the snapshot");
                let listed = listed.get(&payload).ok_or_else(|| lost(&what(), of))?;
                // What stands there was verified to be right.
                let agreed = listed.concerns.is_some() || concerns().is_none();
                (listed.clone(), agreed)
            }
        };
        let delegates = delegations.into_iter().map(|it| it.name).collect();
        let document = parsed.document;
        let piece = *piece;
        let paper = Self {
            name,
            version,
            piece,
            bytes,
            listed,
            agreed,
            delegates,
            audience,
            policy,
            document,
        };
        Ok((paper, payload))
    }

    fn source(&self) -> Source<'_> {
        Source { name: &self.name, bytes: self.policy.as_bytes() }
    }

    /// The label keys that it asks for; `host` is none of them.
    pub(crate) fn label_keys(&self) -> BTreeSet<&str> {
        let mut keys = BTreeSet::new();
        for selector in self.document.statements().flat_map(|(_, said)| said.selectors()) {
            selector.each(&mut |selector| {
                if let Expression::Label { key, test: _ } = &*selector.expression {
                    keys.insert(key.text.as_str());
                }
            });
        }
        keys.remove(policy::inventory::HOST_KEY);
        keys
    }
}

/// The hosts as policies see them. Of one that is shut off, others know that it is there and nothing else.
pub fn inventory(model: &Model) -> Inventory {
    let hosts = model.hosts().map(|(id, host)| {
        let mut known = policy::Host { id: id.to_owned(), names: host.names, ..Default::default() };
        if !host.quarantined {
            known.addresses = host.addresses;
            known.labels = host.labels;
        }
        known
    });
    Inventory::new(hosts.collect())
        .expect("orders keep ids, names and addresses apart, and records of others are not read")
}
