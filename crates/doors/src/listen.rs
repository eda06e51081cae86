//! The ways in. A listener is made in one way and accepts in one way; the doors combine the two.

mod make;
mod take;

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use kernel::raw::uring::{MultishotAccept, Ring};
use rustix::io::Errno;

pub(crate) use make::{
    autobound, autobound_mptcp, bound, bound_by_ring, bound_datagram, bound_dccp, bound_mptcp,
    bound_sctp, bound_smc, bound_transparently, bound_udp_lite, bound_without_family, dual_stack,
    made_by_child, nonblocking,
};
pub(crate) use take::{
    accept, accept_by_child, accept_null, accept_when_ready, accept4, accept4_mptcp, datagram,
    direct_accept4, ring_accept, ring_accept_multishot, socketcall_accept, socketcall_accept4,
};

use crate::door::{Door, Way};
use crate::error::{DoorError, Stage, at};
use crate::opened::Opened;
use crate::socket::{self, canonical};

/// Makes a listening (or, for datagrams, bound) socket; the second argument is the backlog.
pub(crate) type Make = fn(SocketAddr, i32) -> Result<OwnedFd, DoorError>;

/// Takes the next connection.
pub(crate) type Take = fn(&mut Listener, Option<Instant>) -> Result<Opened, DoorError>;

/// A socket that listens, and the way it accepts.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    local: SocketAddr,
    take: Take,
    /// Whether `SO_RCVTIMEO` is set, and must be taken back before a wait without a deadline.
    limited: bool,
    ring: Option<Ring>,
    multishot: Option<MultishotAccept>,
}

/// Listens on `address` behind `door`, with `SO_REUSEADDR`. Port 0 lets the kernel choose; the door `autobind` always
/// does, on the wildcard address. An IPv6 listener takes IPv6 only, except behind the door `dual-stack`. `backlog` is the
/// argument of listen(2).
///
/// # Errors
/// `Refused` with the errno of the step, `Unsupported` where this machine has no such door.
pub fn listen(door: &Door, address: SocketAddr, backlog: i32) -> Result<Listener, DoorError> {
    let Way::In { make, take } = door.way else {
        return Err(DoorError::unsupported(format!("{} is a way out", door.name)));
    };
    let socket = make(address, backlog)?;
    let local = canonical(socket::local(&socket).map_err(at(Stage::Listen))?);
    Ok(Listener { socket, local, take, limited: false, ring: None, multishot: None })
}

impl Listener {
    /// The address it listens on, canonical.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Waits for the next connection, or for the next datagram, whose data is then the first that
    /// [`Opened::receive`] gives. Waits for ever without a deadline.
    ///
    /// # Errors
    /// The errno of accept(2) unchanged (`EINTR` is no answer: the wait goes on; a connection that was reset before we
    /// could ask for its peer is `ECONNABORTED`), `TimedOut` past the deadline, `Unsupported` where this machine has no
    /// such way to accept.
    pub fn accept(&mut self, deadline: Option<Instant>) -> Result<Opened, DoorError> {
        loop {
            match (self.take)(self, deadline) {
                Err(DoorError::Refused { errno, .. }) if errno == Errno::INTR.raw_os_error() => {}
                answer => return answer,
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
