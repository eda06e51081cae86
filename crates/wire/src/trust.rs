//! What a host knows, and what it takes from a bundle: the client rules of TUF (section 5 of its specification), with
//! delegation by scope.
//!
//! [`Trust`] is a value: a root that somebody brought, and marks, which are the newest versions this host has seen.
//! [`Trust::verify`] looks at a bundle in this order, and stops at the first thing that is wrong: size, form, roots
//! (each signed by the one before it and by itself), expiry of the root, timestamp, snapshot, documents, delegations and
//! their scopes, audience. What it gives back holds the trust to keep, which must be on disk before the documents are put
//! in force: then a host whose power goes in between has marks that are newer than its policy, takes the same bundle
//! again, and never an older one.

mod delegated;
mod error;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use error::VerifyError;

use crate::{
    bundle::Bundle,
    document::{Policy, Snapshot, Stamp, digest, is_for},
    envelope::{Envelope, EnvelopeError},
    limits::ROOT_BYTES_MAX,
    role::Role,
    root::{Root, RootError},
    stale::Freshness,
};

/// What a host knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// The newest root, as it was signed.
    root: Envelope,
    /// The newest of everything that was seen.
    pub marks: Marks,
}

/// The newest versions that were seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marks {
    /// The latest time at which a bundle was taken: a clock that shows less was set back, and is not believed.
    pub seen: Timestamp,
    /// The timestamp.
    pub timestamp: Option<Mark>,
    /// The snapshot.
    pub snapshot: Option<Mark>,
    /// Every document, by name.
    pub documents: BTreeMap<String, Mark>,
}

/// A version, and what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// The version.
    pub version: u64,
    /// BLAKE3 of its payload.
    pub digest: String,
}

/// Who verifies, and when.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// By the clock on the wall.
    pub now: Timestamp,
    /// The host's name and its audiences; `None` to leave audiences out of account, for those who look at a bundle
    /// that is not for them.
    pub names: Option<&'a [String]>,
    /// What a controller says of the host. Then documents may be missing that do not concern it; `None` where everything
    /// must be there, as in a bundle that was made for all.
    pub host: Option<&'a policy::Host>,
}

/// What a host may take.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// What it knows from now on. To be kept before anything below is put in force.
    pub trust: Trust,
    /// The documents that are for this host, in the order of the snapshot.
    pub documents: Vec<Document>,
    /// Names of those that are for others.
    pub others: Vec<String>,
    /// Names of those that did not come, and do not concern this host.
    pub left_out: Vec<String>,
    /// The version of the root.
    pub root: u64,
    /// The version of the timestamp.
    pub timestamp: u64,
    /// The version of the snapshot.
    pub snapshot: u64,
    /// Until when all of it is vouched for, and what follows.
    pub freshness: Freshness,
}

/// A verified document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// The policy.
    pub policy: String,
    /// Who signed it: names of keys.
    pub signers: Vec<String>,
    /// The delegations it stands under, outermost first; none for one of the role policy.
    pub under: Vec<String>,
}

impl Trust {
    /// Begins with a root that somebody brought on a way they trust, in its envelope.
    ///
    /// # Errors
    /// If it is too large, not one, or not signed by its own keys.
    pub fn begin(root: &[u8]) -> Result<Self, VerifyError> {
        // An envelope spells its payload in base64, and has signatures.
        let max = 4 * ROOT_BYTES_MAX;
        if root.len() > max {
            let error = EnvelopeError::Size { found: root.len(), max };
            return Err(RootError::Envelope { version: 0, error }.into());
        }
        let envelope: Envelope = serde_json::from_slice(root).map_err(|error| {
            let error = EnvelopeError::Meaningless(error.to_string());
            RootError::Envelope { version: 0, error }
        })?;
        Root::first(&envelope)?;
        let marks = Marks {
            seen: Timestamp::UNIX_EPOCH,
            timestamp: None,
            snapshot: None,
            documents: BTreeMap::new(),
        };
        Ok(Self { root: envelope, marks })
    }

    /// The root.
    ///
    /// # Errors
    /// If what was kept is no root, which can only be if somebody changed it.
    pub fn root(&self) -> Result<Root, VerifyError> {
        Ok(Root::first(&self.root)?)
    }

    /// Whether this follows from `other`: the same root or a later one of its chain cannot be told apart here, so what is
    /// compared is the root as it was signed.
    pub fn has_root_of(&self, other: &Self) -> bool {
        self.root.payload() == other.root.payload()
    }

    /// Whether whoever trusts this root and is shown `roots`, oldest first, trusts the root of `other` then: it is the same,
    /// as it was signed, or follows from this one.
    pub fn leads_to(&self, other: &Self, roots: &[Envelope]) -> bool {
        let followed = self.follow(roots);
        followed.is_ok_and(|(_, newest, _)| newest.payload() == other.root.payload())
    }

