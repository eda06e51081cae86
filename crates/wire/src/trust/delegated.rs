//! Who may sign each document, and whether what stands in it is within every scope it stands under.

use std::collections::{BTreeMap, VecDeque};

use ::policy::Host;
use jiff::Timestamp;

use super::{VerifyError, document, unexpired, wrong};
use crate::{
    document::{Delegation, Listed, Policy, Snapshot, digest},
    envelope::{Envelope, EnvelopeError},
    role::Role,
    root::Root,
    scope::{Escape, Reading, Why},
};

/// A document that is in order.
pub(super) struct Verified {
    pub(super) policy: Policy,
    pub(super) signers: Vec<String>,
    /// Delegations, outermost first.
    pub(super) under: Vec<String>,
    /// Their scopes.
    scopes: Vec<Delegation>,
    /// Rules in it.
    rules: u64,
}

/// A document as the snapshot lists it, and as it came.
pub(super) type Matched<'a> = (&'a Listed, &'a Envelope);

/// Verifies the documents that came. They come back in the same order.
pub(super) fn verify(
    root: &Root,
    listed: &[Matched<'_>],
    now: Timestamp,
) -> Result<Vec<Verified>, VerifyError> {
    let authority = root.authority(Role::Policy);
    let mut verified: BTreeMap<&str, Verified> = BTreeMap::new();
    let mut refused: BTreeMap<&str, EnvelopeError> = BTreeMap::new();
    let mut handed_on = VecDeque::new();
    for &(listed, envelope) in listed {
        // What the role policy has not signed may be delegated: that is seen below.
        let signers = match envelope.signed_by(&authority) {
            Ok(signers) => signers,
            Err(error) => {
                refused.insert(&listed.name, error);
                continue;
            }
        };
        let one = checked(listed, envelope, signers, Vec::new(), now)?;
        handed_on.extend(delegations(&one));
        verified.insert(&listed.name, one);
    }
    while let Some((delegation, scopes)) = handed_on.pop_front() {
        let found = listed.iter().find(|(listed, _)| listed.name == delegation.name);
        // Not written yet.
        let Some(&(listed, envelope)) = found else { continue };
        refused.remove(listed.name.as_str());
        let signers =
            envelope.signed_by(&delegation.authority()).map_err(wrong(&document(&listed.name)))?;
        let under = scopes.iter().chain([&delegation]).cloned().collect();
        let one = checked(listed, envelope, signers, under, now)?;
        handed_on.extend(delegations(&one));
        if verified.insert(&listed.name, one).is_some() {
            return Err(VerifyError::Delegated { name: listed.name.clone() });
        }
    }
    if let Some((name, error)) = refused.into_iter().next() {
        return Err(wrong(&document(name))(error));
    }
    counted(&verified)?;
    let order = listed.iter().filter_map(|(listed, _)| verified.remove(listed.name.as_str()));
    Ok(order.collect())
}

/// Each listed document with its envelope, by digest, and the names of those that did not come and need not have: they
/// do not concern `host`.
pub(super) fn matched<'a>(
    snapshot: &'a Snapshot,
    envelopes: &'a [Envelope],
    host: Option<&Host>,
) -> Result<(Vec<Matched<'a>>, Vec<String>), VerifyError> {
    let mut left: BTreeMap<String, &Envelope> =
        envelopes.iter().map(|it| (digest(it.payload()), it)).collect();
    let (mut matched, mut left_out) = (Vec::with_capacity(snapshot.documents.len()), Vec::new());
    for listed in &snapshot.documents {
        match (left.remove(&listed.digest), host) {
            (Some(envelope), _) => matched.push((listed, envelope)),
            (None, None) => {
                let Listed { name, version, .. } = listed.clone();
                return Err(VerifyError::Missing { name, version });
            }
            // What cannot be read concerns everybody; a snapshot is not taken with it anyway.
            (None, Some(host)) if listed.is_for(host).unwrap_or(true) => {
                let Listed { name, version, concerns, .. } = listed.clone();
                let concerns = concerns.unwrap_or_else(|| "any".to_owned());
                return Err(VerifyError::HeldBack { name, version, concerns });
            }
            (None, Some(_)) => left_out.push(listed.name.clone()),
        }
    }
    // More envelopes than documents, or the same one more than once.
    match envelopes.len() - matched.len() {
        0 => Ok((matched, left_out)),
        more => Err(VerifyError::Unlisted(more)),
    }
}

/// A document that `signers` signed, who may.
fn checked(
    listed: &Listed,
    envelope: &Envelope,
    signers: Vec<String>,
    scopes: Vec<Delegation>,
    now: Timestamp,
) -> Result<Verified, VerifyError> {
    let what = document(&listed.name);
    let policy: Policy = envelope.unverified().map_err(wrong(&what))?;
    if policy.name != listed.name || policy.version != listed.version {
        return Err(VerifyError::Other { what, by: "the snapshot" });
    }
    // Whoever makes snapshots says whom a document concerns, and its authors have: others must not be told less.
    if listed.concerns.is_some() && listed.concerns != policy.concerns() {
        let (name, concerns) = (policy.name.clone(), policy.concerns());
        return Err(VerifyError::Concerns { name, concerns });
    }
    unexpired(&what, policy.expires, now)?;
    let mut rules = 0;
    let mut reading = None;
    for delegation in &scopes {
        let escaped = |escape| VerifyError::Scope {
            name: policy.name.clone(),
            delegation: delegation.name.clone(),
            escape: Box::new(escape),
        };
        // Read once, whatever the number of scopes.
        let reading = match &mut reading {
            Some(known) => known,
            none @ None => none.insert(Reading::of(&policy.policy).map_err(escaped)?),
        };
        rules = delegation.scope.covers_read(reading).map_err(escaped)?;
    }
    if let Some(last) = scopes.last() {
        let too_deep = |on: &&Delegation| last.scope.depth <= on.scope.depth;
        if let Some(on) = policy.delegations.iter().find(too_deep) {
            let (name, delegation) = (policy.name.clone(), on.name.clone());
            return Err(VerifyError::Depth { name, delegation });
        }
    }
    let under = scopes.iter().map(|delegation| delegation.name.clone()).collect();
    Ok(Verified { policy, signers, under, scopes, rules })
}

/// What a document hands on, each with the scopes it stands under.
fn delegations(one: &Verified) -> Vec<(Delegation, Vec<Delegation>)> {
    one.policy.delegations.iter().map(|it| (it.clone(), one.scopes.clone())).collect()
}

/// Holds the number of rules, those that are handed on included, against every scope.
fn counted(verified: &BTreeMap<&str, Verified>) -> Result<(), VerifyError> {
    let mut rules: BTreeMap<&str, u64> = BTreeMap::new();
    for one in verified.values() {
        for delegation in &one.scopes {
            *rules.entry(&delegation.name).or_default() += one.rules;
        }
    }
    for one in verified.values() {
        let Some(delegation) = one.scopes.last() else { continue };
        let found = rules.get(delegation.name.as_str()).copied().unwrap_or_default();
        let max = delegation.scope.rules;
        if u64::from(max) < found {
            return Err(VerifyError::Scope {
                name: one.policy.name.clone(),
                delegation: delegation.name.clone(),
                escape: Box::new(Escape { rule: None, why: Why::Rules { found, max } }),
            });
        }
    }
    Ok(())
}
