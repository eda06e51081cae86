//! The authority of a fleet: one key that says who is who. It signs certificates of a short life; what they may do is
//! decided by whoever is shown one.
//!
//! `authority.pem` and `authority.key` in one directory. Whoever has the key can be anybody, a controller included, and
//! can still not change a rule: those are signed by people ([`wire::Trust`]).

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::{
    CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, pem::PemObject,
};
use time::OffsetDateTime;
use x509_parser::prelude::FromDer;

use crate::{
    subject::{Kind, Subject},
    tls::Identity,
    whole,
};

/// The authority's certificate in its directory.
pub const CERTIFICATE: &str = "authority.pem";
/// Its key.
pub const KEY: &str = "authority.key";
/// How long a certificate of a host, a relay or a controller is good: a day.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long an operator's is: a year, because it is made by hand.
pub const OPERATOR_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long the authority's own is: ten years.
pub const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3653 * 24 * 3600);
/// Clocks of hosts may be so much behind ours.
pub const BACKDATED: Duration = Duration::from_secs(600);
/// Bytes of a request for a certificate.
pub const REQUEST_BYTES_MAX: usize = 8 << 10;

/// BLAKE3 of the public key of an authority (its SubjectPublicKeyInfo): what a host that joins knows it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPin(pub [u8; 32]);

impl KeyPin {
    /// Of a certificate; `None` if it is none.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = x509_parser::certificate::X509Certificate::from_der(certificate);
        let (_rest, parsed) = parsed.ok()?;
        Some(Self(*blake3::hash(parsed.public_key().raw).as_bytes()))
    }
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file.
    #[error("{}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// What is in a file.
    #[error("{path} is not what it should be: {1}", path = .0.display())]
    Form(PathBuf, String),
    /// There is one already.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// There is no randomness, or no memory.
    #[error("make a key")]
    Key(#[source] rcgen::Error),
}

/// Why a certificate is not made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The request is too long.
    #[error("the request has {0} bytes, more than {REQUEST_BYTES_MAX}")]
    Size(usize),
    /// The request is none, or not signed by its own key.
    #[error("this is not a request for a certificate: {0}")]
    Request(rcgen::Error),
    /// The key is of another kind.
    #[error("the key of the request is not one of P-256")]
    Algorithm,
    /// The time cannot be written.
    #[error("the lifetime is beyond what a certificate can say")]
    Time,
    /// Signing.
    #[error("sign the certificate")]
    Sign(#[source] rcgen::Error),
}

/// Says who is who.
pub struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "authority {:?}", self.pin())
    }
}

impl Authority {
    /// Makes one in a directory, for a fleet of that name.
    ///
    /// # Errors
    /// If there is one already, or it cannot be written.
    pub fn make(directory: &Path, name: &str, now: Timestamp) -> Result<Self, OpenError> {
        let file = |name: &str| directory.join(name);
        for name in [CERTIFICATE, KEY] {
            if file(name).exists() {
                return Err(OpenError::Exists(file(name)));
            }
        }
        let key = KeyPair::generate().map_err(OpenError::Key)?;
        let mut parameters = parameters(format!("fwnet {name}"), now, AUTHORITY_LIFETIME)
            .map_err(|error| OpenError::Form(file(CERTIFICATE), error.to_string()))?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = parameters.self_signed(&key).map_err(OpenError::Key)?;
        let made = whole::directory(directory);
        made.map_err(|error| OpenError::File(directory.to_owned(), error))?;
        let written = |name: &str, text: String| {
            whole::write(directory, name, text.as_bytes())
                .map_err(|error| OpenError::File(file(name), error))
        };
        written(KEY, key.serialize_pem())?;
        written(CERTIFICATE, certificate.pem())?;
        Self::open(directory)
    }

