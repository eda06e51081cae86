//! Sockets that are there before the programs are attached.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use doors::Protocol;
use rustix::net::{AddressFamily, SocketType, socket};

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
        }
        Ok(before)
    }
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
