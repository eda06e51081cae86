//! A bundle becomes a version: verified as a host would, checked and tested over all hosts, and then stored.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use wire::{Bundle, Envelope, Moment, Snapshot, Trust};

use super::{Batch, Refusal, Stamping, enrol::later, rollout, stamp};
use crate::{
    digest::Digest,
    edition::inventory,
    limits::{CONFIRM_S_MAX, CONFIRM_S_MIN, VERSIONS_KEPT},
    model::{Model, Rolled, chunks},
    records::{
        CurrentRecord, Key, Pieces, RolloutRecord, RolloutState, Share, Step, VersionRecord,
    },
    rollout::pick,
};

/// An operator brings a bundle.
#[derive(Clone, Copy, Debug)]
pub struct Apply<'a> {
    /// As `fwnet bundle` wrote it.
    pub bundle: &'a [u8],
    /// What they say about it.
    pub what: &'a str,
    /// Some hosts first; `None` for all at once.
    pub canary: Option<&'a Canary>,
    /// Even if tests in the policy fail.
    pub force: bool,
    /// Who asks.
    pub by: &'a str,
    /// Makes a timestamp for it, where the controller holds the key.
    pub stamping: Option<&'a Stamping>,
}

/// Some hosts first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// Which.
    pub share: Share,
    /// It is rolled back by itself unless it is confirmed within so many seconds.
    pub confirm_s: u64,
}

/// Makes a bundle the next version: the current one, or one that is tried.
///
/// A bundle with the current snapshot and a newer timestamp is no version of its own: it renews the timestamp.
///
/// # Errors
/// See [`Refusal`].
pub fn apply(model: &Model, asked: &Apply<'_>, now: Timestamp) -> Result<Batch, Refusal> {
    let trust = model.trust().ok_or(Refusal::NoRoot)?;
    if let Some(open) = model.rollout().filter(|rollout| rollout.is_open()) {
        return Err(Refusal::Open(open.to()));
    }
    let stamped;
    let bytes = match asked.stamping {
        Some(stamping) => {
            stamped = restamped(trust, asked.bundle, stamping, now)?;
            stamped.as_slice()
        }
        None => asked.bundle,
    };
    // The very bundle that is current: said before its versions are compared.
    let bundle = Bundle::read(bytes).map_err(wire::VerifyError::from)?;
    let accepted = trust.verify(bytes, Moment { now, names: None, host: None })?;
    let stored = Stored::of(&bundle);
    if let Some(order) = same_snapshot(model, &stored, &accepted.trust, &bundle, asked)? {
        return Ok(order);
    }
    fits(model, &accepted, asked.force, now)?;
    let Reading { vouched_until, agreed } = Reading::of(&accepted.trust, &bundle)?;
    let version = model.versions().next_back().map_or(0, |last| last.version) + 1;
    let record = VersionRecord {
        version,
        at: now,
        by: asked.by.to_owned(),
        what: asked.what.to_owned(),
        snapshot: accepted.snapshot,
        vouched_until,
        bundle: stored.pieces.clone(),
        agreed,
    };
    let step = stored.step(&record, &bundle)?;
    let mut batch = Batch::default()
        .replacing(model, &Key::Root, &accepted.trust)
        .replacing(model, &Key::Version(version), &record)
        .expecting(model, &Key::Collected)
        .expecting(model, &Key::Rollout);
    batch = match (asked.canary, model.current()) {
        (Some(canary), Some(current)) => {
            let rollout = canaries(model, canary, current, step, asked, now)?;
            batch.expecting(model, &Key::Current).putting(&Key::Rollout, &rollout)
        }
        // Before the first version there is nothing to go back to: it is everybody's at once.
        (_, _) => {
            let next = rollout::stepped(model, &stored.pieces.roots, step, now);
            batch.replacing(model, &Key::Current, &next)
        }
    };
    forget(model, &mut batch);
    batch.pieces = stored.missing(model);
    Ok(batch)
}

