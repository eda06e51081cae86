//! Sockets that are there before the programs are attached.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context as _, Result};
use doors::Protocol;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_linger, set_socket_reuseaddr, set_socket_timeout};
use rustix::net::{AddressFamily, SocketType, bind, connect as connect_socket, socket};

use super::{Played, refused};
use crate::peer::Peer;
use crate::stage::{PATIENCE_BEFORE, Stage};

/// Enough for every situation.
const OF_EACH: usize = 4;

/// What was made before: some of each kind, and each is used once.
#[derive(Debug, Default)]
pub(crate) struct Before {
    sockets: Vec<OwnedFd>,
    connections: Vec<(TcpStream, TcpStream)>,
    listeners: Vec<TcpListener>,
    queued: Vec<TcpListener>,
    /// A listener, a connection that it took, and the other end of that.
    taken: Vec<(TcpListener, TcpStream, TcpStream)>,
}

impl Before {
    /// Makes them.
    pub(crate) fn make(peer: &mut Peer) -> Result<Self> {
        let mut before = Self::default();
        for _ in 0..OF_EACH {
            before.sockets.push(
                socket(AddressFamily::INET, SocketType::STREAM, None).context("make a socket")?,
            );
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
            let address = listener.local_addr().context("ask for an address")?;
            let client = TcpStream::connect(address).context("connect")?;
            let (server, _) = listener.accept().context("accept")?;
            before.connections.push((client, server));
            before.listeners.push(listener);
            let queued = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
            let address = queued.local_addr().context("ask for an address")?;
            peer.reach(Protocol::Tcp, address, PATIENCE_BEFORE)?;
            before.queued.push(queued);
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
            let address = listener.local_addr().context("ask for an address")?;
            let client = from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).context("bind")?;
            connect_socket(&client, &address).context("connect")?;
            let (server, _) = listener.accept().context("accept")?;
            before.taken.push((listener, server, TcpStream::from(client)));
        }
        Ok(before)
    }
}

/// A socket bound to `address`, also where a connection just was.
fn from(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    Ok(socket)
}

pub(super) fn connect(stage: &mut Stage) -> Result<Played> {
    let socket = stage.before().sockets.pop().context("a socket is left")?;
    let connected = rustix::net::connect(&socket, &stage.target());
    let local = match &connected {
        Ok(()) => "connected".to_owned(),
        Err(errno) => refused(&(*errno).into(), "connect"),
    };
    Ok(Played::new(local, stage.peer_saw(connected.is_ok())?))
}

pub(super) fn send(stage: &mut Stage) -> Result<Played> {
    let (mut client, mut server) =
        stage.before().connections.pop().context("a connection is left")?;
    server.set_read_timeout(Some(stage.patience())).context("bound a read")?;
    Ok(match client.write_all(b"more").and_then(|()| server.read_exact(&mut [0; 4])) {
        Ok(()) => Played::new("sent", "data"),
        Err(error) => Played::new(refused(&error, "send"), "nothing"),
    })
}

pub(super) fn accept(stage: &mut Stage) -> Result<Played> {
    let listener = stage.before().listeners.pop().context("a listener is left")?;
    let address = listener.local_addr().context("ask for an address")?;
    let peer = stage.peer_reaches(Protocol::Tcp, address)?;
    Ok(Played::new(stage.accepts(&listener.into(), peer == "connected")?, peer))
}

pub(super) fn accept_queued(stage: &mut Stage) -> Result<Played> {
    let listener = stage.before().queued.pop().context("a listener is left")?;
    Ok(Played::new(stage.accepts(&listener.into(), true)?, "connected"))
}

/// The peer is this process, by a connection that is there since before. It ends as the one of a client that waits for the
/// server's end: then this end is the one that stays behind in TIME-WAIT, and the peer's port is free at once.
pub(super) fn come_again(stage: &mut Stage) -> Result<Played> {
    let (listener, mut server, mut client) =
        stage.before().taken.pop().context("a connection is left")?;
    let target = listener.local_addr().context("ask for an address")?;
    let peer = client.local_addr().context("ask for an address")?;
    let patience = stage.patience();
    server.shutdown(Shutdown::Write).context("end a connection")?;
    client.set_read_timeout(Some(patience)).context("bound a read")?;
    client.read_to_end(&mut Vec::new()).context("see the end")?;
    drop(client);
    server.set_read_timeout(Some(patience)).context("bound a read")?;
    server.read_to_end(&mut Vec::new()).context("see the other end")?;
    drop(server);
    let client = match from(peer) {
        Ok(client) => client,
        Err(error) => return Ok(Played::new(refused(&error, "bind"), "-")),
    };
    set_socket_timeout(&client, Timeout::Send, Some(patience)).context("bound a connect")?;
    let came = match connect_socket(&client, &target) {
        Ok(()) => "connected".to_owned(),
        Err(Errno::CONNREFUSED) => "refused".to_owned(),
        Err(errno) => refused(&errno.into(), "connect"),
    };
    let local = stage.accepts(&listener.into(), came == "connected")?;
    // So that it does not stay behind in its turn.
    set_socket_linger(&client, Some(Duration::ZERO)).context("reset")?;
    Ok(Played::new(local, came))
}
