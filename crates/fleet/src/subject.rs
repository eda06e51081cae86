//! Who somebody is: the one name that a certificate of the fleet carries, as a URI among its alternative names
//! (RFC 5280 section 4.2.1.6), such as `fwnet:host/web-1`.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, prelude::FromDer};

use crate::authority::BACKDATED;

/// Bytes of a name.
pub const NAME_BYTES_MAX: usize = 128;
/// Begins every URI of ours.
const SCHEME: &str = "fwnet:";

/// What somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A machine that enforces.
    Host,
    /// A server with a store.
    Controller,
    /// A server without one.
    Relay,
    /// Somebody who says what is to be enforced.
    Operator,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Host, Self::Controller, Self::Relay, Self::Operator];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Controller => "controller",
            Self::Relay => "relay",
            Self::Operator => "operator",
        }
    }

    /// Whether agents connect to it.
    pub const fn serves(self) -> bool {
        matches!(self, Self::Controller | Self::Relay)
    }
}

/// Who somebody is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    kind: Kind,
    name: String,
}

/// Why a text names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// It has another form.
    #[error("a subject is `fwnet:` and host, controller, relay or operator, and `/` and a name")]
    Form,
    /// The name.
    #[error(
        "`{0}` is no name: letters, digits, `-`, `_` and `.` are wanted, {NAME_BYTES_MAX} at most, and a letter or a \
         digit first"
    )]
    Name(String),
}

impl Subject {
    /// Of a kind, with a name of letters, digits, `-`, `_` and `.` that begins with a letter or a digit.
    ///
    /// # Errors
    /// If it has another name.
    pub fn new(kind: Kind, name: &str) -> Result<Self, SubjectError> {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if !first || name.len() > NAME_BYTES_MAX || !name.bytes().all(sound) {
            return Err(SubjectError::Name(name.chars().take(NAME_BYTES_MAX).collect()));
        }
        Ok(Self { kind, name: name.to_owned() })
    }

    /// What it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Which one.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{SCHEME}{}/{}", self.kind.word(), self.name)
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let rest = text.strip_prefix(SCHEME).ok_or(SubjectError::Form)?;
        let (word, name) = rest.split_once('/').ok_or(SubjectError::Form)?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word);
        Self::new(kind.ok_or(SubjectError::Form)?, name)
    }
}

/// BLAKE3 of a certificate's DER: what records and relays know a certificate by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(*blake3::hash(certificate).as_bytes())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&blake3::Hash::from(self.0).to_hex(), to)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}

/// What a certificate says. Whether anybody vouches for it is not looked at here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Whose it is.
    pub subject: Subject,
    /// Which it is.
    pub fingerprint: Fingerprint,
    /// Since when it is good.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

/// Why a certificate says nothing to us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShownError {
    /// It is not X.509.
    #[error("this is not a certificate")]
    Form,
    /// It does not say who, or says it more than once.
    #[error("the certificate names nobody of a fleet")]
    Nobody,
    /// It names somebody wrongly.
    #[error(transparent)]
    Subject(#[from] SubjectError),
}

impl Shown {
    /// Reads a certificate that has been verified.
    ///
    /// # Errors
    /// If it is none of a fleet's.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, ShownError> {
        let (_rest, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate)
            .map_err(|_form| ShownError::Form)?;
        let names = parsed.subject_alternative_name().map_err(|_form| ShownError::Form)?;
        // More than one name, of whatever kind, is nothing that an authority of ours signs.
        let [GeneralName::URI(uri)] =
            names.map(|names| names.value.general_names.as_slice()).unwrap_or_default()
        else {
            return Err(ShownError::Nobody);
        };
        let time = |at: x509_parser::time::ASN1Time| {
            Timestamp::from_second(at.timestamp()).map_err(|_range| ShownError::Form)
        };
        Ok(Self {
            subject: uri.parse()?,
            fingerprint: Fingerprint::of(certificate),
            from: time(parsed.validity().not_before)?,
            until: time(parsed.validity().not_after)?,
        })
    }

    /// When it was made: the authority dates certificates back, for clocks that are behind.
    pub fn made(&self) -> Timestamp {
        self.from.checked_add(BACKDATED).unwrap_or(self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_go_round_and_names_cannot_leave_their_place() {
        for text in ["fwnet:host/web-1", "fwnet:controller/c.example", "fwnet:relay/r_2"] {
            assert_eq!(text.parse::<Subject>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "host/web-1",
            "fwnet:host",
            "fwnet:host/",
            "fwnet:host/a/b",
            "fwnet:host/../x",
            "fwnet:Host/a",
            "fwnet:admin/a",
            "fwnet:host/a b",
            "fwnet:host/a\0",
            "fwnet:host/-a",
            "FWNET:host/a",
        ] {
            assert!(text.parse::<Subject>().is_err(), "{text:?}");
        }
        assert!(Subject::new(Kind::Host, &"a".repeat(NAME_BYTES_MAX)).is_ok());
        assert!(Subject::new(Kind::Host, &"a".repeat(NAME_BYTES_MAX + 1)).is_err());
    }
}
