//! io_uring: the kernel connects, but no process ever calls connect().

use kernel::raw::address::KernelAddress;
use kernel::raw::uring::{Issue, Ring};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::{dial, dial_on};
use crate::door::{Attempt, Protocol};
use crate::error::{DoorError, Stage, at, errno_text};
use crate::opened::Opened;

pub(crate) fn ring_connect(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    by_connect(attempt, Issue::Inline)
}

pub(crate) fn ring_connect_async(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    by_connect(attempt, Issue::Async)
}

pub(crate) fn ring_connect_polled(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    let mut ring = Ring::polled().map_err(|error| no_ring(&error))?;
    dial(attempt, Protocol::Tcp, SocketFlags::empty(), |socket| {
        let target = KernelAddress::from(attempt.target);
        ring.connect(socket, target, Issue::Inline, attempt.deadline)
            .map_err(at(Stage::Connect))?;
        Ok(0)
    })
}

pub(crate) fn ring_socket(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    let mut ring = ring()?;
    let family = if attempt.target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = SocketType::STREAM.as_raw().cast_signed();
    let socket = ring.socket(family.as_raw().into(), kind, 0).map_err(|error| {
        at(Stage::Socket)(error).lacking(Errno::INVAL, "no IORING_OP_SOCKET (Linux 5.19)")
    })?;
    dial_on(socket, attempt, |socket| {
        let target = KernelAddress::from(attempt.target);
        ring.connect(socket, target, Issue::Inline, attempt.deadline)
            .map_err(at(Stage::Connect))?;
        Ok(0)
    })
}

pub(crate) fn ring_fast(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    let mut ring = ring()?;
    dial(attempt, Protocol::Tcp, SocketFlags::empty(), |socket| {
        ring.open_fast(socket, KernelAddress::from(attempt.target), attempt.first, attempt.deadline)
            .map_err(|error| {
                at(Stage::Connect)(error)
                    .lacking(Errno::OPNOTSUPP, "net.ipv4.tcp_fastopen has the client's bit off")
            })
    })
}

/// A ring, or the reason why this machine has none.
pub(crate) fn ring() -> Result<Ring, DoorError> {
    Ring::new().map_err(|error| no_ring(&error))
}

pub(crate) fn no_ring(error: &std::io::Error) -> DoorError {
    let text = errno_text(error.raw_os_error().unwrap_or_default());
    DoorError::unsupported(format!("no io_uring (kernel.io_uring_disabled?): {text}"))
}

fn by_connect(attempt: &Attempt<'_>, issue: Issue) -> Result<Opened, DoorError> {
    let mut ring = ring()?;
    dial(attempt, Protocol::Tcp, SocketFlags::empty(), |socket| {
        ring.connect(socket, KernelAddress::from(attempt.target), issue, attempt.deadline)
            .map_err(at(Stage::Connect))?;
        Ok(0)
    })
}