/// The bundle with a timestamp of the controller's own.
fn restamped(
    trust: &Trust,
    bytes: &[u8],
    stamping: &Stamping,
    now: Timestamp,
) -> Result<Vec<u8>, Refusal> {
    let mut bundle = Bundle::read(bytes).map_err(wire::VerifyError::from)?;
    bundle.timestamp = stamp::stamped(trust, &bundle.snapshot, stamping, now)?;
    Ok(bundle.to_json().into_bytes())
}

/// Envelopes as pieces.
struct Stored {
    pieces: Pieces,
    bytes: Vec<Vec<u8>>,
}

impl Stored {
    fn of(bundle: &Bundle) -> Self {
        let mut bytes = Vec::new();
        let mut piece = |envelope: &Envelope| {
            let written = written(envelope);
            let digest = Digest::of(&written);
            bytes.push(written);
            digest
        };
        let pieces = Pieces {
            roots: bundle.roots.iter().map(&mut piece).collect(),
            timestamp: piece(&bundle.timestamp),
            snapshot: piece(&bundle.snapshot),
            documents: in_order(bundle).into_iter().map(&mut piece).collect(),
        };
        Self { pieces, bytes }
    }

    /// What a version is once it is current.
    fn step(&self, record: &VersionRecord, bundle: &Bundle) -> Result<Step, Refusal> {
        let stamp: wire::Stamp =
            bundle.timestamp.unverified().map_err(|error| Refusal::Stamp(error.to_string()))?;
        Ok(Step {
            version: record.version,
            timestamp: self.pieces.timestamp,
            expires: stamp.expires,
            fresh_until: stamp.expires.min(record.vouched_until),
        })
    }

    /// What is not there yet, in chunks.
    fn missing(&self, model: &Model) -> Vec<(String, Vec<u8>)> {
        let missing = |bytes: &&Vec<u8>| model.piece(&Digest::of(bytes)).is_none();
        let chunks = self.bytes.iter().filter(missing).flat_map(|bytes| chunks(bytes));
        let mut chunks: Vec<_> = chunks.map(|(key, chunk)| (key.text(), chunk)).collect();
        chunks.sort();
        chunks.dedup();
        chunks
    }
}

/// An envelope as a piece.
pub(super) fn written(envelope: &Envelope) -> Vec<u8> {
    serde_json::to_vec(envelope).expect("envelopes have string keys and no failing serializer")
}

/// The documents in the order of the snapshot, so that equal bundles are stored alike.
fn in_order(bundle: &Bundle) -> Vec<&Envelope> {
    let listed =
        bundle.snapshot.unverified::<Snapshot>().map(|it| it.documents).unwrap_or_default();
    let places: BTreeMap<&str, usize> =
        listed.iter().map(|it| it.digest.as_str()).zip(0..).collect();
    let place =
        |envelope: &&Envelope| places.get(wire::digest(envelope.payload()).as_str()).copied();
    let mut documents: Vec<&Envelope> = bundle.documents.iter().collect();
    documents.sort_by_cached_key(place);
    documents
}

/// What is to be done with a bundle of the current snapshot: renew the timestamp, or nothing.
fn same_snapshot(
    model: &Model,
    stored: &Stored,
    trust: &Trust,
    bundle: &Bundle,
    asked: &Apply<'_>,
) -> Result<Option<Batch>, Refusal> {
    let Some(current) = model.current() else { return Ok(None) };
    let Some(record) = model.version(current.version()) else { return Ok(None) };
    let Pieces { roots, timestamp: _, snapshot, documents } = &stored.pieces;
    let Pieces { roots: had_roots, timestamp: _, snapshot: had_snapshot, documents: had } =
        &record.bundle;
    if (roots, snapshot, documents) != (had_roots, had_snapshot, had) {
        return Ok(None);
    }
    if current.last().timestamp == stored.pieces.timestamp || asked.stamping.is_some() {
        return Err(Refusal::Same(current.version()));
    }
    let step = stored.step(record, bundle)?;
    let batch = Batch::default()
        .replacing(model, &Key::Root, trust)
        .replacing(model, &Key::Current, &CurrentRecord { steps: vec![step] })
        .expecting(model, &Key::Collected)
        .expecting(model, &Key::Rollout);
    Ok(Some(Batch { pieces: stored.missing(model), ..batch }))
}

