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

use crate::{digest::Digest, model::Model, orders::Refusal, records::Pieces};

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
    /// [`Refusal::Lost`] if the store lacks a part of it, or holds something else in its place.
    pub fn read(model: &Model, version: u64) -> Result<Self, Refusal> {
        Self::sharing(model, version, &[])
    }

    /// The same, with the documents that `others` have read already.
    pub(crate) fn sharing(model: &Model, version: u64, others: &[&Self]) -> Result<Self, Refusal> {
        let lost = |what: String| Refusal::Lost(what);
        let record = model.version(version).ok_or_else(|| lost(format!("version {version}")))?;
        let part = |digest: &Digest| {
            let of = || lost(format!("the piece {digest} of version {version}"));
            let bytes = model.piece(digest).ok_or_else(of)?;
            let envelope: Envelope = serde_json::from_slice(&bytes).map_err(|_odd| of())?;
            Ok::<_, Refusal>((bytes.len() as u64, envelope))
        };
        let odd = |_odd| lost(format!("a readable document of version {version}"));
        let (_, snapshot) = part(&record.bundle.snapshot)?;
        let snapshot: Snapshot = snapshot.unverified().map_err(odd)?;
        let listed: BTreeMap<String, Listed> =
            snapshot.documents.iter().map(|it| (it.digest.clone(), it.clone())).collect();
        let mut documents = Vec::with_capacity(record.bundle.documents.len());
        for piece in &record.bundle.documents {
            let known = others.iter().flat_map(|other| &other.documents);
            if let Some(known) = known.into_iter().find(|known| known.piece == *piece) {
                documents.push(Arc::clone(known));
                continue;
            }
            let (bytes, envelope) = part(piece)?;
            let of = wire::digest(envelope.payload());
            let Policy { name, version, policy, delegations, audience, expires: _ } =
                envelope.unverified().map_err(odd)?;
            let listed = listed
                .get(&of)
                .cloned()
                .ok_or_else(|| lost(format!("the document `{name}` in its snapshot")))?;
            let mut report = Diagnostics::default();
            let source = Source { name: &name, bytes: policy.as_bytes() };
            let (_, parsed) = policy::read(source, 0, &mut report);
            let delegates = delegations.into_iter().map(|it| it.name).collect();
            let document = parsed.document;
            let paper = Paper {
                name,
                version,
                piece: *piece,
                bytes,
                listed,
                delegates,
                audience,
                policy,
                document,
            };
            documents.push(Arc::new(paper));
        }
        Ok(Self { version, pieces: record.bundle.clone(), documents })
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

impl Paper {
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
