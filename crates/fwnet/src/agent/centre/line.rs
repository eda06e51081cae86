//! One connection: to whichever endpoint answers first, in an order of its own, so that a fleet spreads over its
//! controllers.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use ::fleet::{
    api::client::{ConnectError, connect},
    server::{
        counted::Counted,
        line::{Allowed, Heard, LineEnd, Mailbox, carry},
    },
};
use rustix::net::sockopt;
use rustls::ClientConfig;
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_rustls::client::TlsStream;
use wire::sync::{Downward, FRAME_BYTES_MAX, PROTOCOL};

/// One endpoint gets that long to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Messages of a controller in one second; parts of pieces come only when they are asked for.
const MESSAGES: u32 = 1_000;
/// A controller that takes nothing for so long is gone (`TCP_USER_TIMEOUT`, tcp(7)).
const UNHEARD_MS: u32 = 15_000;
/// A silent connection is looked after that often.
const QUIET: Duration = Duration::from_secs(15);

/// What happens on a line.
#[derive(Debug)]
pub(super) enum Said {
    /// It stands, to this endpoint.
    Came(String),
    /// A message came.
    Message(Downward),
    /// Everything is on its way.
    Drained,
    /// It is gone, or whoever is there did not take it; why, for people.
    Gone(String),
    /// Nobody is there; why, for people.
    Unreached(String),
}

/// Connects, and carries messages until the line ends. `tell` gets everything, each with the line's number; the last is
/// that it is gone.
pub(super) async fn run(
    number: u64,
    endpoints: Vec<String>,
    tls: Arc<ClientConfig>,
    mailbox: Arc<Mailbox>,
    tell: mpsc::Sender<(u64, Said)>,
) {
    let last = match reach(&endpoints, &tls).await {
        Ok((endpoint, stream)) => {
            if tell.send((number, Said::Came(endpoint))).await.is_err() {
                return;
            }
            let tag = |heard| match heard {
                Heard::Message(message) => (number, Said::Message(message)),
                Heard::Drained => (number, Said::Drained),
            };
            let allowed = Allowed { frame_bytes: FRAME_BYTES_MAX, messages: MESSAGES };
            let end = carry(stream, &mailbox, &tell, tag, allowed, &Counted::default()).await;
            Said::Gone(match end {
                LineEnd::Closed => "the controller closed the connection".to_owned(),
                LineEnd::Ended | LineEnd::Unheard => "the connection was ended here".to_owned(),
                LineEnd::Frame(error) => error.to_string(),
                LineEnd::Io(error) => error.to_string(),
            })
        }
        Err(last) => last,
    };
    // Nobody listens where the agent ends.
    let _told = tell.send((number, last)).await;
}

/// The first that answers; else what there is to say of the last one that was there, or of the last one.
async fn reach(
    endpoints: &[String],
    tls: &Arc<ClientConfig>,
) -> Result<(String, TlsStream<TcpStream>), Said> {
    let mut trouble = Said::Unreached("no endpoint is known".to_owned());
    for endpoint in endpoints {
        let reached = match timeout(ANSWER, connect(tls, endpoint)).await {
            Ok(stream) => stream.and_then(|it| settled(it).map_err(ConnectError::Handshake)),
            Err(_elapsed) => Err(ConnectError::Handshake(io::ErrorKind::TimedOut.into())),
        };
        match reached {
            Ok(stream) => return Ok((endpoint.clone(), stream)),
            Err(ConnectError::Handshake(error)) => {
                trouble = Said::Gone(format!("{endpoint}: {error}"));
            }
            Err(ConnectError::Unreached(error)) => {
                if let Said::Unreached(why) = &mut trouble {
                    *why = format!("{endpoint}: {error}");
                }
            }
        }
    }
    Err(trouble)
}

/// A connection that speaks our protocol, and is noticed when it is none any more.
fn settled(stream: TlsStream<TcpStream>) -> io::Result<TlsStream<TcpStream>> {
    let (socket, session) = stream.get_ref();
    if session.alpn_protocol() != Some(PROTOCOL) {
        return Err(io::Error::other("it does not speak to agents"));
    }
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, QUIET)?;
    sockopt::set_tcp_user_timeout(socket, UNHEARD_MS)?;
    Ok(stream)
}

/// Where the endpoints are. Names that nobody knows now are left out.
pub(super) async fn resolved(endpoints: &[String]) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for endpoint in endpoints {
        if let Ok(Ok(found)) = timeout(ANSWER, tokio::net::lookup_host(endpoint)).await {
            addresses.extend(found);
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
