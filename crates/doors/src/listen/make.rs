//! How listeners are made.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};

use kernel::raw::address::KernelAddress;
use kernel::raw::option::set_transparent;
use kernel::raw::plain::bind;
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::child;
use crate::door::Protocol;
use crate::error::{DoorError, Stage, at};
use crate::socket::{create, mapped};

/// An address of a network for documentation (RFC 5737), which no host has.
const FOREIGN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// socket, bind, listen.
pub(crate) fn bound(address: SocketAddr, backlog: i32) -> Result<OwnedFd, DoorError> {
    listening(claimed(address, Protocol::Tcp, true)?, backlog)
}

pub(crate) fn bound_mptcp(address: SocketAddr, backlog: i32) -> Result<OwnedFd, DoorError> {
    listening(claimed(address, Protocol::Mptcp, true)?, backlog)
}

/// An IPv6 listener that takes IPv4 as well; an IPv4 address is claimed in its mapped form.
pub(crate) fn dual_stack(address: SocketAddr, backlog: i32) -> Result<OwnedFd, DoorError> {
    let address = match address.ip().is_unspecified() {
        true => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port()),
        false => mapped(address),
    };
    listening(claimed(address, Protocol::Tcp, false)?, backlog)
}

/// listen() on a socket that was never bound: no bind hook sees it.
pub(crate) fn autobound(address: SocketAddr, backlog: i32) -> Result<OwnedFd, DoorError> {
    let socket = create(address, Protocol::Tcp, SocketFlags::empty())?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true).map_err(at(Stage::Option))?;
    }
    listening(socket, backlog)
}

/// The same on an MPTCP socket.
pub(crate) fn autobound_mptcp(address: SocketAddr, backlog: i32) -> Result<OwnedFd, DoorError> {
    listening(create(address, Protocol::Mptcp, SocketFlags::empty())?, backlog)
}

/// bind() to 0.0.0.0 without a family, which is taken for IPv4.
pub(crate) fn bound_without_family(
    address: SocketAddr,
    backlog: i32,
) -> Result<OwnedFd, DoorError> {
    let socket = create(address, Protocol::Tcp, SocketFlags::empty())?;
    set_socket_reuseaddr(&socket, true).map_err(at(Stage::Option))?;
    let named = KernelAddress::without_family(address.port());
    bind(socket.as_fd(), &named).map_err(at(Stage::Bind))?;
    listening(socket, backlog)
}

/// A socket that may be bound to an address of somebody else.
pub(crate) fn bound_transparently(address: SocketAddr, backlog: i32) -> Result<OwnedFd, DoorError> {
    let foreign = SocketAddr::from((FOREIGN, address.port()));
    let socket = create(foreign, Protocol::Tcp, SocketFlags::empty())?;
    set_transparent(socket.as_fd()).map_err(at(Stage::Option))?;
    rustix::net::bind(&socket, &foreign).map_err(at(Stage::Bind))?;
    listening(socket, backlog)
}

/// `IORING_OP_BIND` and `IORING_OP_LISTEN`: no bind() and no listen() call.
pub(crate) fn bound_by_ring(address: SocketAddr, backlog: i32) -> Result<OwnedFd, DoorError> {
    let mut ring = crate::out::ring()?;
    let socket = create(address, Protocol::Tcp, SocketFlags::empty())?;
    let lacking = "no IORING_OP_BIND (Linux 6.11)";
    ring.bind(socket.as_fd(), KernelAddress::from(address))
        .map_err(|error| at(Stage::Bind)(error).lacking(Errno::INVAL, lacking))?;
    ring.listen(socket.as_fd(), backlog).map_err(at(Stage::Listen))?;
    Ok(socket)
}

pub(crate) fn bound_smc(address: SocketAddr, backlog: i32) -> Result<OwnedFd, DoorError> {
    // SMCPROTO_SMC6 is 1, SMCPROTO_SMC is 0 (net/smc/smc.h).
    let number = NonZeroU32::new(u32::from(address.is_ipv6())).map(rustix::net::Protocol::from_raw);
    let (family, kind) = (AddressFamily::from_raw(43), SocketType::STREAM);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, number).map_err(|errno| {
        at(Stage::Socket)(errno).lacking(Errno::AFNOSUPPORT, "this kernel has no smc")
    })?;
    rustix::net::bind(&socket, &address).map_err(at(Stage::Bind))?;
    listening(socket, backlog)
}

pub(crate) fn bound_sctp(address: SocketAddr, backlog: i32) -> Result<OwnedFd, DoorError> {
    listening(claimed(address, Protocol::Sctp, true)?, backlog)
}

pub(crate) fn bound_dccp(address: SocketAddr, backlog: i32) -> Result<OwnedFd, DoorError> {
    listening(claimed(address, Protocol::Dccp, true)?, backlog)
}

pub(crate) fn bound_udp_lite(address: SocketAddr, _backlog: i32) -> Result<OwnedFd, DoorError> {
    claimed(address, Protocol::UdpLite, true)
}

pub(crate) fn nonblocking(address: SocketAddr, backlog: i32) -> Result<OwnedFd, DoorError> {
    let socket = bound(address, backlog)?;
    ioctl_fionbio(&socket, true).map_err(at(Stage::Option))?;
    Ok(socket)
}

/// A child makes the listener and passes it here.
pub(crate) fn made_by_child(address: SocketAddr, backlog: i32) -> Result<OwnedFd, DoorError> {
    child::listener(address, backlog)
}

/// Datagram sockets do not listen.
pub(crate) fn bound_datagram(address: SocketAddr, _backlog: i32) -> Result<OwnedFd, DoorError> {
    claimed(address, Protocol::Udp, true)
}

fn claimed(address: SocketAddr, protocol: Protocol, v6_only: bool) -> Result<OwnedFd, DoorError> {
    let socket = create(address, protocol, SocketFlags::empty())?;
    // On a datagram socket the option would let two servers share a port unnoticed.
    if !matches!(protocol, Protocol::Udp | Protocol::UdpLite) {
        set_socket_reuseaddr(&socket, true).map_err(at(Stage::Option))?;
    }
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, v6_only).map_err(at(Stage::Option))?;
    }
    rustix::net::bind(&socket, &address).map_err(at(Stage::Bind))?;
    Ok(socket)
}

fn listening(socket: OwnedFd, backlog: i32) -> Result<OwnedFd, DoorError> {
    rustix::net::listen(&socket, backlog).map_err(at(Stage::Listen))?;
    Ok(socket)
}
