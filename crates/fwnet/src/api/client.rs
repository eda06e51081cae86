//! The client of the verbs: one request at a time over the agent's socket.

use std::{
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time::timeout};

use super::problem::Wrong;
use crate::agent::paths::SOCKET;

/// The media types of bodies.
const JSON: &str = "application/json";
const TEXT: &str = "text/plain";

/// Which agent a verb talks to.
#[derive(Clone, Debug, Args)]
pub(crate) struct Reached {
    /// Socket of the agent's API
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    pub(crate) socket: PathBuf,
}

impl Reached {
    /// The client for it.
    ///
    /// # Errors
    /// Where there are no descriptors left.
    pub(crate) fn client(&self) -> io::Result<Client> {
        Client::new(&self.socket)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody listens.
    #[error("no agent answers at {}: is it up? (fwnet up)", .0.display())]
    NoAgent(PathBuf),
    /// The socket is not for this user.
    #[error("{} is for root and its group", .0.display())]
    Forbidden(PathBuf),
    /// The agent says what is wrong.
    #[error("{}", .0.error)]
    Refused(Wrong),
    /// The connection.
    #[error("talk to the agent at {}", .socket.display())]
    Socket {
        /// Where.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It takes too long.
    #[error("the agent at {} does not answer", .0.display())]
    Silent(PathBuf),
    /// It ended before it answered: nobody knows what it has done.
    #[error("the agent at {} ended while it was asked", .0.display())]
    Ended(PathBuf),
    /// Its protocol.
    #[error("talk to the agent")]
    Http(#[from] hyper::Error),
    /// Its answer.
    #[error("read the agent's answer")]
    Answer(#[from] serde_json::Error),
}

/// Talks to the agent at a socket.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    runtime: tokio::runtime::Runtime,
    patience: Option<Duration>,
}

impl Client {
    /// For the agent at `socket`. Nothing is connected yet.
    ///
    /// # Errors
    /// Where there are no descriptors left.
    pub(crate) fn new(socket: &Path) -> io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        Ok(Self { socket: socket.to_owned(), runtime, patience: None })
    }

    /// Waits no longer than that for an answer.
    #[must_use]
    pub(crate) fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Asks without a body.
    ///
    /// # Errors
    /// Where there is no answer, or the agent refuses.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.call(Method::GET, path, None::<&()>)
    }

    /// Has something done.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        self.call(Method::POST, path, Some(body))
    }

    /// Sends a text.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        text: Vec<u8>,
    ) -> Result<T, CallError> {
        self.answered(Method::PUT, path, Some((TEXT, text)))
    }

    /// Any method, with a body or without.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, CallError> {
        let body = body.map(serde_json::to_vec).transpose()?;
        self.answered(method, path, body.map(|body| (JSON, body)))
    }

    fn answered<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<T, CallError> {
        let answer = self.runtime.block_on(async {
            let asked = async {
                let response = self.send(method, path, body).await?;
                Ok::<_, CallError>(response.into_body().collect().await?.to_bytes())
            };
            match self.patience {
                Some(patience) => timeout(patience, asked)
                    .await
                    .map_err(|_elapsed| CallError::Silent(self.socket.clone()))?,
                None => asked.await,
            }
        })?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Hands every line of an answer to `each` as it comes, until it has heard enough or the answer ends.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) fn lines(
        &self,
        path: &str,
        mut each: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), CallError> {
        self.runtime.block_on(async {
            let mut body = self.send(Method::GET, path, None).await?.into_body();
            let mut rest: Vec<u8> = Vec::new();
            while let Some(frame) = body.frame().await {
                rest.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
                while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    if each(String::from_utf8_lossy(&line[..end]).as_ref()).is_break() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Response<Incoming>, CallError> {
        let connected = UnixStream::connect(&self.socket).await;
        let stream = connected.map_err(|source| {
            let (socket, kind) = (self.socket.clone(), source.kind());
            if matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
                CallError::NoAgent(socket)
            } else if kind == io::ErrorKind::PermissionDenied {
                CallError::Forbidden(socket)
            } else {
                CallError::Socket { socket, source }
            }
        })?;
        // A killed agent's socket takes connections until its last thread is gone, and then hangs up.
        let ended = |error: hyper::Error| {
            let hung_up = std::error::Error::source(&error)
                .and_then(|source| source.downcast_ref::<io::Error>())
                .is_some_and(|it| it.kind() == io::ErrorKind::ConnectionReset);
            if hung_up || error.is_incomplete_message() {
                return CallError::Ended(self.socket.clone());
            }
            error.into()
        };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(ended)?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "agent");
        if let Some((kind, _)) = &body {
            request = request.header(header::CONTENT_TYPE, *kind);
        }
        let body = body.map(|(_, body)| body).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body))).expect("paths of verbs are valid");
        let response = sender.send_request(request).await.map_err(ended)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        Err(CallError::Refused(serde_json::from_slice(&bytes).unwrap_or_else(|_other| Wrong {
            error: format!("the agent answers {status}"),
            detail: None,
        })))
    }
}
