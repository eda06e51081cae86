//! Timestamps, where the controller holds the key: made anew before they expire.

use jiff::{SignedDuration, Timestamp};
use wire::{Envelope, Role, SecretKey, Snapshot, Stamp, Trust};

use super::{Batch, Refusal, apply::written};
use crate::{
    digest::Digest,
    model::{Model, chunks},
    records::{CurrentRecord, Key, Step},
};

/// Who makes timestamps, and how long each is good.
#[derive(Clone, Debug)]
pub struct Stamping {
    /// The key of the role timestamp.
    pub key: SecretKey,
    /// How long a new one is good.
    pub lifetime: SignedDuration,
}

/// When the current timestamp is to be made anew: when half of a new one's time is all that is left. `None` without a
/// version, and while one is tried, whose own timestamp would be older than the new one then.
pub fn timestamp_due(model: &Model, lifetime: SignedDuration) -> Option<Timestamp> {
    if model.rollout().is_some_and(|rollout| rollout.is_open()) {
        return None;
    }
    let until = model.current()?.last().expires;
    Some(until.saturating_sub(lifetime / 2).unwrap_or(Timestamp::MIN))
}

/// Makes the current version's timestamp anew.
///
/// # Errors
/// If there is no version, or the key may not sign.
pub fn renew_timestamp(
    model: &Model,
    stamping: &Stamping,
    now: Timestamp,
) -> Result<Batch, Refusal> {
    let current = model.current().ok_or(Refusal::NoVersion)?;
    let trust = model.trust().ok_or(Refusal::NoRoot)?;
    if let Some(open) = model.rollout().filter(|rollout| rollout.is_open()) {
        return Err(Refusal::Open(open.to()));
    }
    let version = current.version();
    let lost = || Refusal::Lost(format!("the snapshot of version {version}"));
    let record = model.version(version).ok_or_else(lost)?;
    let snapshot = model.piece(&record.bundle.snapshot).ok_or_else(lost)?;
    let snapshot: Envelope = serde_json::from_slice(&snapshot).map_err(|_odd| lost())?;
    let envelope = stamped(trust, &snapshot, stamping, now)?;
    let stamp: Stamp = envelope.unverified().map_err(|error| Refusal::Stamp(error.to_string()))?;
    let mut trust = trust.clone();
    trust.marks.timestamp =
        Some(wire::Mark { version: stamp.version, digest: wire::digest(envelope.payload()) });
    let bytes = written(&envelope);
    let step = Step {
        version,
        timestamp: Digest::of(&bytes),
        expires: stamp.expires,
        fresh_until: stamp.expires.min(record.vouched_until),
    };
    let mut batch = Batch::default()
        .replacing(model, &Key::Root, &trust)
        .replacing(model, &Key::Current, &CurrentRecord { steps: vec![step] })
        .expecting(model, &Key::Collected)
        .expecting(model, &Key::Rollout);
    batch.pieces.extend(chunks(&bytes).into_iter().map(|(key, chunk)| (key.text(), chunk)));
    Ok(batch)
}

/// A timestamp for a snapshot, newer than all that were seen.
pub(super) fn stamped(
    trust: &Trust,
    snapshot: &Envelope,
    stamping: &Stamping,
    now: Timestamp,
) -> Result<Envelope, Refusal> {
    let wrong = |error: &dyn std::fmt::Display| Refusal::Stamp(error.to_string());
    let named: Snapshot = snapshot.unverified().map_err(|error| wrong(&error))?;
    let seen = trust.marks.timestamp.as_ref().map_or(0, |mark| mark.version);
    let stamp = Stamp {
        version: seen.saturating_add(1),
        expires: now.saturating_add(stamping.lifetime).unwrap_or(Timestamp::MAX),
        snapshot: named.version,
        digest: wire::digest(snapshot.payload()),
    };
    let mut envelope = Envelope::new(&stamp);
    envelope.sign(&stamping.key);
    let root = trust.root()?;
    envelope.signed_by(&root.authority(Role::Timestamp)).map_err(|error| wrong(&error))?;
    Ok(envelope)
}