/// What the envelopes of a bundle say together.
struct Reading {
    /// When the first of root, snapshot and documents expires.
    vouched_until: Timestamp,
    /// Whether the snapshot says of every document what that says itself of whom it concerns.
    agreed: bool,
}

impl Reading {
    /// Of a bundle that is verified: where its snapshot says whom a document concerns, it is right.
    fn of(trust: &Trust, bundle: &Bundle) -> Result<Self, Refusal> {
        let wrong = |error: wire::EnvelopeError| {
            Refusal::Bundle(wire::VerifyError::Envelope { what: "the bundle".to_owned(), error })
        };
        let snapshot: Snapshot = bundle.snapshot.unverified().map_err(wrong)?;
        let silent = snapshot.documents.iter().filter(|listed| listed.concerns.is_none());
        let silent: BTreeSet<&str> = silent.map(|listed| listed.digest.as_str()).collect();
        let mut vouched_until = trust.root()?.expires.min(snapshot.expires);
        let mut agreed = true;
        for envelope in &bundle.documents {
            let document: wire::Policy = envelope.unverified().map_err(wrong)?;
            vouched_until = vouched_until.min(document.expires);
            if silent.contains(wire::digest(envelope.payload()).as_str()) {
                agreed &= document.concerns().is_none();
            }
        }
        Ok(Self { vouched_until, agreed })
    }
}

/// Whether the documents make sense with the hosts that there are, and whether their tests hold.
fn fits(
    model: &Model,
    accepted: &wire::Accepted,
    force: bool,
    now: Timestamp,
) -> Result<(), Refusal> {
    let sources: Vec<policy::Source<'_>> = accepted
        .documents
        .iter()
        .map(|it| policy::Source { name: &it.name, bytes: it.policy.as_bytes() })
        .collect();
    let checked = policy::check_by(&sources, Some(&Rolled::of(model)), now);
    if checked.diagnostics.has_errors() {
        return Err(Refusal::Policy(checked.short()));
    }
    let mut documents = checked.policies.iter().map(|policy| &policy.document);
    if force || !documents.any(|document| document.tests().next().is_some()) {
        return Ok(());
    }
    let results = policy::run_tests(&checked, &inventory(model), now)
        .map_err(|error| Refusal::Policy(crate::trials::told(&error)))?;
    let failing: Vec<String> =
        results.iter().filter(|it| !it.passed).map(policy::TestResult::line).collect();
    if failing.is_empty() { Ok(()) } else { Err(Refusal::Tests(failing)) }
}

fn canaries(
    model: &Model,
    canary: &Canary,
    current: &CurrentRecord,
    step: Step,
    asked: &Apply<'_>,
    now: Timestamp,
) -> Result<RolloutRecord, Refusal> {
    let Canary { share, confirm_s } = canary;
    if !(CONFIRM_S_MIN..=CONFIRM_S_MAX).contains(confirm_s) {
        return Err(Refusal::Confirm(*confirm_s));
    }
    let id = model.rollout().map_or(0, |last| last.id) + 1;
    Ok(RolloutRecord {
        id,
        from: current.version(),
        step,
        pick: pick(model, id, share)?,
        share: share.clone(),
        began: now,
        confirm_until: later(now, *confirm_s),
        confirm_within_s: *confirm_s,
        state: RolloutState::Canary,
        by: asked.by.to_owned(),
        forced: asked.force,
    })
}

/// Removes the records of the oldest versions beyond those that are kept.
fn forget(model: &Model, batch: &mut Batch) {
    let needed: BTreeSet<u64> = model
        .current()
        .into_iter()
        .flat_map(|current| current.steps.iter().map(|step| step.version))
        .collect();
    let count = model.versions().count();
    let old = model
        .versions()
        .map(|record| record.version)
        .take((count + 1).saturating_sub(VERSIONS_KEPT))
        .filter(|version| !needed.contains(version));
    batch.remove.extend(old.map(|version| Key::Version(version).text()));
}