    /// Looks at a bundle.
    ///
    /// # Errors
    /// The first thing that is wrong with it; nothing of it is to be used then.
    pub fn verify(&self, bundle: &[u8], moment: Moment<'_>) -> Result<Accepted, VerifyError> {
        let bundle = Bundle::read(bundle)?;
        // A clock that was set back revives nothing that had expired.
        let now = moment.now.max(self.marks.seen);
        let (root, envelope, marks) = self.follow(&bundle.roots)?;
        unexpired("the root", root.expires, now)?;
        let mut marks = marks;
        let stamp = timestamp(&root, &bundle.timestamp, &mut marks, now)?;
        let snapshot = snapshot(&root, &bundle.snapshot, &stamp, &mut marks, now)?;
        if let Some(names) = moment.names
            && !is_for(&snapshot.audience, names)
        {
            let (names, audience) = (names.to_vec(), snapshot.audience);
            return Err(VerifyError::Audience { names, audience });
        }
        let (listed, left_out) = delegated::matched(&snapshot, &bundle.documents, moment.host)?;
        let verified = delegated::verify(&root, &listed, now)?;
        let first = [root.expires, stamp.expires, snapshot.expires].into_iter();
        let until = first.chain(verified.iter().map(|it| it.policy.expires)).min();
        let mut accepted = Accepted {
            root: root.version,
            timestamp: stamp.version,
            snapshot: snapshot.version,
            freshness: Freshness {
                until: until.expect("the root is there"),
                max_stale: root.max_stale,
            },
            trust: Self { root: envelope, marks: Marks { seen: now, ..marks } },
            documents: Vec::new(),
            others: Vec::new(),
            left_out,
        };
        for one in verified {
            let Policy { name, version, audience, policy, .. } = one.policy;
            if moment.names.is_none_or(|names| is_for(&audience, names)) {
                let (signers, under) = (one.signers, one.under);
                accepted.documents.push(Document { name, version, policy, signers, under });
            } else {
                accepted.others.push(name);
            }
        }
        Ok(accepted)
    }

    /// The newest root that follows from ours.
    fn follow(&self, roots: &[Envelope]) -> Result<(Root, Envelope, Marks), VerifyError> {
        let mut root = self.root()?;
        let (mut newest, mut marks) = (self.root.clone(), self.marks.clone());
        for envelope in roots {
            // What says to be old is not looked at, whatever it is: it cannot change anything.
            let says = envelope.unverified::<Root>().ok().map(|root| root.version);
            if says.is_some_and(|version| version <= root.version) {
                continue;
            }
            if let Some(found) = says.filter(|&found| found > root.version.saturating_add(1)) {
                return Err(RootError::Gap { have: root.version, found }.into());
            }
            let next = root.next(envelope)?;
            // Whoever had the old keys may have signed a version of 2^64 - 1: new keys count from where they like.
            if !root.same_holders(&next, Role::Timestamp) {
                marks.timestamp = None;
            }
            if !root.same_holders(&next, Role::Snapshot) {
                marks.snapshot = None;
                marks.documents.clear();
            }
            (root, newest) = (next, envelope.clone());
        }
        Ok((root, newest, marks))
    }
}

fn timestamp(
    root: &Root,
    envelope: &Envelope,
    marks: &mut Marks,
    now: Timestamp,
) -> Result<Stamp, VerifyError> {
    let what = "the timestamp";
    let stamp: Stamp = envelope.verified(&root.authority(Role::Timestamp)).map_err(wrong(what))?;
    marked(what, marks.timestamp.as_ref(), stamp.version, &digest(envelope.payload()))?;
    unexpired(what, stamp.expires, now)?;
    marks.timestamp = Some(Mark { version: stamp.version, digest: digest(envelope.payload()) });
    Ok(stamp)
}

fn snapshot(
    root: &Root,
    envelope: &Envelope,
    stamp: &Stamp,
    marks: &mut Marks,
    now: Timestamp,
) -> Result<Snapshot, VerifyError> {
    let what = "the snapshot";
    let found = digest(envelope.payload());
    if found != stamp.digest {
        return Err(VerifyError::Other { what: what.to_owned(), by: "the timestamp" });
    }
    let snapshot: Snapshot =
        envelope.verified(&root.authority(Role::Snapshot)).map_err(wrong(what))?;
    if snapshot.version != stamp.snapshot {
        return Err(VerifyError::Other { what: what.to_owned(), by: "the timestamp" });
    }
    marked(what, marks.snapshot.as_ref(), snapshot.version, &found)?;
    unexpired(what, snapshot.expires, now)?;
    for (name, mark) in &marks.documents {
        let Some(listed) = snapshot.documents.iter().find(|it| it.name == *name) else {
            return Err(VerifyError::Vanished { name: name.clone(), version: mark.version });
        };
        marked(&document(name), Some(mark), listed.version, &listed.digest)?;
    }
    marks.snapshot = Some(Mark { version: snapshot.version, digest: found });
    let mark = |listed: &crate::document::Listed| {
        let mark = Mark { version: listed.version, digest: listed.digest.clone() };
        (listed.name.clone(), mark)
    };
    marks.documents = snapshot.documents.iter().map(mark).collect();
    Ok(snapshot)
}

/// What messages call a document.
fn document(name: &str) -> String {
    format!("the document `{name}`")
}

fn wrong(what: &str) -> impl FnOnce(EnvelopeError) -> VerifyError {
    |error| VerifyError::Envelope { what: what.to_owned(), error }
}

fn unexpired(what: &str, expires: Timestamp, now: Timestamp) -> Result<(), VerifyError> {
    if now < expires {
        return Ok(());
    }
    Err(VerifyError::Expired { what: what.to_owned(), expires, now })
}

/// Whether a version may follow the one that was seen: a later one, or the very same.
fn marked(what: &str, mark: Option<&Mark>, version: u64, digest: &str) -> Result<(), VerifyError> {
    let Some(mark) = mark else { return Ok(()) };
    if version < mark.version {
        let (what, seen) = (what.to_owned(), mark.version);
        return Err(VerifyError::Old { what, found: version, seen });
    }
    if version == mark.version && digest != mark.digest {
        return Err(VerifyError::Twice { what: what.to_owned(), version });
    }
    Ok(())
}
