//! The one listener of a controller or a relay: TLS 1.3, then `fwnet-sync/1` or HTTP, as the caller asked for by ALPN.
//!
//! Whoever calls is a stranger until they have shown a certificate of the fleet. There are at most so many strangers at a
//! time, each for a few seconds, and where others call the one goes for whom we wait longest: silence, garbage and half a
//! handshake cost those who try it, and a bounded amount of memory here. Agents, relays and other controllers become [lines](line),
//! which live as long as they are wanted; HTTP connections of hosts stay strangers, because they only ask once.

pub mod counted;
pub mod line;
pub(crate) mod lines;
pub(crate) mod listening;
mod strangers;

use std::{io, net::SocketAddr, sync::Arc, thread, time::Duration};

use axum::{Extension, Router};
use controller::serving::Gate;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use jiff::Timestamp;
use rustls::{HandshakeKind, ServerConfig};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use wire::sync::{FRAME_BYTES_MAX, PROTOCOL, Upward};

pub use self::listening::{ListenError, Listening};

use self::{
    counted::{Counted, Outcome},
    line::{Allowed, Heard, LineEnd, Mailbox},
    strangers::{Stranger, Strangers, Watched, micros},
};
use crate::{
    subject::{Kind, Shown},
    tls::who,
};

/// How much those may do whom nobody vouches for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many there are at most.
    pub strangers: usize,
    /// How long each of them is waited for at least, where there is no room for others.
    pub patience: Duration,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How long one may ask and be answered by HTTP.
    pub asking: Duration,
    /// How long an operator may: bundles are large.
    pub operator: Duration,
    /// How many connections are taken in a second; the others wait in the queue of the listener.
    pub per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            strangers: 1_024,
            patience: Duration::from_millis(500),
            handshake: Duration::from_secs(10),
            asking: Duration::from_secs(15),
            operator: Duration::from_secs(900),
            per_second: PER_PROCESSOR * processors(),
        }
    }
}

/// Handshakes of one processor in a second: full ones, which take about 250 us, and half of its time is for those who are
/// in already.
const PER_PROCESSOR: u32 = 2_000;

fn processors() -> u32 {
    thread::available_parallelism().ok().and_then(|it| it.get().try_into().ok()).unwrap_or(1)
}

/// Bytes of one message of a host: the longest has a sentence in it.
const HOST_FRAME_BYTES: usize = 16 << 10;
/// Messages of a host in one second: it asks for a piece in parts of 192 KiB.
const HOST_MESSAGES: u32 = 200;
/// The same of a relay or a controller, which gather what thousands say.
const RELAY_MESSAGES: u32 = 10_000;
/// How long to wait when the system gives no more connections.
const EXHAUSTED: Duration = Duration::from_millis(20);

/// Things that lines tell and nobody has heard yet.
pub(crate) const TOLD: usize = 4_096;

/// A line of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineId(pub u64);

/// What happens on lines. Each line tells that it came first and that it is gone last.
#[derive(Debug)]
pub enum Told {
    /// Somebody with a good certificate of this fleet. Whether it is still valid there is not known here.
    Came {
        /// On which line.
        line: LineId,
        /// Who: a host, a relay or a controller.
        shown: Box<Shown>,
        /// Where frames for them go.
        mailbox: Arc<Mailbox>,
    },
    /// A message came.
    Said {
        /// On which line.
        line: LineId,
        /// What.
        message: Upward,
    },
    /// The line's mailbox is empty again.
    Drained {
        /// Which line.
        line: LineId,
    },
    /// The line is gone.
    Gone {
        /// Which.
        line: LineId,
    },
}

/// Who asks by HTTP; routes find it among the request's extensions.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// From where.
    pub address: SocketAddr,
    /// Who, if they showed a certificate of the fleet.
    pub shown: Option<Shown>,
}

/// What a listener needs.
#[derive(Clone, Debug)]
pub struct Server {
    /// How TLS is spoken; a new value is for new connections.
    pub tls: watch::Receiver<Arc<ServerConfig>>,
    /// What answers HTTP; [`Visitor`] is an extension of each request.
    pub router: Router,
    /// Who listens to the lines.
    pub told: mpsc::Sender<Told>,
    /// What is counted.
    pub counted: Counted,
    /// How much strangers may do.
    pub limits: Limits,
}

