//! connect(2) itself: blocking, non-blocking, to a v4-mapped address, and on an MPTCP socket.

use rustix::net::SocketFlags;

use super::dial;
use crate::door::{Attempt, Protocol};
use crate::error::{DoorError, Stage, at};
use crate::opened::Opened;
use crate::socket::mapped;

pub(crate) fn connect(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    blocking(attempt, Protocol::Tcp)
}

pub(crate) fn connect_mptcp(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    blocking(attempt, Protocol::Mptcp)
}

pub(crate) fn connect_mapped(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    blocking(&Attempt { target: mapped(attempt.target), ..*attempt }, Protocol::Tcp)
}

pub(crate) fn connect_nonblocking(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    with_flags(attempt, Protocol::Tcp, SocketFlags::NONBLOCK)
}

fn blocking(attempt: &Attempt<'_>, protocol: Protocol) -> Result<Opened, DoorError> {
    with_flags(attempt, protocol, SocketFlags::empty())
}

fn with_flags(
    attempt: &Attempt<'_>,
    protocol: Protocol,
    flags: SocketFlags,
) -> Result<Opened, DoorError> {
    dial(attempt, protocol, flags, |socket| {
        rustix::net::connect(socket, &attempt.target).map_err(at(Stage::Connect))?;
        Ok(0)
    })
}
