//! The client of that API: one request at a time, to the first endpoint that answers, and to the leader where the answer
//! says so.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    net::TcpStream,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Wrong;
use crate::tls::{self, Believed, Identity};

/// How long a controller may take to be connected to.
const CONNECT: Duration = Duration::from_secs(5);
/// How long it may take to find the addresses behind a name.
const LOOK_UP: Duration = Duration::from_secs(5);
/// How long one address may take to answer: a SYN that is lost is sent again after one second.
const REACH: Duration = Duration::from_secs(2);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(60);
/// Bytes of one answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How long to go on asking while the leader is gone and nobody has followed it: a lease of the store has to end first.
const LEADERLESS: Duration = Duration::from_secs(30);
/// How long to wait before they are asked again who leads.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody who was tried could be asked: each with what went wrong.
    #[error("no controller can be reached: {}", .0.iter().map(|(at, why)| format!("{at}: {why}")).collect::<Vec<_>>().join("; "))]
    Nobody(Vec<(String, io::Error)>),
    /// It was asked, and the connection ended before the answer: nobody knows whether it was done.
    #[error("{endpoint} did not answer to the end")]
    Lost {
        /// Who.
        endpoint: String,
        /// How.
        #[source]
        source: io::Error,
    },
    /// The answer says what is wrong.
    #[error("{}", .wrong.error)]
    Refused {
        /// The status of HTTP.
        status: u16,
        /// What is wrong.
        wrong: Wrong,
    },
    /// The request cannot be written, or the answer not be read.
    #[error("this is not what controllers of this version say")]
    Form(#[from] serde_json::Error),
    /// The identity.
    #[error("use the certificate")]
    Identity(#[from] rustls::Error),
}

/// Asks controllers.
#[derive(Clone, Debug)]
pub struct Client {
    tls: Arc<ClientConfig>,
    endpoints: Vec<String>,
    answer: Duration,
}

impl Client {
    /// Asks `endpoints` in this order. Nothing is connected yet.
    ///
    /// # Errors
    /// If the identity is none.
    pub fn new(
        identity: Option<&Identity>,
        believed: Believed,
        endpoints: Vec<String>,
    ) -> Result<Self, rustls::Error> {
        let tls = Arc::new(tls::client(identity, believed, tls::HTTP)?);
        Ok(Self { tls, endpoints, answer: ANSWER })
    }

    /// Waits that long for an answer.
    #[must_use]
    pub fn patience(mut self, answer: Duration) -> Self {
        self.answer = answer;
        self
    }

    /// Asks without a body.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// Has something done.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Any method, with a body or without.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, CallError> {
        let body = Bytes::from(body.map(serde_json::to_vec).transpose()?.unwrap_or_default());
        let begun = Instant::now();
        let (mut endpoints, mut tried) = (self.endpoints.clone(), Vec::new());
        let mut told = None;
        while !endpoints.is_empty() {
            let endpoint = endpoints.remove(0);
            let stream = match self.connect(&endpoint).await {
                Ok(stream) => stream,
                // Others say that it leads: they will know better when its lease has ended.
                Err(_gone) if told.as_ref() == Some(&endpoint) && begun.elapsed() < LEADERLESS => {
                    sleep(ASK_AGAIN).await;
                    endpoints = self.endpoints.clone();
                    endpoints.retain(|it| *it != endpoint);
                    continue;
                }
                Err(error) => {
                    tried.push((endpoint, error));
                    continue;
                }
            };
            let asked = ask(stream, method.clone(), path, &endpoint, body.clone());
            let answered = timeout(self.answer, asked).await;
            let answered = answered.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
            let (status, answer) = answered
                .map_err(|source| CallError::Lost { endpoint: endpoint.clone(), source })?;
            if status.is_success() {
                // Where nothing is to be said, nothing is.
                let answer = if answer.is_empty() { &b"null"[..] } else { &answer };
                return Ok(serde_json::from_slice(answer)?);
            }
            let wrong: Wrong = serde_json::from_slice(&answer)?;
            match wrong.leader.clone() {
                Some(leader) if begun.elapsed() < LEADERLESS => {
                    // It may have been told the same a moment ago, by one that did not lead any more.
                    if told.as_ref() == Some(&leader) {
                        sleep(ASK_AGAIN).await;
                    }
                    endpoints.insert(0, leader.clone());
                    told = Some(leader);
                }
                _ => return Err(CallError::Refused { status: status.as_u16(), wrong }),
            }
        }
        Err(CallError::Nobody(tried))
    }

    /// Asks the first endpoint that can be reached, and gives the body of its answer to `keep`, part by part. How many bytes
    /// it had.
    ///
    /// # Errors
    /// See [`CallError`]; what was kept is not all then. An error of `keep` is one of [`CallError::Lost`].
    pub async fn save(
        &self,
        path: &str,
        mut keep: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<u64, CallError> {
        let mut tried = Vec::new();
        for endpoint in &self.endpoints {
            let stream = match self.connect(endpoint).await {
                Ok(stream) => stream,
                Err(error) => {
                    tried.push((endpoint.clone(), error));
                    continue;
                }
            };
            let lost = |source| CallError::Lost { endpoint: endpoint.clone(), source };
            let asked = send(stream, Method::GET, path, endpoint, Bytes::new());
            let late = |_elapsed| lost(io::ErrorKind::TimedOut.into());
            let (response, _driven) =
                timeout(self.answer, asked).await.map_err(late)?.map_err(lost)?;
            let status = response.status();
            let mut body = response.into_body();
            if !status.is_success() {
                let wrong = whole(body).await.map_err(lost)?;
                let wrong = serde_json::from_slice(&wrong)?;
                return Err(CallError::Refused { status: status.as_u16(), wrong });
            }
            let mut bytes = 0;
            while let Some(frame) = timeout(self.answer, body.frame()).await.map_err(late)? {
                let frame = frame.map_err(|error| lost(io::Error::other(error)))?;
                if let Ok(part) = frame.into_data() {
                    bytes += part.len() as u64;
                    keep(&part).map_err(lost)?;
                }
            }
            return Ok(bytes);
        }
        Err(CallError::Nobody(tried))
    }

    async fn connect(&self, endpoint: &str) -> io::Result<TlsStream<TcpStream>> {
        let late = |_elapsed| io::Error::from(io::ErrorKind::TimedOut);
        Ok(timeout(CONNECT, connect(&self.tls, endpoint)).await.map_err(late)??)
    }
}

/// A connection that is driven until this is dropped.
struct Driven(JoinHandle<hyper::Result<()>>);

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn ask(
    stream: TlsStream<TcpStream>,
    method: Method,
    path: &str,
    endpoint: &str,
    body: Bytes,
) -> io::Result<(StatusCode, Bytes)> {
    let (response, _driven) = send(stream, method, path, endpoint, body).await?;
    Ok((response.status(), whole(response.into_body()).await?))
}

async fn send(
    stream: TlsStream<TcpStream>,
    method: Method,
    path: &str,
    endpoint: &str,
    body: Bytes,
) -> io::Result<(Response<Incoming>, Driven)> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, endpoint)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(io::Error::other)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let driven = Driven(tokio::spawn(connection));
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    Ok((response, driven))
}

