//! Where a controller or a relay listens: for its fleet, and for whoever reads its metrics.

use std::{io, net::SocketAddr};

use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::{TcpListener, TcpSocket};

use crate::controller::problem::Problem;

/// Where it listens, once it does.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    /// For agents, relays, operators.
    pub fleet: SocketAddr,
    /// For metrics.
    pub metrics: Option<SocketAddr>,
}

/// It cannot listen there.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address}")]
pub struct ListenError {
    /// Where.
    pub address: SocketAddr,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

/// Open listeners, which nobody has been accepted at.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// For agents, relays, operators.
    pub(crate) fleet: TcpListener,
    /// For metrics, where that is wanted.
    pub(crate) metrics: Option<TcpListener>,
    /// Where they are: a port 0 is another one by now.
    pub(crate) at: Listening,
}

impl Listeners {
    /// Opens them.
    pub(crate) fn open(
        fleet: SocketAddr,
        metrics: Option<SocketAddr>,
    ) -> Result<Self, ListenError> {
        let (fleet, at) = open(fleet)?;
        let mut listeners =
            Self { fleet, metrics: None, at: Listening { fleet: at, metrics: None } };
        if let Some(address) = metrics {
            let (metrics, at) = open(address)?;
            listeners.metrics = Some(metrics);
            listeners.at.metrics = Some(at);
        }
        Ok(listeners)
    }
}

/// Callers that wait to be accepted: a fleet that comes back at once waits here. The system has its own limit, 4,096 if
/// nobody changed it (net.core.somaxconn); whoever comes while that is full calls again.
const WAITING: u32 = 65_535;

fn open(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let wrong = |source| ListenError { address, source };
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // Whoever listened here a moment ago may have connections that are not over.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(WAITING)?;
        let at = listener.local_addr()?;
        Ok((listener, at))
    };
    open().map_err(wrong)
}

/// Answers `GET /metrics` with what `text` says, without TLS, until it is dropped.
pub(crate) async fn measure<T, F>(listener: Option<TcpListener>, text: T)
where
    T: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<String, String>> + Send,
{
    let Some(listener) = listener else { return std::future::pending().await };
    let answer = async move || shown(text().await);
    let router = Router::new().route("/metrics", get(answer)).fallback(async || {
        Problem::new(StatusCode::NOT_FOUND, "metrics are at /metrics, and nothing else is here")
    });
    if let Err(error) = axum::serve(listener, router).await {
        eprintln!("fwnet: metrics: {error}");
    }
}

fn shown(text: Result<String, String>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(ending) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, ending).into_response(),
    }
}
