//! The certificates of the crowd, in one file of the fleet's directory: a length of two bytes, big endian, and DER, each.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use fleet::{
    authority::{self, Authority},
    tls::{self, Believed, Identity, pem},
};
use rustls::{
    ClientConfig,
    client::Resumption,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
};

use crate::Failure;

const CERTIFICATES: &str = "crowd.certificates";
const KEY: &str = "crowd.key";
/// What rivals show, as they read it.
const RIVAL_CERTIFICATE: &str = "rival.pem";
const RIVAL_KEY: &str = "rival.key";

/// The id of a host.
pub(crate) fn id(number: u32) -> String {
    format!("h{number:06}")
}

/// It is being written.
pub(crate) struct Writing {
    directory: PathBuf,
    certificates: BufWriter<File>,
}

impl Writing {
    pub(crate) fn begin(directory: &Path, key: &[u8]) -> Result<Self, Failure> {
        fs::write(directory.join(KEY), key)?;
        let certificates = BufWriter::new(File::create(directory.join(CERTIFICATES))?);
        Ok(Self { directory: directory.to_owned(), certificates })
    }

    pub(crate) fn add(&mut self, certificate: &CertificateDer<'_>) -> Result<(), Failure> {
        self.certificates.write_all(&u16::try_from(certificate.len())?.to_be_bytes())?;
        Ok(self.certificates.write_all(certificate)?)
    }

    pub(crate) fn finish(
        mut self,
        authority: &Authority,
        serving: &Identity,
    ) -> Result<(), Failure> {
        self.certificates.flush()?;
        let chain = pem("CERTIFICATE", &serving.certificate) + authority.pem();
        fs::write(self.directory.join(RIVAL_CERTIFICATE), chain)?;
        let key = pem("PRIVATE KEY", serving.key.secret_der());
        Ok(fs::write(self.directory.join(RIVAL_KEY), key)?)
    }
}

/// All of it.
pub(crate) struct Book {
    authority: CertificateDer<'static>,
    key: Vec<u8>,
    certificates: Vec<u8>,
}

/// One of the crowd.
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) tls: Arc<ClientConfig>,
}

impl Book {
    pub(crate) fn open(directory: &Path) -> Result<Self, Failure> {
        let pem = fs::read(directory.join(authority::CERTIFICATE))?;
        Ok(Self {
            authority: CertificateDer::from_pem_slice(&pem)?,
            key: fs::read(directory.join(KEY))?,
            certificates: fs::read(directory.join(CERTIFICATES))?,
        })
    }

    /// Some of the crowd, each with its own certificate and its own memory of tickets.
    pub(crate) fn members(
        &self,
        from: u32,
        count: u32,
        protocol: &[u8],
    ) -> Result<Vec<Member>, Failure> {
        let key = PrivateKeyDer::Pkcs8(self.key.clone().into());
        let signing: Arc<dyn SigningKey> = any_supported_type(&key)?;
        let mut rest = self.certificates.as_slice();
        let mut members = Vec::new();
        let mut base = None;
        for number in 0..from + count {
            let (length, after) = rest.split_first_chunk::<2>().ok_or("too few certificates")?;
            let (der, after) = after.split_at(u16::from_be_bytes(*length).into());
            rest = after;
            if number < from {
                continue;
            }
            let certificate = CertificateDer::from(der.to_vec());
            let base = match &base {
                Some(base) => base,
                None => base.insert(self.client(certificate.clone(), key.clone_key(), protocol)?),
            };
            let mut tls = ClientConfig::clone(base);
            let shown = CertifiedKey::new(vec![certificate], Arc::clone(&signing));
            tls.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(shown));
            tls.resumption = Resumption::in_memory_sessions(1);
            members.push(Member { id: id(number), tls: Arc::new(tls) });
        }
        Ok(members)
    }

    fn client(
        &self,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
        protocol: &[u8],
    ) -> Result<ClientConfig, Failure> {
        let identity = Identity { certificate, authority: self.authority.clone(), key };
        let believed = Believed::Authority(self.authority.clone());
        let mut config = tls::client(Some(&identity), believed, protocol)?;
        if protocol.is_empty() {
            config.alpn_protocols = Vec::new();
        }
        Ok(config)
    }
}
