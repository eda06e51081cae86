//! TLS as the fleet speaks it: version 1.3 only, a certificate of the fleet's authority on both sides, session tickets, and
//! the protocol chosen by ALPN (RFC 7301).
//!
//! A certificate's holder is known by the one URI in it ([`Subject`](crate::subject::Subject)); names of hosts and
//! addresses are in none, so that an endpoint may be reached by any name. A server lets clients in that show no
//! certificate, because those who join have none yet; what they may do is the business of whoever answers them. A
//! session that is resumed brings the certificate it began with, whose time may be over by now: servers look at that after
//! every handshake ([`who`]).

mod identity;

use std::sync::Arc;

use jiff::Timestamp;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, cipher_suite},
        verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{NoServerSessionStorage, ParsedCertificate, ProducesTickets, WebPkiClientVerifier},
};

pub use self::identity::{Identity, IdentityError, pem};
use crate::{
    authority::KeyPin,
    subject::{Shown, ShownError},
};

/// HTTP in the handshake.
pub const HTTP: &[u8] = b"http/1.1";
/// Sessions that a client remembers: one for each endpoint, and some.
const SESSIONS: usize = 32;

/// Whom a client believes to be a controller or a relay.
#[derive(Clone, Debug)]
pub enum Believed {
    /// Whom this authority vouches for.
    Authority(CertificateDer<'static>),
    /// Whom the authority with this key vouches for, whose certificate the server sends: for those who join.
    Pinned(KeyPin),
}

/// All suites of TLS 1.3, those with SHA-256 first: processors compute it by instructions of its own, and the schedule of
/// keys is a good part of a handshake.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
        ],
        ..aws_lc_rs::default_provider()
    })
}

/// What makes session tickets, for all configurations of one process: a ticket outlives a renewed certificate.
///
/// # Errors
/// If there is no randomness.
pub fn tickets() -> Result<Arc<dyn ProducesTickets>, Error> {
    aws_lc_rs::Ticketer::new()
}

/// How a controller or a relay answers. `protocols` by preference.
///
/// # Errors
/// If the identity is none.
pub fn server(
    identity: &Identity,
    protocols: &[&[u8]],
    tickets: Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots(&identity.authority)?),
        provider(),
    )
    .allow_unauthenticated()
    .build()
    .map_err(|error| Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![identity.certificate.clone(), identity.authority.clone()],
            identity.key.clone_key(),
        )?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config.ticketer = tickets;
    // Nothing is kept here for those who may come again: they bring it.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// How a client calls. The same configuration is to be used again: it remembers tickets.
///
/// # Errors
/// If the identity is none.
pub fn client(
    identity: Option<&Identity>,
    believed: Believed,
    protocol: &[u8],
) -> Result<ClientConfig, Error> {
    let verifier = match &believed {
        Believed::Authority(certificate) => Serving { roots: Some(roots(certificate)?), pin: None },
        Believed::Pinned(pin) => Serving { roots: None, pin: Some(*pin) },
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => config
            .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())?,
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    config.enable_sni = false;
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(config)
}

fn roots(authority: &CertificateDer<'static>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    Ok(roots)
}

/// Whom a connection is with, from the certificates that the other side showed and that were verified. `None` if it
/// showed none.
///
/// # Errors
/// If the certificate is none of a fleet's, or its time is over, as it may be where a session is resumed.
pub fn who(
    certificates: Option<&[CertificateDer<'_>]>,
    now: Timestamp,
) -> Result<Option<Shown>, WhoError> {
    let Some(certificate) = certificates.and_then(<[_]>::first) else { return Ok(None) };
    let shown = Shown::read(certificate)?;
    if now > shown.until {
        return Err(WhoError::Expired(shown.until));
    }
    Ok(Some(shown))
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhoError {
    /// The certificate says nothing to us.
    #[error(transparent)]
    Shown(#[from] ShownError),
    /// Its time is over.
    #[error("the certificate expired at {0}")]
    Expired(Timestamp),
}

/// Believes in controllers and relays of one authority, whatever name they are reached by.
#[derive(Debug)]
struct Serving {
    roots: Option<RootCertStore>,
    pin: Option<KeyPin>,
}

impl ServerCertVerifier for Serving {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let wrong = Error::InvalidCertificate;
        let sent;
        let anchors = match (&self.roots, self.pin) {
            (Some(roots), _) => roots,
            (None, pin) => {
                let pinned = intermediates.iter().find(|it| pin.is_some() && KeyPin::of(it) == pin);
                let pinned = pinned.ok_or_else(|| wrong(CertificateError::UnknownIssuer))?;
                sent = roots(&pinned.clone().into_owned())?;
                &sent
            }
        };
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            anchors,
            &[],
            now,
            aws_lc_rs::default_provider().signature_verification_algorithms.all,
        )?;
        let shown =
            Shown::read(end_entity).map_err(|_other| wrong(CertificateError::BadEncoding))?;
        if !shown.subject.kind().serves() {
            return Err(wrong(CertificateError::ApplicationVerificationFailure));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
