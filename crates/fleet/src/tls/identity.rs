//! How somebody proves who they are: a certificate, its key, and who signed it.

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{
    membership::{Key, Membership},
    subject::{Shown, ShownError},
};

/// Letters of one line of PEM (RFC 7468 section 2).
const LINE: usize = 64;

/// A certificate, its key, and the authority that signed it.
#[derive(Debug)]
pub struct Identity {
    /// What it shows.
    pub certificate: CertificateDer<'static>,
    /// Who signed that.
    pub authority: CertificateDer<'static>,
    /// Its key. `Debug` does not show it.
    pub key: PrivateKeyDer<'static>,
}

/// Why a membership proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A text in it is not PEM of what it should be.
    #[error("the membership's {0} is not what it should be")]
    Form(&'static str, #[source] rustls::pki_types::pem::Error),
    /// The certificate.
    #[error(transparent)]
    Shown(#[from] ShownError),
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            certificate: self.certificate.clone(),
            authority: self.authority.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl Identity {
    /// Of a member.
    ///
    /// # Errors
    /// If a text of it is something else.
    pub fn of(member: &Membership) -> Result<Self, IdentityError> {
        let of = |what| move |error| IdentityError::Form(what, error);
        let certificate =
            |text: &str, what| CertificateDer::from_pem_slice(text.as_bytes()).map_err(of(what));
        Ok(Self {
            certificate: certificate(&member.certificate, "certificate")?,
            authority: certificate(&member.authority, "authority")?,
            key: PrivateKeyDer::from_pem_slice(member.key.0.as_bytes()).map_err(of("key"))?,
        })
    }

    /// What a member keeps. `root` is the digest of the first root's envelope in hexadecimal, or empty.
    ///
    /// # Errors
    /// If the certificate is none of a fleet's.
    pub fn member(&self, endpoints: Vec<String>, root: String) -> Result<Membership, ShownError> {
        let shown = self.shown()?;
        Ok(Membership {
            id: shown.subject.name().to_owned(),
            endpoints,
            authority: pem("CERTIFICATE", &self.authority),
            certificate: pem("CERTIFICATE", &self.certificate),
            key: Key(pem("PRIVATE KEY", self.key.secret_der())),
            issued: shown.made(),
            expires: shown.until,
            root,
        })
    }

    /// Whose it is, and until when.
    ///
    /// # Errors
    /// If it is none of a fleet's.
    pub fn shown(&self) -> Result<Shown, ShownError> {
        Shown::read(&self.certificate)
    }
}

/// Text around bytes (RFC 7468).
pub fn pem(label: &str, bytes: &[u8]) -> String {
    let encoded = STANDARD.encode(bytes);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
