//! How a machine becomes a member, and stays one: its side of enrolment and renewal. Its key is made here and never leaves.

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{
    api::{
        ENROL, Enrolled, Enrolling, RENEW, Renewed, Renewing,
        client::{CallError, Client},
    },
    authority::KeyPin,
    join::{Token, is_endpoint},
    membership::Membership,
    subject::{Fingerprint, Shown, ShownError, Subject},
    tls::{Believed, Identity, IdentityError},
};

/// Why somebody did not become a member, or did not stay one. Nothing was kept.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is no randomness.
    #[error("make a key")]
    Key(#[from] rcgen::Error),
    /// There is no answer, or it says why not.
    #[error(transparent)]
    Call(#[from] CallError),
    /// What the controller sent is not what the token speaks of.
    #[error("the controller sent another {0} than the token names: it is not to be trusted")]
    Other(&'static str),
    /// What the controller sent cannot be read.
    #[error("the controller sent a {0} that cannot be read")]
    Form(&'static str),
    /// What one has.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The certificate.
    #[error(transparent)]
    Shown(#[from] ShownError),
}

/// Somebody became a member.
#[derive(Clone, Debug)]
pub struct Joined {
    /// What they are to keep.
    pub membership: Membership,
    /// The envelope of the root to begin with, as its digest in the token says.
    pub root: Vec<u8>,
}

/// Brings a token to the controllers that it names. They are believed if the authority vouches for them whose key the
/// token names; the root is believed if it has the digest in the token. Nothing is written.
///
/// # Errors
/// See [`JoinError`]. After [`CallError::Lost`] the token may have been used.
pub async fn join(token: &Token) -> Result<Joined, JoinError> {
    let (key, request) = request()?;
    let pinned = Believed::Pinned(token.authority);
    let client = Client::new(None, pinned, token.endpoints.clone()).map_err(CallError::from)?;
    let body = Enrolling {
        subject: token.subject.to_string(),
        secret: STANDARD.encode(token.secret.0),
        request,
    };
    let Enrolled { certificate, authority, root, endpoints } = client.post(ENROL, &body).await?;
    let authority = certificate_of(&authority, "authority")?;
    if KeyPin::of(&authority) != Some(token.authority) {
        return Err(JoinError::Other("authority"));
    }
    let root = STANDARD.decode(root).map_err(|_odd| JoinError::Form("root"))?;
    let digest = blake3::hash(&root);
    if *digest.as_bytes() != token.root {
        return Err(JoinError::Other("root"));
    }
    let identity = identity(&certificate, authority, key, &token.subject)?;
    let endpoints = usable(endpoints).unwrap_or_else(|| token.endpoints.clone());
    let membership = identity.member(endpoints, digest.to_hex().to_string())?;
    Ok(Joined { membership, root })
}

/// Gets the next certificate for a member, with a new key. Nothing is written; the certificate that the member has stays
/// good until the one after.
///
/// # Errors
/// See [`JoinError`].
pub async fn renew(member: &Membership) -> Result<Membership, JoinError> {
    let now = Identity::of(member)?;
    let subject = now.shown()?.subject;
    let (key, request) = request()?;
    let believed = Believed::Authority(now.authority.clone());
    let client =
        Client::new(Some(&now), believed, member.endpoints.clone()).map_err(CallError::from)?;
    let Renewed { certificate, endpoints } = client.post(RENEW, &Renewing { request }).await?;
    let next = identity(&certificate, now.authority.clone(), key, &subject)?;
    let endpoints = usable(endpoints).unwrap_or_else(|| member.endpoints.clone());
    Ok(next.member(endpoints, member.root.clone())?)
}

/// What others know the certificate of a member by.
///
/// # Errors
/// If there is no certificate in it.
pub fn fingerprint(member: &Membership) -> Result<Fingerprint, IdentityError> {
    Ok(Fingerprint::of(&Identity::of(member)?.certificate))
}

/// A new key, and the request for a certificate of it.
fn request() -> Result<(KeyPair, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?;
    Ok((key, STANDARD.encode(request.der())))
}

fn certificate_of(text: &str, what: &'static str) -> Result<CertificateDer<'static>, JoinError> {
    CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_odd| JoinError::Form(what))
}

/// Of a certificate that is ours: our name, our key.
fn identity(
    certificate: &str,
    authority: CertificateDer<'static>,
    key: KeyPair,
    subject: &Subject,
) -> Result<Identity, JoinError> {
    let certificate = certificate_of(certificate, "certificate")?;
    if Shown::read(&certificate)?.subject != *subject {
        return Err(JoinError::Other("name"));
    }
    let own = blake3::hash(&rcgen::PublicKeyData::subject_public_key_info(&key));
    if KeyPin::of(&certificate) != Some(KeyPin(*own.as_bytes())) {
        return Err(JoinError::Other("key"));
    }
    Ok(Identity { certificate, authority, key: PrivateKeyDer::Pkcs8(key.serialize_der().into()) })
}

fn usable(endpoints: Vec<String>) -> Option<Vec<String>> {
    let sound = !endpoints.is_empty() && endpoints.iter().all(|endpoint| is_endpoint(endpoint));
    sound.then_some(endpoints)
}
