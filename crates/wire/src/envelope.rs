//! The envelope around everything that is signed: DSSE (Dead Simple Signing Envelope, protocol 1.0.2).
//!
//! What is signed is the type and the bytes of the payload, each with its length before it ([`pae`]), so that a payload of
//! one type is never taken for one of another. The payload is parsed after its signatures were checked and not before.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    base64,
    document::Payload,
    key::{NamedKey, PublicKey, SecretKey},
    limits::SIGNATURES_MAX,
};

/// Signed bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Envelope {
    payload_type: String,
    #[serde(with = "base64")]
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

/// One signature. Whose it is stands there as a hint; what counts is which key it fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The key it says to be of.
    pub keyid: PublicKey,
    #[serde(with = "base64")]
    sig: Vec<u8>,
}

/// Who may sign something, and how many of them must.
#[derive(Clone, Debug)]
pub struct Authority<'a> {
    /// What messages call it: `role policy`, `delegation db-team`.
    pub name: String,
    /// The keys.
    pub keys: Vec<&'a NamedKey>,
    /// How many of them must sign; never 0.
    pub threshold: u32,
}

/// Why an envelope is not taken.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// It is signed as something else.
    #[error("it is signed as `{found}` and not as `{wanted}`")]
    Type {
        /// As it says.
        found: String,
        /// As it must be.
        wanted: &'static str,
    },
    /// Its payload is too large.
    #[error("it has {found} bytes, more than {max}")]
    Size {
        /// Its bytes.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// There are too many signatures to check.
    #[error("it has {0} signatures, more than {SIGNATURES_MAX}")]
    Signatures(usize),
    /// Too few have signed.
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
    /// It is signed, and makes no sense.
    #[error("it makes no sense: {0}")]
    Meaningless(String),
}

/// Too few have signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{have} of the {needed} signatures that {authority} needs{}", also(.invalid, .strangers))]
pub struct Unsigned {
    /// Who should have.
    pub authority: String,
    /// How many have.
    pub have: u32,
    /// How many must.
    pub needed: u32,
    /// Whose signature does not fit the bytes.
    pub invalid: Vec<String>,
    /// Signatures of keys that have no say here.
    pub strangers: usize,
}

fn also(invalid: &[String], strangers: &usize) -> String {
    let wrong = match invalid {
        [] => String::new(),
        names => format!("; the signature of {} does not fit the content", names.join(", ")),
    };
    match strangers {
        0 => wrong,
        1 => format!("{wrong}; 1 signature is of a key that has no say here"),
        some => format!("{wrong}; {some} signatures are of keys that have no say here"),
    }
}

impl Envelope {
    /// Not signed yet.
    pub fn new<T: Payload>(payload: &T) -> Self {
        let mut bytes = serde_json::to_vec_pretty(payload)
            .expect("documents have string keys and no failing serializer");
        bytes.push(b'\n');
        Self { payload_type: T::TYPE.to_owned(), payload: bytes, signatures: Vec::new() }
    }

    /// With bytes that somebody wrote: they are signed as they are.
    ///
    /// # Errors
    /// If they are too large or not what `T` is.
    pub fn of_bytes<T: Payload>(bytes: Vec<u8>) -> Result<Self, EnvelopeError> {
        let envelope =
            Self { payload_type: T::TYPE.to_owned(), payload: bytes, signatures: Vec::new() };
        envelope.unverified::<T>()?;
        Ok(envelope)
    }

    /// What it says to be.
    pub fn payload_type(&self) -> &str {
        &self.payload_type
    }

    /// The signed bytes.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Who says to have signed.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The envelope with an empty payload, and the payload.
    pub(crate) fn emptied(mut self) -> (Self, Vec<u8>) {
        let payload = std::mem::take(&mut self.payload);
        (self, payload)
    }

    /// The envelope with this payload, whatever it was signed with.
    pub(crate) fn filled(self, payload: Vec<u8>) -> Self {
        Self { payload, ..self }
    }

    /// Adds a signature, in the place of one by the same key.
    pub fn sign(&mut self, key: &SecretKey) {
        let keyid = key.public();
        let sig = key.sign(&pae(&self.payload_type, &self.payload)).to_vec();
        self.signatures.retain(|signature| signature.keyid != keyid);
        self.signatures.push(Signature { keyid, sig });
    }

    /// What it says, if enough of `authority` have signed it.
    ///
    /// # Errors
    /// The first thing that is wrong. Nothing is parsed before the signatures were found to be right.
    pub fn verified<T: Payload>(&self, authority: &Authority<'_>) -> Result<T, EnvelopeError> {
        self.shaped::<T>()?;
        self.signed_by(authority)?;
        self.parsed()
    }

    /// What it says, whoever signed it: for those who show it, and for looking which authority is to be asked.
    ///
    /// # Errors
    /// If it is of another type, too large or makes no sense.
    pub fn unverified<T: Payload>(&self) -> Result<T, EnvelopeError> {
        self.shaped::<T>()?;
        self.parsed()
    }

    /// The names of those of `authority` who have signed it, if they are enough.
    ///
    /// # Errors
    /// Who is missing.
    pub fn signed_by(&self, authority: &Authority<'_>) -> Result<Vec<String>, EnvelopeError> {
        if self.signatures.len() > SIGNATURES_MAX {
            return Err(EnvelopeError::Signatures(self.signatures.len()));
        }
        let message = pae(&self.payload_type, &self.payload);
        let mut signed = BTreeSet::new();
        let (mut invalid, mut strangers) = (Vec::new(), 0);
        for signature in &self.signatures {
            let Some(known) = authority.keys.iter().find(|it| it.key == signature.keyid) else {
                strangers += 1;
                continue;
            };
            let fits = <&[u8; 64]>::try_from(signature.sig.as_slice())
                .is_ok_and(|sig| known.key.verifies(&message, sig));
            if fits {
                // A set: whoever signs twice is one signer.
                signed.insert((&known.name, &known.key));
            } else {
                invalid.push(known.name.clone());
            }
        }
        let have = u32::try_from(signed.len()).unwrap_or(u32::MAX);
        let needed = authority.threshold.max(1);
        if have < needed {
            let authority = authority.name.clone();
            return Err(Unsigned { authority, have, needed, invalid, strangers }.into());
        }
        Ok(signed.into_iter().map(|(name, _)| name.clone()).collect())
    }

    fn shaped<T: Payload>(&self) -> Result<(), EnvelopeError> {
        if self.payload_type != T::TYPE {
            return Err(EnvelopeError::Type { found: self.payload_type.clone(), wanted: T::TYPE });
        }
        if self.payload.len() > T::BYTES_MAX {
            return Err(EnvelopeError::Size { found: self.payload.len(), max: T::BYTES_MAX });
        }
        Ok(())
    }

    fn parsed<T: Payload>(&self) -> Result<T, EnvelopeError> {
        let payload: T = serde_json::from_slice(&self.payload)
            .map_err(|error| EnvelopeError::Meaningless(error.to_string()))?;
        payload.sound().map_err(EnvelopeError::Meaningless)?;
        Ok(payload)
    }
}

/// Pre-authentication encoding: the bytes that are signed.
fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_that_of_the_protocol() {
        // The example of the protocol's own page.
        let encoded = pae("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }
}
