//! Where a collector is, and whom it has to be vouched for by.
//!
//! Authorities are read when they are first needed, and again after a connection did not come about: a file that is
//! missing when the machine starts, or is renewed later, costs events and keeps no policy from being enforced.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail, ensure};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Uri, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// The protocol that is spoken, for a server that speaks several (RFC 7301).
const PROTOCOL: &[u8] = b"http/1.1";

/// A collector that can be sent to.
#[derive(Debug)]
pub(crate) struct Target {
    uri: Uri,
    /// None is without TLS.
    trust: Option<Trust>,
}

/// Whom a collector has to be vouched for by.
#[derive(Debug)]
struct Trust {
    /// Instead of the system's authorities.
    file: Option<PathBuf>,
    /// What was read last.
    read: Option<Arc<ClientConfig>>,
}

impl Target {
    /// Understands a URL, and reads nothing.
    ///
    /// # Errors
    /// Where it is none of http or https with a host, or authorities are named for the former.
    pub(crate) fn new(url: &str, ca: Option<&Path>) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("--otlp {url}"))?;
        let secured = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => bail!("--otlp {url}: https://HOST[:PORT]/v1/logs is wanted"),
        };
        ensure!(uri.host().is_some_and(|host| !host.is_empty()), "--otlp {url}: there is no host");
        ensure!(secured || ca.is_none(), "--otlp-ca is for https://, and --otlp is {url}");
        let trust = secured.then(|| Trust { file: ca.map(Path::to_owned), read: None });
        Ok(Self { uri, trust })
    }

    /// As it was given.
    pub(super) fn url(&self) -> &Uri {
        &self.uri
    }

    /// Whether the authorities that are to be trusted can be read now.
    ///
    /// # Errors
    /// Where they cannot.
    pub(crate) fn trusts(&self) -> anyhow::Result<()> {
        self.trust.as_ref().map_or(Ok(()), |trust| trust.config().map(drop))
    }

    /// Has the collector take a body of JSON.
    ///
    /// # Errors
    /// Where it cannot be reached, nobody vouches for it, or it refuses.
    pub(super) async fn post(&mut self, body: String) -> anyhow::Result<()> {
        let (host, port) = (self.uri.host().unwrap_or_default(), self.uri.port_u16());
        let port = port.unwrap_or(if self.trust.is_some() { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::post(path)
            .header(header::HOST, format!("{host}:{port}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let stream = TcpStream::connect((bare, port)).await?;
        let Some(trust) = &mut self.trust else { return exchange(stream, request).await };
        let name = ServerName::try_from(bare.to_owned())?;
        let config = match trust.read.take() {
            Some(config) => config,
            None => trust.config()?,
        };
        let stream = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await?;
        // What has worked is used again; where it has not, the next one reads anew.
        trust.read = Some(config);
        exchange(stream, request).await
    }
}

impl Trust {
    fn config(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        match &self.file {
            Some(path) => {
                let context = || format!("--otlp-ca {}", path.display());
                for certificate in CertificateDer::pem_file_iter(path).with_context(context)? {
                    roots.add(certificate.with_context(context)?).with_context(context)?;
                }
                ensure!(
                    !roots.is_empty(),
                    "--otlp-ca {}: there is no certificate in it",
                    path.display()
                );
            }
            None => {
                // Of hundreds of authorities one that is odd does not matter; that there is none does.
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                ensure!(!roots.is_empty(), "this machine trusts no authority: see --otlp-ca");
            }
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols.push(PROTOCOL.to_vec());
        Ok(Arc::new(config))
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<()> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driven = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let _answer = response.into_body().collect().await?;
    driven.abort();
    ensure!(status.is_success(), "the collector answers {status}");
    Ok(())
}
