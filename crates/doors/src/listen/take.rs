//! How connections are accepted.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use kernel::raw::ia32::Ia32;
use kernel::raw::uring::MultishotAccept;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::sockopt::Timeout;
use rustix::net::{
    RecvFlags, SocketAddrAny, SocketFlags, acceptfrom, acceptfrom_with, getpeername, recvfrom,
};

use super::Listener;
use crate::child;
use crate::error::{DoorError, Stage, at};
use crate::opened::{Carrier, Opened, SendCall};
use crate::out;
use crate::socket;

/// The largest datagram that IPv4 and IPv6 can carry without jumbograms, in bytes.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// accept(), asking for the peer's address.
pub(crate) fn accept(
    listener: &mut Listener,
    deadline: Option<Instant>,
) -> Result<Opened, DoorError> {
    limit(listener, deadline)?;
    let (socket, peer) = acceptfrom(&listener.socket).map_err(at(Stage::Accept))?;
    opened(socket, peer)
}

/// accept(fd, NULL, NULL).
pub(crate) fn accept_null(
    listener: &mut Listener,
    deadline: Option<Instant>,
) -> Result<Opened, DoorError> {
    limit(listener, deadline)?;
    opened(rustix::net::accept(&listener.socket).map_err(at(Stage::Accept))?, None)
}

pub(crate) fn accept4(
    listener: &mut Listener,
    deadline: Option<Instant>,
) -> Result<Opened, DoorError> {
    limit(listener, deadline)?;
    let (socket, peer) =
        acceptfrom_with(&listener.socket, SocketFlags::CLOEXEC).map_err(at(Stage::Accept))?;
    opened(socket, peer)
}

/// accept4() on an MPTCP listener: the kernel accepts on a socket of its own, which a later `SO_RCVTIMEO` does not reach,
/// so a deadline is kept by poll() before the call.
pub(crate) fn accept4_mptcp(
    listener: &mut Listener,
    deadline: Option<Instant>,
) -> Result<Opened, DoorError> {
    let stage = Stage::Accept;
    if deadline.is_some()
        && !socket::wait(listener.socket.as_fd(), PollFlags::IN, deadline).map_err(at(stage))?
    {
        return Err(DoorError::TimedOut { stage });
    }
    let (socket, peer) =
        acceptfrom_with(&listener.socket, SocketFlags::CLOEXEC).map_err(at(stage))?;
    opened(socket, peer)
}

/// poll(), then accept4() on a non-blocking listener; another process may have taken the connection in between.
pub(crate) fn accept_when_ready(
    listener: &mut Listener,
    deadline: Option<Instant>,
) -> Result<Opened, DoorError> {
    let stage = Stage::Accept;
    loop {
        if !socket::wait(listener.socket.as_fd(), PollFlags::IN, deadline).map_err(at(stage))? {
            return Err(DoorError::TimedOut { stage });
        }
        match acceptfrom_with(&listener.socket, SocketFlags::CLOEXEC) {
            Ok((socket, peer)) => return opened(socket, peer),
            Err(Errno::AGAIN) => {}
            Err(errno) => return Err(at(stage)(errno)),
        }
    }
}

pub(crate) fn ring_accept(
    listener: &mut Listener,
    deadline: Option<Instant>,
) -> Result<Opened, DoorError> {
    let Listener { socket, ring, .. } = listener;
    let ring = match ring {
        Some(ring) => ring,
        None => ring.insert(out::ring()?),
    };
    let socket = ring.accept(socket.as_fd(), deadline).map_err(at(Stage::Accept))?;
    opened(socket, None)
}

pub(crate) fn ring_accept_multishot(
    listener: &mut Listener,
    deadline: Option<Instant>,
) -> Result<Opened, DoorError> {
    let Listener { socket, multishot, .. } = listener;
    let multishot = match multishot {
        Some(multishot) => multishot,
        None => multishot.insert(MultishotAccept::new().map_err(|error| out::no_ring(&error))?),
    };
    let socket = multishot.accept(socket.as_fd(), deadline).map_err(|error| {
        at(Stage::Accept)(error).lacking(Errno::INVAL, "no multishot accept (Linux 5.19)")
    })?;
    opened(socket, None)
}

