//! The ways out. Each makes a socket, bounds it by the deadline, makes the one call that it is named after, and returns
//! when the connection is up or has definitely failed.

mod datagram;
mod fast;
mod foreign;
mod handed;
mod ia32;
mod plain;
mod uring;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::net::sockopt::Timeout;

pub(crate) use datagram::{connected_datagram, mapped_datagram, sendmsg_datagram, sendto_datagram};
pub(crate) use fast::{fast_by_connect, fast_by_mptcp, fast_by_sendmsg, fast_by_sendto};
pub use foreign::MADE_BY_HAND;
pub(crate) use foreign::{
    dccp_connect, packet_send, ping, raw_connect, raw_send, sctp_connect, sctp_send, smc_by_family,
    smc_by_protocol, udp_lite,
};
pub(crate) use handed::{inherited, passed};
pub(crate) use ia32::{direct_connect, ia32, socketcall_connect};
pub(crate) use plain::{
    connect, connect_again, connect_itself, connect_mapped, connect_mptcp, connect_nonblocking,
    connect_other_family, connect_unspecified, connect_x32,
};
pub(crate) use uring::{
    no_ring, ring, ring_connect, ring_connect_async, ring_connect_polled, ring_fast, ring_socket,
};

use crate::door::{Attempt, Door, Protocol, Way};
use crate::error::{DoorError, Stage, at};
use crate::opened::{Carrier, Opened};
use crate::socket;

/// Makes one attempt through `door`. For a stream the result is definite: connected (the peer's address is known), or an
/// errno. A datagram door returns when the first datagram has left; what ICMP says of it comes with the next
/// [`Opened::receive`].
///
/// # Errors
/// `Refused` with the kernel's errno and the step, `TimedOut` past the attempt's deadline, `Unsupported` where this machine
/// has no such door, or where the door cannot name the target.
pub fn open(door: &Door, attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    let Way::Out { open } = door.way else {
        return Err(DoorError::unsupported(format!("{} is a way in", door.name)));
    };
    if !door.reaches(attempt.target) {
        return Err(DoorError::unsupported(format!("{} takes IPv4 addresses only", door.name)));
    }
    open(attempt)
}

/// Connects a new stream socket by `call`, which returns how many bytes of the first data it has sent.
fn dial(
    attempt: &Attempt<'_>,
    protocol: Protocol,
    flags: SocketFlags,
    call: impl FnOnce(BorrowedFd<'_>) -> Result<usize, DoorError>,
) -> Result<Opened, DoorError> {
    dial_on(socket::create(attempt.target, protocol, flags)?, attempt, call)
}

/// The same on a socket that is there already.
fn dial_on(
    socket: OwnedFd,
    attempt: &Attempt<'_>,
    call: impl FnOnce(BorrowedFd<'_>) -> Result<usize, DoorError>,
) -> Result<Opened, DoorError> {
    socket::limit(socket.as_fd(), Timeout::Send, Some(attempt.deadline))?;
    let sent = match call(socket.as_fd()) {
        Err(error) if goes_on(&error) => 0,
        sent => sent?,
    };
    let peer = socket::connected(socket.as_fd(), attempt.deadline)?;
    socket::limit(socket.as_fd(), Timeout::Send, None)?;
    let local = socket::local(&socket).map_err(at(Stage::Handshake))?;
    let mut opened = Opened::new(socket, Carrier::Stream, local, peer);
    if let rest @ [_, ..] = &attempt.first[sent..] {
        opened.send(rest)?;
    }
    Ok(opened)
}

/// Whether the handshake goes on although the call has ended: it was not to wait, or its time was up, or it was interrupted,
/// which a ring of this thread can do without any signal. Nothing was sent then.
fn goes_on(error: &DoorError) -> bool {
    match error {
        DoorError::TimedOut { stage } => matches!(stage, Stage::Connect | Stage::Handshake),
        DoorError::Refused { stage, errno } => {
            matches!(stage, Stage::Connect | Stage::Handshake)
                && *errno == Errno::INTR.raw_os_error()
        }
        DoorError::Unsupported { .. } => false,
    }
}
