//! Whose signatures a host asks for, and what it takes from a bundle: rules, with who vouches for them and until when.
//!
//! A host that trusts a root takes policy from bundles only, and every bundle goes through [`Trusted::examine`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wire::{Bundle, Freshness, Moment, Stale, Trust, VerifyError};

use crate::edition::Text;

/// Whose signatures are asked for, and who this host is to those who sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trusted {
    /// The root, and the newest versions that were seen.
    pub trust: Trust,
    /// Audiences this host belongs to, besides its own name.
    pub audiences: Vec<String>,
}

/// Who vouches for an edition, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The version of the root it was verified by.
    pub root: u64,
    /// The version of the snapshot.
    pub snapshot: u64,
    /// The version of the timestamp.
    pub timestamp: u64,
    /// The documents.
    pub documents: Vec<SignedDocument>,
    /// Until when it is fresh, and what follows.
    pub freshness: Freshness,
    /// Some documents are for some hosts only, so that it cannot be told from these what other hosts enforce.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub selective: bool,
}

/// A document that was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedDocument {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// Who signed it.
    pub signers: Vec<String>,
}

/// What a bundle holds for this host.
#[derive(Clone, Debug)]
pub struct Examined {
    /// What is to be kept before the policies come into force.
    pub trusted: Trusted,
    /// The policies.
    pub policies: Vec<Text>,
    /// Who vouches for them.
    pub signed: Signed,
}

impl Trusted {
    /// Verifies a bundle for the host called `host`. Changes nothing. Documents may be missing where it is `known` what a
    /// controller says of the host and they do not concern it.
    ///
    /// # Errors
    /// The one thing that is wrong with it.
    pub fn examine(
        &self,
        bundle: &[u8],
        host: &str,
        known: Option<&policy::Host>,
        now: Timestamp,
    ) -> Result<Examined, VerifyError> {
        let mut names = vec![host.to_owned()];
        names.extend(self.audiences.iter().cloned());
        let moment = Moment { now, names: Some(&names), host: known };
        let accepted = self.trust.verify(bundle, moment)?;
        let signed = Signed {
            root: accepted.root,
            snapshot: accepted.snapshot,
            timestamp: accepted.timestamp,
            documents: accepted
                .documents
                .iter()
                .map(|it| SignedDocument {
                    name: it.name.clone(),
                    version: it.version,
                    signers: it.signers.clone(),
                })
                .collect(),
            freshness: accepted.freshness,
            selective: is_selective(bundle),
        };
        let text = |it: wire::Document| Text {
            name: format!("{}@{}", it.name, it.version),
            path: None,
            text: it.policy,
        };
        Ok(Examined {
            trusted: Self { trust: accepted.trust, audiences: self.audiences.clone() },
            policies: accepted.documents.into_iter().map(text).collect(),
            signed,
        })
    }

    /// What an edition is at `now`, or at the latest time that was seen, where a clock was set back.
    pub fn age(&self, signed: &Signed, now: Timestamp) -> Stale {
        signed.freshness.at(now.max(self.trust.marks.seen))
    }
}

/// Whether a verified bundle has documents that are not for everybody.
fn is_selective(bundle: &[u8]) -> bool {
    let documents = Bundle::read(bundle).map(|bundle| bundle.documents).unwrap_or_default();
    let for_some = |envelope: &wire::Envelope| {
        envelope.unverified::<wire::Policy>().is_ok_and(|document| !document.audience.is_empty())
    };
    documents.iter().any(for_some)
}
