//! TCP fast open (RFC 7413): connections that no connect() makes, or that a connect() only announces.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use kernel::raw::option::set_fastopen_connect;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, SocketFlags, send, sendmsg_addr, sendto};

use super::dial;
use crate::door::{Attempt, Protocol};
use crate::error::{DoorError, Stage, at};
use crate::opened::Opened;

/// `MSG_FASTOPEN` of send(2) (include/linux/socket.h). Never waiting: the kernel then answers at once with how much of the
/// data went into the SYN, or with `EINPROGRESS` for none; a waiting call that is interrupted does not tell, and the data
/// would be sent twice.
const FASTOPEN: SendFlags = SendFlags::from_bits_retain(0x2000_0000).union(SendFlags::DONTWAIT);

/// Why the kernel answers `EOPNOTSUPP`.
const OFF: &str = "net.ipv4.tcp_fastopen has the client's bit off";

pub(crate) fn fast_by_sendto(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    dial(attempt, Protocol::Tcp, SocketFlags::empty(), |socket| {
        sendto_fast(socket, attempt)
            .map_err(|errno| at(Stage::Connect)(errno).lacking(Errno::OPNOTSUPP, OFF))
    })
}

pub(crate) fn fast_by_mptcp(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    dial(attempt, Protocol::Mptcp, SocketFlags::empty(), |socket| {
        sendto_fast(socket, attempt).map_err(|errno| {
            at(Stage::Connect)(errno).lacking(
                Errno::OPNOTSUPP,
                "no fast open for MPTCP (Linux 6.2), or its client's bit is off",
            )
        })
    })
}

pub(crate) fn fast_by_sendmsg(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    dial(attempt, Protocol::Tcp, SocketFlags::empty(), |socket| {
        let parts = [IoSlice::new(attempt.first)];
        let flags = FASTOPEN | SendFlags::NOSIGNAL;
        sendmsg_addr(socket, &attempt.target, &parts, &mut SendAncillaryBuffer::default(), flags)
            .map_err(|errno| at(Stage::Connect)(errno).lacking(Errno::OPNOTSUPP, OFF))
    })
}

/// With a cookie of an earlier connection, connect() sends nothing and the write behind it does; without one the write
/// follows a plain handshake. An empty write is enough for either.
pub(crate) fn fast_by_connect(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    dial(attempt, Protocol::Tcp, SocketFlags::empty(), |socket| {
        set_fastopen_connect(socket)
            .map_err(|errno| at(Stage::Option)(errno).lacking(Errno::OPNOTSUPP, OFF))?;
        rustix::net::connect(socket, &attempt.target).map_err(at(Stage::Connect))?;
        send(socket, attempt.first, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
            .map_err(at(Stage::Handshake))
    })
}

fn sendto_fast(socket: BorrowedFd<'_>, attempt: &Attempt<'_>) -> Result<usize, Errno> {
    sendto(socket, attempt.first, FASTOPEN | SendFlags::NOSIGNAL, &attempt.target)
}