    /// Opens the one in a directory.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let file = |name: &str| directory.join(name);
        let read = |name: &str| {
            whole::read(&file(name)).map_err(|error| OpenError::File(file(name), error))
        };
        let wrong = |name: &str, error: String| OpenError::Form(file(name), error);
        let pem = read(CERTIFICATE)?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| wrong(CERTIFICATE, error.to_string()))?;
        let key = KeyPair::from_pem(&read(KEY)?).map_err(|error| wrong(KEY, error.to_string()))?;
        let own = KeyPin(*blake3::hash(&spki(&key)).as_bytes());
        if KeyPin::of(&certificate) != Some(own) {
            return Err(wrong(KEY, format!("it is not the key of {CERTIFICATE}")));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|error| wrong(CERTIFICATE, error.to_string()))?;
        Ok(Self { certificate, pem, issuer })
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The same as text (RFC 7468).
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What those who join know it by.
    pub fn pin(&self) -> KeyPin {
        KeyPin(*blake3::hash(&spki(self.issuer.key())).as_bytes())
    }

    /// Signs a request (PKCS #10, DER) for `subject`. Whatever the request says besides its key is ignored.
    ///
    /// # Errors
    /// If it is no request that its own key has signed.
    pub fn sign(
        &self,
        request: &[u8],
        subject: &Subject,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<CertificateDer<'static>, SignError> {
        if request.len() > REQUEST_BYTES_MAX {
            return Err(SignError::Size(request.len()));
        }
        let request = CertificateSigningRequestDer::from(request);
        let mut asked =
            CertificateSigningRequestParams::from_der(&request).map_err(SignError::Request)?;
        if asked.public_key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(SignError::Algorithm);
        }
        asked.params = leaf(subject, now, lifetime)?;
        let signed = asked.signed_by(&self.issuer).map_err(SignError::Sign)?;
        Ok(signed.der().clone())
    }

    /// Makes a key and a certificate for it: for this controller itself, and for operators.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn issue(
        &self,
        subject: &Subject,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Identity, SignError> {
        let key = KeyPair::generate().map_err(SignError::Sign)?;
        let parameters = leaf(subject, now, lifetime)?;
        let signed = parameters.signed_by(&key, &self.issuer).map_err(SignError::Sign)?;
        Ok(Identity {
            certificate: signed.der().clone(),
            authority: self.certificate.clone(),
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        })
    }
}

fn spki(key: &KeyPair) -> Vec<u8> {
    rcgen::PublicKeyData::subject_public_key_info(key)
}

fn leaf(
    subject: &Subject,
    now: Timestamp,
    lifetime: Duration,
) -> Result<CertificateParams, SignError> {
    let mut parameters =
        parameters(format!("{} {}", subject.kind().word(), subject.name()), now, lifetime)?;
    let uri = subject.to_string().try_into().map_err(SignError::Sign)?;
    parameters.subject_alt_names = vec![SanType::URI(uri)];
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = match subject.kind() {
        // They serve, and are clients of each other.
        Kind::Controller | Kind::Relay => {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
        Kind::Host | Kind::Operator => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    Ok(parameters)
}

fn parameters(
    name: String,
    now: Timestamp,
    lifetime: Duration,
) -> Result<CertificateParams, SignError> {
    let moment = |second: Option<i64>| {
        let moment = second.map(OffsetDateTime::from_unix_timestamp);
        moment.ok_or(SignError::Time)?.map_err(|_range| SignError::Time)
    };
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).ok();
    let (now, lifetime) = (now.as_second(), seconds(lifetime).ok_or(SignError::Time)?);
    let mut parameters = CertificateParams::default();
    parameters.not_before = moment(seconds(BACKDATED).and_then(|back| now.checked_sub(back)))?;
    parameters.not_after = moment(now.checked_add(lifetime))?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.serial_number = Some(serial());
    Ok(parameters)
}

/// 127 random bits, positive and not zero (RFC 5280 section 4.1.2.2).
fn serial() -> SerialNumber {
    let mut bytes = crate::join::random::<16>();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}
