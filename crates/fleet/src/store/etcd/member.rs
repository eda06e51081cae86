//! A connection to one member of a cluster: TCP or TLS, HTTP/1.1 over it, one request at a time.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::store::told;

/// For how long a member may take to be reached, its certificate included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);

/// Where a member listens for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The files of TLS, in PEM. They are read for every connection, so that renewed ones count at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authorities that vouch for members; the system's where none are named.
    pub ca: Option<PathBuf>,
    /// This client's certificate, with those between it and the authority, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why TLS is not possible.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("read {} as PEM", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// No authority at all.
    #[error("no authority is trusted: name one with ca=FILE")]
    NoAuthority,
    /// What is in them.
    #[error("use the certificates for etcd")]
    Use(#[from] rustls::Error),
}

impl Tls {
    /// The configuration by the files as they are now.
    ///
    /// # Errors
    /// Where one cannot be used.
    pub(super) fn config(&self) -> Result<ClientConfig, TlsError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.ca {
            for certificate in certificates(path)? {
                roots.add(certificate)?;
            }
        } else {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
        if roots.is_empty() {
            return Err(TlsError::NoAuthority);
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let file = |source| TlsError::File { path: key.clone(), source };
                let secret = PrivateKeyDer::from_pem_file(key).map_err(file)?;
                config.with_client_auth_cert(certificates(certificate)?, secret)?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |source| TlsError::File { path: path.to_owned(), source };
    CertificateDer::pem_file_iter(path).map_err(file)?.collect::<Result<_, _>>().map_err(file)
}

/// An open connection. It ends with the value.
#[derive(Debug)]
pub(super) struct Member {
    requests: SendRequest<Full<Bytes>>,
    driven: JoinHandle<()>,
    host: String,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.driven.abort();
    }
}

impl Member {
    /// Connects, or says in a text why not.
    pub(super) async fn connect(endpoint: &Endpoint, tls: Option<&Tls>) -> Result<Self, String> {
        match timeout(CONNECT_DEADLINE, connected(endpoint, tls)).await {
            Ok(Ok(member)) => Ok(member),
            Ok(Err(why)) => Err(format!("{endpoint}: {why}")),
            Err(_late) => Err(format!("{endpoint}: no connection in {CONNECT_DEADLINE:?}")),
        }
    }

    /// Whether another request can be made, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Posts a body of JSON, as whom the token says, and returns with the head of the answer.
    pub(super) async fn post(
        &mut self,
        path: &str,
        body: Bytes,
        token: Option<&str>,
    ) -> Result<Response<Incoming>, String> {
        let request = token
            .into_iter()
            .fold(Request::post(path), |request, token| {
                request.header(header::AUTHORIZATION, token)
            })
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json")
            // A member that has lost its cluster is to end a watch, not to be silent (etcd's clientv3.WithRequireLeader).
            .header("Grpc-Metadata-Hasleader", "true")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        self.requests.ready().await.map_err(|error| error.to_string())?;
        self.requests.send_request(request).await.map_err(|error| told(&error))
    }
}

async fn connected(endpoint: &Endpoint, tls: Option<&Tls>) -> Result<Member, String> {
    let host = endpoint.to_string();
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
    let stream = stream.await.map_err(|error| error.to_string())?;
    // A request is written in two parts, its head and its body.
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let Some(tls) = tls else { return spoken(host, stream).await };
    let config = tls.config().map_err(|error| told(&error))?;
    let name = ServerName::try_from(endpoint.host.clone()).map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
    spoken(host, stream.await.map_err(|error| error.to_string())?).await
}

async fn spoken(
    host: String,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Member, String> {
    let spoken = http1::handshake(TokioIo::new(stream)).await;
    let (requests, connection) = spoken.map_err(|error| error.to_string())?;
    // Its end shows in the next request.
    let driven = tokio::spawn(async move { drop(connection.await) });
    Ok(Member { requests, driven, host })
}
