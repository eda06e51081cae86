//! connect(2) itself: blocking, non-blocking, to odd addresses, on an MPTCP socket, and by a number of the x32 ABI.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use kernel::raw::address::KernelAddress;
use kernel::raw::plain::connect_by_x32;
use rustix::io::Errno;
use rustix::net::{SocketFlags, bind, connect_unspec};

use super::{dial, dial_on};
use crate::door::{Attempt, Protocol};
use crate::error::{DoorError, Stage, at};
use crate::opened::Opened;
use crate::socket::{self, mapped};

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

/// To 0.0.0.0 or `::` at the target's port, which the kernel takes for this host after the hooks have run.
pub(crate) fn connect_unspecified(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    let target = match attempt.target {
        SocketAddr::V4(v4) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, v4.port())),
        SocketAddr::V6(v6) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, v6.port())),
    };
    blocking(&Attempt { target, ..*attempt }, Protocol::Tcp)
}

/// An IPv4 address on a socket of IPv6: no TCP of Linux takes it.
pub(crate) fn connect_other_family(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    let unspecified = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let socket = socket::create(unspecified, Protocol::Tcp, SocketFlags::empty())?;
    dial_on(socket, attempt, |socket| {
        rustix::net::connect(socket, &attempt.target).map_err(at(Stage::Connect))?;
        Ok(0)
    })
}

/// `AF_UNSPEC` first, which takes a connection back, then the target.
pub(crate) fn connect_again(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    dial(attempt, Protocol::Tcp, SocketFlags::empty(), |socket| {
        connect_unspec(socket).map_err(at(Stage::Option))?;
        rustix::net::connect(socket, &attempt.target).map_err(at(Stage::Connect))?;
        Ok(0)
    })
}

/// A socket that is bound connects to its own address: a connection that no listener ever sees.
pub(crate) fn connect_itself(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    let own = SocketAddr::new(attempt.target.ip(), 0);
    let socket = socket::create(own, Protocol::Tcp, SocketFlags::empty())?;
    bind(&socket, &own).map_err(at(Stage::Bind))?;
    let target = socket::local(&socket).map_err(at(Stage::Bind))?;
    dial_on(socket, &Attempt { target, ..*attempt }, |socket| {
        rustix::net::connect(socket, &target).map_err(at(Stage::Connect))?;
        Ok(0)
    })
}

pub(crate) fn connect_x32(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    dial(attempt, Protocol::Tcp, SocketFlags::empty(), |socket| {
        connect_by_x32(socket.as_fd(), &KernelAddress::from(attempt.target)).map_err(|error| {
            at(Stage::Connect)(error).lacking(Errno::NOSYS, "this kernel has no x32")
        })?;
        Ok(0)
    })
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
