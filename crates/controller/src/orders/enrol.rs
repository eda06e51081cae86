//! Who may come in: tokens, the hosts and relays that redeem them, and certificates that follow each other.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use verdict::Address;
use wire::Envelope;

use super::{
    Batch, Refusal, current_version,
    inventory::{Facts, sound},
    is_id, key_of,
};
use crate::{
    digest::Digest,
    limits::TOKEN_S_MAX,
    model::Model,
    records::{HostRecord, Key, RelayRecord, TokenRecord, VersionRecord, Who},
};

/// Tells a new fleet's store which root it trusts: an envelope, as a file of `fwnet sign root`. A fleet that trusts this one
/// already, or one that follows from it, is told nothing.
///
/// # Errors
/// If it is no root, or one is trusted that does not follow from it.
pub fn found(model: &Model, root: &[u8]) -> Result<Batch, Refusal> {
    let trust = wire::Trust::begin(root)?;
    match model.trust() {
        None => Ok(Batch::default().replacing(model, &Key::Root, &trust)),
        Some(known) if known.has_root_of(&trust) => Ok(Batch::default()),
        Some(known)
            if model.versions().rev().any(|it| trust.leads_to(known, &roots(model, it))) =>
        {
            Ok(Batch::default())
        }
        Some(_) => Err(Refusal::OtherRoot),
    }
}

/// The roots that a version came with, oldest first, as far as they are kept.
fn roots(model: &Model, version: &VersionRecord) -> Vec<Envelope> {
    let root = |digest| serde_json::from_slice(&model.piece(digest)?).ok();
    version.bundle.roots.iter().filter_map(root).collect()
}

/// An operator lets somebody in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrol {
    /// Whom.
    pub who: Who,
    /// A host's labels.
    pub labels: BTreeMap<String, String>,
    /// A host's addresses; without any it gets the one it comes from.
    pub addresses: Vec<Address>,
    /// A host's other names.
    pub names: Vec<String>,
    /// Whether it may be enrolled already. It keeps its labels, names and addresses then, and loses its certificate
    /// when the token is redeemed.
    pub again: bool,
    /// BLAKE3 of the secret in the token.
    pub secret: Digest,
    /// Seconds for which the token is valid.
    pub valid_s: u64,
    /// Who asks.
    pub by: String,
}

/// Makes a token. It takes the place of an earlier one for the same host or relay.
///
/// # Errors
/// See [`Refusal`].
pub fn enrol(model: &Model, asked: &Enrol, now: Timestamp) -> Result<Batch, Refusal> {
    let Enrol { who, labels, addresses, names, again, secret, valid_s, by } = asked;
    let (Who::Host(id) | Who::Relay(id)) = who;
    if !is_id(id) {
        return Err(Refusal::Name(id.clone()));
    }
    if model.digest(&key_of(who)).is_some() && !again {
        return Err(Refusal::Enrolled(id.clone()));
    }
    if let Who::Host(id) = who {
        sound(model, id, &Facts { labels, addresses, names })?;
    }
    let seconds = (*valid_s).min(TOKEN_S_MAX);
    let token = TokenRecord {
        secret: *secret,
        expires: later(now, seconds),
        labels: labels.clone(),
        addresses: addresses.clone(),
        names: names.clone(),
        by: by.clone(),
    };
    let batch = Batch::default().expecting(model, &key_of(who)).replacing(
        model,
        &Key::Token(who.clone()),
        &token,
    );
    Ok(batch)
}

/// Somebody brings a token: it is worth nothing any more afterwards, and whoever shows `certificate` is `who`.
///
/// `seen` is the address they came from, which a host gets that was given none.
///
/// # Errors
/// [`Refusal::Token`] unless the secret is right; else see [`Refusal`].
pub fn redeem(
    model: &Model,
    who: &Who,
    secret: &[u8],
    certificate: Digest,
    seen: Option<Address>,
    now: Timestamp,
) -> Result<Batch, Refusal> {
    let token = model.token(who).ok_or(Refusal::Token)?;
    if !token.secret.same_secret(&Digest::of(secret)) {
        return Err(Refusal::Token);
    }
    if token.expires <= now {
        return Err(Refusal::Expired(token.expires));
    }
    let mut batch = Batch::default().removing(model, &Key::Token(who.clone()));
    let key = key_of(who);
    match who {
        Who::Relay(_) => {
            let relay = RelayRecord { certificate, previous: None, enrolled_at: now };
            batch = batch.replacing(model, &key, &relay);
        }
        Who::Host(id) => {
            if let Some(before) = model.host(id) {
                let host = HostRecord { certificate, previous: None, ..before };
                return Ok(batch.replacing(model, &key, &host));
            }
            let TokenRecord { labels, mut addresses, names, .. } = token;
            if addresses.is_empty() {
                // Loopback is everybody's, and an address that is somebody else's is not this one's.
                let own =
                    |address: &Address| !address.is_loopback() && model.owner(*address).is_none();
                addresses.extend(seen.filter(own));
            }
            let facts = Facts { labels: &labels, addresses: &addresses, names: &names };
            sound(model, id, &facts)?;
            batch = facts.taking(model, id, None, batch);
            let host = HostRecord {
                labels,
                addresses,
                names,
                certificate,
                previous: None,
                enrolled_at: now,
                quarantined: false,
                since: current_version(model),
            };
            batch = batch.replacing(model, &key, &host);
        }
    }
    Ok(batch)
}

/// Whoever shows the certificate `shown` gets `next` in its place. The one it shows stays good until the next renewal:
/// should the answer be lost, it can ask again.
///
/// # Errors
/// [`Refusal::Certificate`] unless `shown` is its certificate or the one before.
pub fn renew(model: &Model, who: &Who, shown: Digest, next: Digest) -> Result<Batch, Refusal> {
    let key = key_of(who);
    let batch = Batch::default();
    let batch = match who {
        Who::Host(id) => {
            let host = model.host(id).ok_or_else(|| Refusal::NoHost(id.clone()))?;
            if !is_of(shown, host.certificate, host.previous) {
                return Err(Refusal::Certificate(id.clone()));
            }
            let host = HostRecord { certificate: next, previous: Some(shown), ..host };
            batch.replacing(model, &key, &host)
        }
        Who::Relay(name) => {
            let relay = model.relay(name).ok_or_else(|| Refusal::NoRelay(name.clone()))?;
            if !is_of(shown, relay.certificate, relay.previous) {
                return Err(Refusal::Certificate(name.clone()));
            }
            let relay = RelayRecord { certificate: next, previous: Some(shown), ..relay };
            batch.replacing(model, &key, &relay)
        }
    };
    Ok(batch)
}

/// Whether a certificate is the one that was given out last, or the one before.
pub(crate) fn is_of(shown: Digest, certificate: Digest, previous: Option<Digest>) -> bool {
    shown == certificate || Some(shown) == previous
}

pub(super) fn later(now: Timestamp, seconds: u64) -> Timestamp {
    let seconds = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    now.saturating_add(seconds).unwrap_or(Timestamp::MAX)
}