/// All of a body of a sensible length.
async fn whole(body: Incoming) -> io::Result<Bytes> {
    let body = Limited::new(body, ANSWER_BYTES_MAX);
    Ok(body.collect().await.map_err(io::Error::other)?.to_bytes())
}

/// Why there is no connection to an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody is there, or nobody answered in time.
    #[error("{0}")]
    Unreached(io::Error),
    /// Whoever is there did not shake hands, or is not believed.
    #[error("{0}")]
    Handshake(io::Error),
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Unreached(error) | ConnectError::Handshake(error) => error,
        }
    }
}

/// Connects to `endpoint`, `host:port`, and shakes hands. An address that does not answer is left after two seconds; for a
/// handshake the caller has his own limit.
///
/// # Errors
/// If nobody is there, or nobody who is believed.
pub async fn connect(
    tls: &Arc<ClientConfig>,
    endpoint: &str,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let wrong = || ConnectError::Unreached(io::ErrorKind::InvalidInput.into());
    let (host, _port) = endpoint.rsplit_once(':').ok_or_else(wrong)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    // Tickets are kept by this name; certificates have none of it.
    let name = ServerName::try_from(bare.to_owned()).map_err(|_name| wrong())?;
    let stream = reach(endpoint).await.map_err(ConnectError::Unreached)?;
    let shaken = async {
        stream.set_nodelay(true)?;
        TlsConnector::from(Arc::clone(tls)).connect(name, stream).await
    };
    shaken.await.map_err(ConnectError::Handshake)
}

/// The first address of `endpoint` that takes a connection.
async fn reach(endpoint: &str) -> io::Result<TcpStream> {
    let late = |_elapsed| io::Error::new(io::ErrorKind::TimedOut, "the name is looked up in vain");
    let found = timeout(LOOK_UP, tokio::net::lookup_host(endpoint)).await.map_err(late)??;
    let mut trouble = io::ErrorKind::NotFound.into();
    for address in found {
        match timeout(REACH, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => trouble = error,
            Err(_elapsed) => trouble = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(trouble)
}