impl Server {
    /// Serves until the future is dropped. Connections go on until they are ended.
    pub async fn serve(self, listener: TcpListener) {
        let strangers =
            Strangers::new(self.limits.strangers, self.limits.patience, self.counted.clone());
        let server = Arc::new(self);
        let mut next = 0;
        let began = Instant::now();
        let mut gate = Gate::new(server.limits.per_second, 0);
        loop {
            strangers.room().await;
            while let Err(us) = gate.admit(micros(began)) {
                sleep(Duration::from_micros(us)).await;
            }
            match listener.accept().await {
                Ok((stream, address)) => {
                    let (line, stranger) = (LineId(next), strangers.come());
                    next += 1;
                    let server = Arc::clone(&server);
                    tokio::spawn(async move { server.meet(stream, address, line, stranger).await });
                }
                // What one caller did before they were accepted is no matter of the others (accept(2)).
                Err(error) if is_of_one(&error) => {}
                // No descriptors, or no memory: those who wait longest make room.
                Err(_exhausted) => {
                    strangers.make_room();
                    sleep(EXHAUSTED).await;
                }
            }
        }
    }

    async fn meet(&self, stream: TcpStream, address: SocketAddr, line: LineId, stranger: Stranger) {
        // It only makes small frames faster.
        let _told = stream.set_nodelay(true);
        let acceptor = TlsAcceptor::from(Arc::clone(&self.tls.borrow()));
        let shaken = tokio::select! {
            shaken = timeout(self.limits.handshake, acceptor.accept(stranger.watch(stream))) => shaken,
            () = stranger.pushed_out() => return,
        };
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(_failed)) => return self.counted.handshake(Outcome::Failed),
            Err(_late) => return self.counted.handshake(Outcome::Late),
        };
        stranger.through();
        let session = stream.get_ref().1;
        self.counted.handshake(match session.handshake_kind() {
            Some(HandshakeKind::Resumed) => Outcome::Resumed,
            _ => Outcome::Full,
        });
        let Ok(shown) = who(session.peer_certificates(), Timestamp::now()) else {
            return self.counted.refuse(Outcome::Certificate);
        };
        let speaks_sync = session.alpn_protocol() == Some(PROTOCOL);
        match shown {
            Some(shown) if speaks_sync && shown.subject.kind() != Kind::Operator => {
                drop(stranger);
                self.line(stream, line, shown).await;
            }
            Some(_) if speaks_sync => self.counted.refuse(Outcome::Business),
            None if speaks_sync => self.counted.refuse(Outcome::Nobody),
            shown => self.ask(stream, Visitor { address, shown }, stranger).await,
        }
    }

    async fn line(&self, stream: TlsStream<Watched>, line: LineId, shown: Shown) {
        let gathers = shown.subject.kind().serves();
        let left = shown.until.duration_since(Timestamp::now());
        let allowed = Allowed {
            frame_bytes: if gathers { FRAME_BYTES_MAX } else { HOST_FRAME_BYTES },
            messages: if gathers { RELAY_MESSAGES } else { HOST_MESSAGES },
        };
        let mailbox = Arc::new(Mailbox::default());
        let came = Told::Came { line, shown: Box::new(shown), mailbox: Arc::clone(&mailbox) };
        if self.told.send(came).await.is_err() {
            return;
        }
        self.counted.lines.inc();
        let tag = |heard: Heard<Upward>| match heard {
            Heard::Message(message) => Told::Said { line, message },
            Heard::Drained => Told::Drained { line },
        };
        // Nobody is let in by a certificate that has expired, and nobody stays.
        let expired = async {
            sleep(Duration::try_from(left).unwrap_or_default()).await;
            mailbox.end();
            std::future::pending::<LineEnd>().await
        };
        let carried = tokio::select! {
            end = line::carry(stream, &mailbox, &self.told, tag, allowed, &self.counted) => end,
            end = expired => end,
        };
        self.counted.lines.dec();
        if let LineEnd::Frame(_) = carried {
            self.counted.refuse(Outcome::Frame);
        }
        // Nobody listens any more only when the process ends.
        let _heard = self.told.send(Told::Gone { line }).await;
    }

    async fn ask(&self, stream: TlsStream<Watched>, visitor: Visitor, stranger: Stranger) {
        let is_operator =
            visitor.shown.as_ref().is_some_and(|it| it.subject.kind() == Kind::Operator);
        let patience = if is_operator { self.limits.operator } else { self.limits.asking };
        // An operator is no stranger.
        let stranger = Some(stranger).filter(|_| !is_operator);
        let service = self.router.clone().layer(Extension(visitor));
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.limits.asking);
        http.max_buf_size(HTTP_BUFFER_BYTES);
        let serving =
            http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let pushed_out = async {
            match &stranger {
                Some(stranger) => stranger.pushed_out().await,
                None => std::future::pending().await,
            }
        };
        // How a visit ends is the visitor's business.
        tokio::select! {
            _ended = timeout(patience, serving) => {}
            () = pushed_out => {}
        }
    }
}

/// Bytes of the head of a request, and of what is read of a body at once.
const HTTP_BUFFER_BYTES: usize = 16 << 10;

fn is_of_one(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}
