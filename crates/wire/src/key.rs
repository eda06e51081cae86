//! Keys: Ed25519 (RFC 8032), each known by itself and not by a digest, so that one key cannot have two ids.

use std::{fmt, str::FromStr};

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::{base64, limits::NAME_BYTES_MAX};

/// Begins the text of a public key.
const PUBLIC: &str = "ed25519:";
/// Begins the text of a secret key, so that nobody takes one for the other.
const SECRET: &str = "ed25519-secret:";

/// Whom a signature is checked against. Never a point of small order, for which signatures can be made by anybody.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(VerifyingKey);

/// What signs. Its memory is cleared when it is dropped, and `Debug` does not show it.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

/// A key and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedKey {
    /// Whose it is, for people: letters, digits, `-`, `_`, `.`, `@`.
    pub name: String,
    /// The key.
    pub key: PublicKey,
}

/// Why a text is not a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It does not begin as keys do.
    #[error("a public key is `ed25519:` and 32 bytes in base64")]
    NotPublic,
    /// It does not begin as secret keys do.
    #[error("a secret key is `ed25519-secret:` and 32 bytes in base64")]
    NotSecret,
    /// The bytes are no point of the curve.
    #[error("the key is not a point of Curve25519")]
    NotAPoint,
    /// A point of small order.
    #[error("the key is weak: anybody can sign for it")]
    Weak,
}

impl PublicKey {
    /// Whether `signature` is one of this key over `message`, strictly: canonical encodings only, no point of small
    /// order, so that no second signature can be made of a first.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    }
}

impl SecretKey {
    /// From 32 random bytes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// What others check its signatures against.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// The secret as text. Whoever has it can sign.
    pub fn reveal(&self) -> String {
        format!("{SECRET}{}", base64::encode(self.0.as_bytes()))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

fn bytes(text: &str, prefix: &str) -> Option<[u8; 32]> {
    base64::decode(text.strip_prefix(prefix)?)?.try_into().ok()
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = bytes(text, PUBLIC).ok_or(KeyError::NotPublic)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_no_point| KeyError::NotAPoint)?;
        if key.is_weak() { Err(KeyError::Weak) } else { Ok(Self(key)) }
    }
}

impl FromStr for SecretKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        bytes(text, SECRET).map(Self::from_seed).ok_or(KeyError::NotSecret)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.as_bytes().cmp(other.0.as_bytes())
    }
}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{PUBLIC}{}", base64::encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "the secret of {}", self.public())
    }
}

/// Whether `text` can be a name: letters, digits, `-`, `_`, `.`, `@`, `/` within it.
pub(crate) fn is_name(text: &str) -> bool {
    let sound =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@' | b'/');
    !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && text.bytes().all(sound)
        && !text.starts_with(['/', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_round_and_do_not_show_their_secret() {
        let secret = SecretKey::from_seed([7; 32]);
        let public = secret.public();
        assert_eq!(public.to_string().parse::<PublicKey>().unwrap(), public);
        assert_eq!(secret.reveal().parse::<SecretKey>().unwrap().public(), public);
        assert!(!format!("{secret:?}").contains(&secret.reveal()));
        assert_eq!(secret.reveal().parse::<PublicKey>(), Err(KeyError::NotPublic));
        assert!(public.to_string().parse::<SecretKey>().is_err());
    }

    #[test]
    fn weak_keys_are_refused() {
        // The identity, and the point of order two: any signature of a certain form fits any message.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut order_two = [0xff; 32];
        order_two[0] = 0xec;
        order_two[31] = 0x7f;
        for weak in [identity, order_two, [0; 32]] {
            let text = format!("{PUBLIC}{}", base64::encode(&weak));
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError::Weak));
        }
        let text = format!("{PUBLIC}{}", base64::encode(&[2; 32]));
        assert_eq!(text.parse::<PublicKey>(), Err(KeyError::NotAPoint));
    }
}
