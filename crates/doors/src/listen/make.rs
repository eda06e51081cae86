//! How listeners are made.

use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::ioctl_fionbio;
use rustix::net::SocketFlags;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};

use crate::child;
use crate::door::Protocol;
use crate::error::{DoorError, Stage, at};
use crate::socket::{create, mapped};

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
    if protocol != Protocol::Udp {
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
