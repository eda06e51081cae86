//! What hosts are: labels, addresses, whether they are shut off, whether they are there at all.

use std::collections::{BTreeMap, BTreeSet};

use policy::{Host, Inventory};
use verdict::Address;

use super::{Batch, Refusal, current_version};
use crate::{
    edition::Edition,
    limits::{ADDRESSES_MAX, NAMES_MAX},
    model::Model,
    records::{HostRecord, Key, Taken, addresses::text},
};

/// What an operator says of a host.
pub(super) struct Facts<'a> {
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) addresses: &'a [Address],
    pub(super) names: &'a [String],
}

/// Whether a host can be like this, by itself and beside the others.
pub(super) fn sound(model: &Model, id: &str, facts: &Facts<'_>) -> Result<(), Refusal> {
    let host = Host {
        id: id.to_owned(),
        names: facts.names.to_vec(),
        addresses: facts.addresses.to_vec(),
        labels: facts.labels.clone(),
    };
    Inventory::new(vec![host]).map_err(|faults| {
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Refusal::Faulty(told.join("\n"))
    })?;
    for (what, count, max) in [
        ("addresses", facts.addresses.len(), ADDRESSES_MAX),
        ("names", facts.names.len(), NAMES_MAX),
    ] {
        if count > max {
            return Err(Refusal::Faulty(format!("`{id}` has {count} {what}, more than {max}")));
        }
    }
    for &address in facts.addresses {
        if let Some(host) = model.owner(address).filter(|owner| owner != id) {
            return Err(Refusal::Address { address: text(address), host });
        }
    }
    for name in facts.names {
        let by_id = model.digest(&Key::Host(name.clone())).map(|_| name.clone());
        if let Some(host) = model.named(name).or(by_id).filter(|owner| owner != id) {
            return Err(Refusal::Named { name: name.clone(), host });
        }
    }
    match model.named(id).filter(|owner| owner != id) {
        Some(host) => Err(Refusal::Named { name: id.to_owned(), host }),
        None => Ok(()),
    }
}

impl Facts<'_> {
    /// Takes addresses and names for the host, and gives back those that it had `before` and has no longer. Whoever
    /// takes one at the same time is told of a conflict.
    pub(super) fn taking(
        &self,
        model: &Model,
        id: &str,
        before: Option<&HostRecord>,
        mut batch: Batch,
    ) -> Batch {
        let taken = Taken { host: id.to_owned() };
        let keys = |addresses: &[Address], names: &[String]| -> BTreeSet<String> {
            let addresses = addresses.iter().map(|&address| Key::Address(address).text());
            addresses.chain(names.iter().map(|name| Key::Name(name.clone()).text())).collect()
        };
        let now = keys(self.addresses, self.names);
        let had = before.map(|host| keys(&host.addresses, &host.names)).unwrap_or_default();
        let key = |text: &String| Key::read(text).ok().flatten();
        for key in now.difference(&had).filter_map(key) {
            batch = batch.replacing(model, &key, &taken);
        }
        for key in had.difference(&now).filter_map(key) {
            batch = batch.removing(model, &key);
        }
        // A name is nobody's id, and an id nobody's name.
        let fresh = |name: &&String| !before.is_some_and(|host| host.names.contains(name));
        for name in self.names.iter().filter(fresh) {
            batch = batch.expecting(model, &Key::Host(name.clone()));
        }
        if before.is_none() {
            batch = batch.expecting(model, &Key::Name(id.to_owned()));
        }
        batch
    }
}

fn host(model: &Model, id: &str) -> Result<HostRecord, Refusal> {
    model.host(id).ok_or_else(|| Refusal::NoHost(id.to_owned()))
}

fn replaced(
    model: &Model,
    id: &str,
    before: &HostRecord,
    after: HostRecord,
) -> Result<Batch, Refusal> {
    let facts = Facts { labels: &after.labels, addresses: &after.addresses, names: &after.names };
    sound(model, id, &facts)?;
    let batch = facts.taking(model, id, Some(before), Batch::default());
    let host = HostRecord { since: current_version(model), ..after };
    // `since` has to be that of the version that is current when this is written.
    let batch = batch.expecting(model, &Key::Current);
    Ok(batch.replacing(model, &Key::Host(id.to_owned()), &host))
}

/// Gives a host labels, or takes them away (`None`).
///
/// # Errors
/// See [`Refusal`].
pub fn label(
    model: &Model,
    id: &str,
    labels: &BTreeMap<String, Option<String>>,
) -> Result<Batch, Refusal> {
    let before = host(model, id)?;
    let mut after = before.clone();
    for (key, value) in labels {
        match value {
            Some(value) => {
                after.labels.insert(key.clone(), value.clone());
            }
            None => {
                after.labels.remove(key);
            }
        }
    }
    replaced(model, id, &before, after)
}

/// Says which addresses a host has, in place of those it had.
///
/// # Errors
/// See [`Refusal`].
pub fn address(model: &Model, id: &str, addresses: Vec<Address>) -> Result<Batch, Refusal> {
    let before = host(model, id)?;
    let after = HostRecord { addresses, ..before.clone() };
    replaced(model, id, &before, after)
}

/// Shuts a host off (`true`), or releases it.
///
/// # Errors
/// If there is no such host.
pub fn quarantine(model: &Model, id: &str, quarantined: bool) -> Result<Batch, Refusal> {
    let before = host(model, id)?;
    let after = HostRecord { quarantined, ..before.clone() };
    replaced(model, id, &before, after)
}

/// Forgets a host: its certificate is worth nothing any more, and neither is a token for it.
///
/// # Errors
/// If there is none, or if the policy speaks of it by its name, which nobody could read any more.
pub fn remove(model: &Model, id: &str) -> Result<Batch, Refusal> {
    let before = host(model, id)?;
    let current = model.current().map(|current| current.version());
    let tried = model.rollout().filter(|rollout| rollout.is_open()).map(|rollout| rollout.to());
    for version in [current, tried].into_iter().flatten() {
        let edition = Edition::read(model, version)?;
        let words = std::iter::once(id).chain(before.names.iter().map(String::as_str));
        if let Some(document) = words.into_iter().find_map(|word| edition.speaks_of(word)) {
            return Err(Refusal::Spoken { host: id.to_owned(), document: document.to_owned() });
        }
    }
    let nothing = Facts { labels: &BTreeMap::new(), addresses: &[], names: &[] };
    let mut batch = nothing.taking(model, id, Some(&before), Batch::default());
    batch = batch.removing(model, &Key::Host(id.to_owned())).expecting(model, &Key::Current);
    batch.remove.push(Key::Token(crate::records::Who::Host(id.to_owned())).text());
    Ok(batch)
}

/// Forgets a relay.
///
/// # Errors
/// If there is none.
pub fn remove_relay(model: &Model, name: &str) -> Result<Batch, Refusal> {
    let key = Key::Relay(name.to_owned());
    if model.digest(&key).is_none() {
        return Err(Refusal::NoRelay(name.to_owned()));
    }
    let mut batch = Batch::default().removing(model, &key);
    batch.remove.push(Key::Token(crate::records::Who::Relay(name.to_owned())).text());
    Ok(batch)
}
