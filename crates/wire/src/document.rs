//! What is signed, beside the root: policies with their delegations, snapshots, timestamps.

use std::collections::BTreeSet;

use jiff::Timestamp;
use policy::{Concerned, Diagnostics, Host, Parsed, Source};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    envelope::Authority,
    key::{NamedKey, is_name},
    limits::{
        AUDIENCES_MAX, DELEGATION_DEPTH_MAX, DELEGATIONS_MAX, DOCUMENTS_MAX, KEYS_MAX,
        POLICY_BYTES_MAX, ROOT_BYTES_MAX, SNAPSHOT_BYTES_MAX,
    },
    scope::Scope,
};

/// Something that is signed.
pub trait Payload: Serialize + DeserializeOwned {
    /// The type that is signed with it.
    const TYPE: &'static str;
    /// Bytes of the largest.
    const BYTES_MAX: usize;

    /// Whether it makes sense by itself.
    ///
    /// # Errors
    /// What does not, in one sentence.
    fn sound(&self) -> Result<(), String>;
}

/// A policy document with its version, and what its authors hand on to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Which document it is: all versions of it have this name.
    pub name: String,
    /// Counts from 1, and never goes back.
    pub version: u64,
    /// From then on it is not taken any more.
    pub expires: Timestamp,
    /// Host names and audiences that it is for; everybody where it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audience: Vec<String>,
    /// The policy, in its text or JSON form.
    pub policy: String,
    /// Further documents that others may sign.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delegations: Vec<Delegation>,
}

/// Who may sign the document of a name, and what may stand in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delegation {
    /// The document's name.
    pub name: String,
    /// Who may sign it.
    pub keys: Vec<NamedKey>,
    /// How many of them must.
    pub threshold: u32,
    /// What may stand in it.
    pub scope: Scope,
}

/// Which versions of all documents belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Counts from 1, and never goes back.
    pub version: u64,
    /// From then on it is not taken any more.
    pub expires: Timestamp,
    /// Host names and audiences that the whole bundle is for; everybody where it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audience: Vec<String>,
    /// Every document.
    pub documents: Vec<Listed>,
}

/// A document of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// BLAKE3 of its payload.
    pub digest: String,
    /// The hosts that it concerns, as a selector ([`policy::concerns`]): others need not have it. Everybody needs to
    /// where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concerns: Option<String>,
}

/// Which snapshot is the newest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// Counts from 1, and never goes back.
    pub version: u64,
    /// From then on what a host has is stale.
    pub expires: Timestamp,
    /// The snapshot's version.
    pub snapshot: u64,
    /// BLAKE3 of its payload.
    pub digest: String,
}

impl Listed {
    /// As `policy`, whose signed bytes are `payload`, is listed.
    pub fn of(policy: &Policy, payload: &[u8]) -> Self {
        Self {
            name: policy.name.clone(),
            version: policy.version,
            digest: digest(payload),
            concerns: policy.concerns(),
        }
    }

    /// Whether a host must have the document.
    ///
    /// # Errors
    /// If what stands there is no selector.
    pub fn is_for(&self, host: &Host) -> Result<bool, String> {
        match &self.concerns {
            Some(selector) => Ok(Concerned::read(selector)?.selects(host)),
            None => Ok(true),
        }
    }
}

impl Policy {
    /// The hosts that it concerns, as a selector; `None` for everybody, and where it cannot be read.
    pub fn concerns(&self) -> Option<String> {
        let mut report = Diagnostics::default();
        let (_text, parsed) = policy::read(self.source(), 0, &mut report);
        concerns(&parsed, &report)
    }

    fn source(&self) -> Source<'_> {
        Source { name: "", bytes: self.policy.as_bytes() }
    }
}

/// The same of a document's policy that was read already, with what was found wrong in it.
pub fn concerns(parsed: &Parsed, report: &Diagnostics) -> Option<String> {
    let sound = !report.has_errors() && parsed.damaged == 0;
    sound.then(|| policy::concerns(&parsed.document)).flatten()
}

/// BLAKE3 of signed bytes, in hexadecimal.
pub fn digest(payload: &[u8]) -> String {
    blake3::hash(payload).to_hex().to_string()
}

impl Payload for Policy {
    const TYPE: &'static str = "application/vnd.fwnet.policy+json";
    const BYTES_MAX: usize = POLICY_BYTES_MAX;