pub(crate) fn socketcall_accept(
    listener: &mut Listener,
    deadline: Option<Instant>,
) -> Result<Opened, DoorError> {
    by_ia32(listener, deadline, Ia32::accept_by_socketcall)
}

pub(crate) fn socketcall_accept4(
    listener: &mut Listener,
    deadline: Option<Instant>,
) -> Result<Opened, DoorError> {
    by_ia32(listener, deadline, Ia32::accept4_by_socketcall)
}

pub(crate) fn direct_accept4(
    listener: &mut Listener,
    deadline: Option<Instant>,
) -> Result<Opened, DoorError> {
    by_ia32(listener, deadline, Ia32::accept4)
}

/// A child that inherited the listener accepts and passes the connection here.
pub(crate) fn accept_by_child(
    listener: &mut Listener,
    deadline: Option<Instant>,
) -> Result<Opened, DoorError> {
    limit(listener, deadline)?;
    opened(child::accept(listener.socket.as_fd())?, None)
}

/// The next datagram. Its answer leaves from the address the listener is bound to; a wildcard leaves the choice of the
/// source to the kernel.
pub(crate) fn datagram(
    listener: &mut Listener,
    deadline: Option<Instant>,
) -> Result<Opened, DoorError> {
    limit(listener, deadline)?;
    let mut data = vec![0; DATAGRAM_BYTES_MAX];
    let (taken, _, peer) =
        recvfrom(&listener.socket, &mut data, RecvFlags::empty()).map_err(at(Stage::Receive))?;
    data.truncate(taken);
    let to = peer.ok_or(Errno::NOTCONN).and_then(socket::internet).map_err(at(Stage::Receive))?;
    let socket = listener.socket.try_clone().map_err(at(Stage::Receive))?;
    let carrier = Carrier::Unconnected { to, by: SendCall::SendTo, pending: Some(data) };
    Ok(Opened::new(socket, carrier, listener.local, to))
}

fn by_ia32(
    listener: &mut Listener,
    deadline: Option<Instant>,
    accept: fn(&mut Ia32, BorrowedFd<'_>) -> std::io::Result<OwnedFd>,
) -> Result<Opened, DoorError> {
    limit(listener, deadline)?;
    let mut ia32 = out::ia32()?;
    opened(accept(&mut ia32, listener.socket.as_fd()).map_err(at(Stage::Accept))?, None)
}

/// Bounds the blocking call that follows.
fn limit(listener: &mut Listener, deadline: Option<Instant>) -> Result<(), DoorError> {
    if deadline.is_some() || listener.limited {
        socket::limit(listener.socket.as_fd(), Timeout::Recv, deadline)?;
        listener.limited = deadline.is_some();
    }
    Ok(())
}

/// The connection, with the peer's address as accept() gave it or, where it was not asked, as getpeername() does.
fn opened(socket: OwnedFd, peer: Option<SocketAddrAny>) -> Result<Opened, DoorError> {
    let stage = Stage::Accept;
    let peer: SocketAddr = match peer {
        Some(peer) => socket::internet(peer).map_err(at(stage))?,
        None => match getpeername(&socket).and_then(|peer| peer.ok_or(Errno::NOTCONN)) {
            Ok(peer) => socket::internet(peer).map_err(at(stage))?,
            Err(Errno::NOTCONN) => return Err(at(stage)(Errno::CONNABORTED)),
            Err(errno) => return Err(at(stage)(errno)),
        },
    };
    let local = socket::local(&socket).map_err(at(stage))?;
    Ok(Opened::new(socket, Carrier::Stream, local, peer))
}
