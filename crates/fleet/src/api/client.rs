//! The client of that API: one request at a time, to the first endpoint that answers, and to the leader where the answer
//! says so.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Wrong;
use crate::tls::{self, Believed, Identity};

/// How long a controller may take to be connected to.
const CONNECT: Duration = Duration::from_secs(5);
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
            let asked = self.ask(stream, method.clone(), path, &endpoint, body.clone());
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

    async fn connect(&self, endpoint: &str) -> io::Result<TlsStream<TcpStream>> {
        let late = |_elapsed| io::Error::from(io::ErrorKind::TimedOut);
        timeout(CONNECT, connect(&self.tls, endpoint)).await.map_err(late)?
    }

    async fn ask(
        &self,
        stream: TlsStream<TcpStream>,
        method: Method,
        path: &str,
        endpoint: &str,
        body: Bytes,
    ) -> io::Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, endpoint)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(io::Error::other)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let driven = tokio::spawn(connection);
        let answered = async {
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
            Ok((status, body.collect().await.map_err(io::Error::other)?.to_bytes()))
        };
        let answered = answered.await;
        driven.abort();
        answered
    }
}

/// Connects to `endpoint`, `host:port`, and shakes hands.
///
/// # Errors
/// If nobody is there, or nobody who is believed.
pub async fn connect(tls: &Arc<ClientConfig>, endpoint: &str) -> io::Result<TlsStream<TcpStream>> {
    let (host, _port) = endpoint.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    // Tickets are kept by this name; certificates have none of it.
    let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
    let stream = TcpStream::connect(endpoint).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(Arc::clone(tls)).connect(name, stream).await
}
