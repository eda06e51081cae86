//! Who may sign each document, and whether what stands in it is within every scope it stands under.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use super::{VerifyError, document, unexpired, wrong};
use crate::{
    document::{Delegation, Listed, Policy, Snapshot, digest},
    envelope::{Envelope, EnvelopeError},
    role::Role,
    root::Root,
    scope::{Escape, Why},
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

/// Verifies all documents of a snapshot. They come back in its order.
pub(super) fn verify(
    root: &Root,
    snapshot: &Snapshot,
    envelopes: &[Envelope],
    now: Timestamp,
) -> Result<Vec<Verified>, VerifyError> {
    let listed = matched(snapshot, envelopes)?;
    let authority = root.authority(Role::Policy);
    let mut verified: BTreeMap<&str, Verified> = BTreeMap::new();
    let mut refused: BTreeMap<&str, EnvelopeError> = BTreeMap::new();
    let mut handed_on = VecDeque::new();
    for &(listed, envelope) in &listed {
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

/// Each listed document with its envelope, by digest.
fn matched<'a>(
    snapshot: &'a Snapshot,
    envelopes: &'a [Envelope],
) -> Result<Vec<(&'a Listed, &'a Envelope)>, VerifyError> {
    let mut left: BTreeMap<String, &Envelope> =
        envelopes.iter().map(|it| (digest(it.payload()), it)).collect();
    let mut matched = Vec::with_capacity(snapshot.documents.len());
    for listed in &snapshot.documents {
        let Some(envelope) = left.remove(&listed.digest) else {
            let Listed { name, version, .. } = listed.clone();
            return Err(VerifyError::Missing { name, version });
        };
        matched.push((listed, envelope));
    }
    // More envelopes than documents, or the same one more than once.
    match envelopes.len() - matched.len() {
        0 => Ok(matched),
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
    unexpired(&what, policy.expires, now)?;
    let mut rules = 0;
    for delegation in &scopes {
        rules = delegation.scope.covers(&policy.policy).map_err(|escape| VerifyError::Scope {
            name: policy.name.clone(),
            delegation: delegation.name.clone(),
            escape: Box::new(escape),
        })?;
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
