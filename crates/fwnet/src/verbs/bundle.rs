//! `fwnet bundle`: puts signed documents together, with a snapshot of them and a timestamp, and looks at the result as a
//! host would.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use jiff::Timestamp;
use wire::{
    Bundle, Envelope, Listed, Moment, Payload, Policy, Role, Snapshot, Stamp, Trust, digest, limits,
};

use crate::{
    answer,
    documents::{name, read_up_to},
    signing::{self, Expiry, Key},
};

/// Command line of `fwnet bundle`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// A bundle to begin with: what is not named here stays as it is there, and versions count on
    #[arg(long, value_name = "BUNDLE")]
    from: Option<PathBuf>,
    /// A signed root (repeatable, in the order of their versions)
    #[arg(long, value_name = "FILE")]
    root: Vec<PathBuf>,
    /// A signed policy; it takes the place of the one of its name (repeatable)
    #[arg(value_name = "FILE")]
    documents: Vec<PathBuf>,
    /// A key of the role snapshot (repeatable); without one, the snapshot of --from stays
    #[arg(long, value_name = "FILE")]
    snapshot_key: Vec<PathBuf>,
    /// A key of the role timestamp (repeatable)
    #[arg(long, value_name = "FILE", required = true)]
    timestamp_key: Vec<PathBuf>,
    /// A host or an audience that the bundle is for (repeatable; without it, everybody)
    #[arg(long, value_name = "NAME")]
    audience: Vec<String>,
    /// When hosts stop taking the snapshot
    #[arg(long, value_name = "TIME", default_value = "90d")]
    snapshot_expires: Expiry,
    /// When what hosts have becomes stale, unless a new timestamp comes
    #[arg(long, value_name = "TIME", default_value = "7d")]
    timestamp_expires: Expiry,
    /// Where to write it (default: standard output)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Exit code 0 if it is made, 1 if no host would take it, 2 if a file is wrong.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    answer::exit(bundle(typed))
}

fn bundle(typed: &Typed) -> anyhow::Result<u8> {
    let now = Timestamp::now();
    let before = typed.from.as_ref().map(|path| {
        let bytes = read_up_to(path, limits::BUNDLE_BYTES_MAX)?;
        Bundle::read(&bytes).with_context(|| name(path))
    });
    let before = before.transpose()?;
    let roots = roots(typed, before.as_ref())?;
    let first = roots.first().context("no root is named: --root")?;
    let trust = Trust::begin(&serde_json::to_vec(first)?)?;
    let documents = documents(typed, before.as_ref())?;
    let snapshot = snapshot(typed, before.as_ref(), &documents, now)?;
    let stamp = stamp(typed, before.as_ref(), &snapshot, now)?;
    let bundle = Bundle::new(roots, stamp, snapshot, documents).to_json();
    if let Err(error) = trust.verify(bundle.as_bytes(), Moment { now, names: None, host: None }) {
        eprintln!("fwnet: no host would take this bundle: {error}");
        return Ok(answer::FINDING);
    }
    signing::write(typed.out.as_deref(), &bundle)?;
    Ok(answer::FINE)
}

fn roots(typed: &Typed, before: Option<&Bundle>) -> anyhow::Result<Vec<Envelope>> {
    let mut roots = before.map(|bundle| bundle.roots.clone()).unwrap_or_default();
    for path in &typed.root {
        let root = signing::envelope(path)?;
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    Ok(roots)
}

/// By name, so that a new version takes the place of the old one.
fn documents(typed: &Typed, before: Option<&Bundle>) -> anyhow::Result<Vec<Envelope>> {
    let mut documents = BTreeMap::new();
    for envelope in before.map(|bundle| bundle.documents.clone()).unwrap_or_default() {
        documents.insert(envelope.unverified::<Policy>()?.name, envelope);
    }
    for path in &typed.documents {
        let envelope = signing::envelope(path)?;
        let policy = envelope.unverified::<Policy>().with_context(|| name(path))?;
        documents.insert(policy.name, envelope);
    }
    Ok(documents.into_values().collect())
}

fn snapshot(
    typed: &Typed,
    before: Option<&Bundle>,
    documents: &[Envelope],
    now: Timestamp,
) -> anyhow::Result<Envelope> {
    let old = before.map(|bundle| &bundle.snapshot);
    if typed.snapshot_key.is_empty() {
        if !typed.documents.is_empty() || !typed.audience.is_empty() {
            bail!("other documents need another snapshot: --snapshot-key");
        }
        return old.cloned().context("there is no snapshot yet: --snapshot-key");
    }
    let old = old.map(|envelope| envelope.unverified::<Snapshot>()).transpose()?;
    let listed = |envelope: &Envelope| {
        anyhow::Ok(Listed::of(&envelope.unverified::<Policy>()?, envelope.payload()))
    };
    let audience = match &old {
        Some(old) if typed.audience.is_empty() => old.audience.clone(),
        Some(_) | None => typed.audience.clone(),
    };
    let snapshot = Snapshot {
        version: old.map_or(1, |old| old.version.saturating_add(1)),
        expires: typed.snapshot_expires.from(now)?,
        audience,
        documents: documents.iter().map(listed).collect::<anyhow::Result<_>>()?,
    };
    signed(&snapshot, Role::Snapshot, &typed.snapshot_key)
}

fn stamp(
    typed: &Typed,
    before: Option<&Bundle>,
    snapshot: &Envelope,
    now: Timestamp,
) -> anyhow::Result<Envelope> {
    let old = before.map(|bundle| bundle.timestamp.unverified::<Stamp>()).transpose()?;
    let stamp = Stamp {
        version: old.map_or(1, |old| old.version.saturating_add(1)),
        expires: typed.timestamp_expires.from(now)?,
        snapshot: snapshot.unverified::<Snapshot>()?.version,
        digest: digest(snapshot.payload()),
    };
    signed(&stamp, Role::Timestamp, &typed.timestamp_key)
}

fn signed<T: Payload>(payload: &T, role: Role, keys: &[PathBuf]) -> anyhow::Result<Envelope> {
    if let Err(wrong) = payload.sound() {
        bail!("the {role}: {wrong}");
    }
    let mut envelope = Envelope::new(payload);
    for key in keys {
        Key::read(key)?.sign(role, &mut envelope)?;
    }
    Ok(envelope)
}