    fn sound(&self) -> Result<(), String> {
        named("the document", &self.name)?;
        counted(self.version)?;
        audience(&self.audience)?;
        if self.delegations.len() > DELEGATIONS_MAX {
            return Err(format!("it has more than {DELEGATIONS_MAX} delegations"));
        }
        let mut names = BTreeSet::from([self.name.as_str()]);
        for delegation in &self.delegations {
            delegation.sound()?;
            if !names.insert(&delegation.name) {
                return Err(format!("it delegates `{}` twice, or to itself", delegation.name));
            }
        }
        Ok(())
    }
}

impl Delegation {
    /// Who may sign what is delegated.
    pub fn authority(&self) -> Authority<'_> {
        Authority {
            name: format!("the delegation `{}`", self.name),
            keys: self.keys.iter().collect(),
            threshold: self.threshold,
        }
    }

    fn sound(&self) -> Result<(), String> {
        let what = format!("the delegation `{}`", self.name);
        named(&what, &self.name)?;
        keys(&what, &self.keys)?;
        threshold(&what, self.threshold, self.keys.len())?;
        if self.scope.depth > DELEGATION_DEPTH_MAX {
            return Err(format!("{what} may be handed on more than {DELEGATION_DEPTH_MAX} times"));
        }
        self.scope.sound().map_err(|error| format!("the scope of {what}: {error}"))
    }
}

impl Payload for Snapshot {
    const TYPE: &'static str = "application/vnd.fwnet.snapshot+json";
    const BYTES_MAX: usize = SNAPSHOT_BYTES_MAX;

    fn sound(&self) -> Result<(), String> {
        counted(self.version)?;
        audience(&self.audience)?;
        if self.documents.len() > DOCUMENTS_MAX {
            return Err(format!("it lists more than {DOCUMENTS_MAX} documents"));
        }
        let mut names = BTreeSet::new();
        for listed in &self.documents {
            named("a document", &listed.name)?;
            counted(listed.version)?;
            if let Some(selector) = &listed.concerns {
                Concerned::read(selector)
                    .map_err(|error| format!("whom `{}` concerns: {error}", listed.name))?;
            }
            if !names.insert(&listed.name) {
                return Err(format!("it lists `{}` twice", listed.name));
            }
        }
        Ok(())
    }
}

impl Payload for Stamp {
    const TYPE: &'static str = "application/vnd.fwnet.timestamp+json";
    const BYTES_MAX: usize = ROOT_BYTES_MAX;

    fn sound(&self) -> Result<(), String> {
        counted(self.version)?;
        counted(self.snapshot)
    }
}

/// Whether somebody called by any of `names` is meant.
pub(crate) fn is_for(audience: &[String], names: &[String]) -> bool {
    audience.is_empty() || audience.iter().any(|wanted| names.contains(wanted))
}

pub(crate) fn named(what: &str, name: &str) -> Result<(), String> {
    if is_name(name) {
        return Ok(());
    }
    Err(format!(
        "{what} has the name {name:?}: letters, digits, `-`, `_`, `.`, `@` and `/` are names"
    ))
}

pub(crate) fn counted(version: u64) -> Result<(), String> {
    if version == 0 { Err("versions count from 1".to_owned()) } else { Ok(()) }
}

/// Keys that are all different, as their names are.
pub(crate) fn keys(what: &str, keys: &[NamedKey]) -> Result<(), String> {
    if keys.len() > KEYS_MAX {
        return Err(format!("{what} has more than {KEYS_MAX} keys"));
    }
    let (mut names, mut known) = (BTreeSet::new(), BTreeSet::new());
    for NamedKey { name, key } in keys {
        named("a key", name)?;
        if !names.insert(name) {
            return Err(format!("{what} has two keys called `{name}`"));
        }
        if !known.insert(key) {
            return Err(format!("{what} has the key of `{name}` twice"));
        }
    }
    Ok(())
}

pub(crate) fn threshold(what: &str, threshold: u32, keys: usize) -> Result<(), String> {
    match threshold {
        0 => Err(format!("{what} would need no signature")),
        some if some as usize > keys => {
            Err(format!("{what} needs {some} signatures and has {keys} keys"))
        }
        _ => Ok(()),
    }
}

fn audience(names: &[String]) -> Result<(), String> {
    if names.len() > AUDIENCES_MAX {
        return Err(format!("it has more than {AUDIENCES_MAX} audiences"));
    }
    names.iter().try_for_each(|name| named("an audience", name))
}
