//! Kinds of sockets, their addresses, and the calls on them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use kernel::raw::address::KernelAddress;
use kernel::raw::plain;
use rustix::net::sockopt::{Timeout, set_socket_linger, set_socket_reuseaddr, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol as Number, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto,
    socket_with,
};
use verdict::Protocol;

/// One kind of socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) family: AddressFamily,
    /// Else it is one of datagrams.
    pub(super) is_stream: bool,
    /// The protocol as socket() is given it; most programs give none.
    protocol: Option<Number>,
    /// What goes over the wire, if anything does.
    pub(super) carries: Option<Protocol>,
}

const V4: AddressFamily = AddressFamily::INET;
const V6: AddressFamily = AddressFamily::INET6;
const TCP: Option<Protocol> = Some(Protocol::TCP);
const UDP: Option<Protocol> = Some(Protocol::UDP);

/// Those that are asked.
pub(super) const KINDS: &[Kind] = &[
    stream("TCP over IPv4", V4, None),
    stream("TCP over IPv4, by its number", V4, Some(ipproto::TCP)),
    stream("MPTCP over IPv4", V4, Some(ipproto::MPTCP)),
    stream("TCP over IPv6", V6, None),
    stream("TCP over IPv6, by its number", V6, Some(ipproto::TCP)),
    stream("MPTCP over IPv6", V6, Some(ipproto::MPTCP)),
    Kind { is_stream: false, carries: UDP, ..stream("UDP over IPv4", V4, None) },
    Kind {
        is_stream: false,
        carries: UDP,
        ..stream("UDP over IPv4, by its number", V4, Some(ipproto::UDP))
    },
    Kind { is_stream: false, carries: UDP, ..stream("UDP over IPv6", V6, None) },
    Kind {
        is_stream: false,
        carries: UDP,
        ..stream("UDP over IPv6, by its number", V6, Some(ipproto::UDP))
    },
    Kind { carries: None, ..stream("streams of this host", AddressFamily::UNIX, None) },
    Kind {
        is_stream: false,
        carries: None,
        ..stream("datagrams of this host", AddressFamily::UNIX, None)
    },
];

const fn stream(name: &'static str, family: AddressFamily, protocol: Option<Number>) -> Kind {
    Kind { name, family, is_stream: true, protocol, carries: TCP }
}

impl Kind {
    /// Whether this kernel has it.
    pub(super) fn is_offered(&self) -> bool {
        self.socket(Duration::from_secs(1)).is_ok()
    }

    /// A new socket, whose calls wait at most for `patience`. A stream may take a port that an earlier one is still leaving.
    pub(super) fn socket(&self, patience: Duration) -> io::Result<OwnedFd> {
        let kind = if self.is_stream { SocketType::STREAM } else { SocketType::DGRAM };
        let socket = socket_with(self.family, kind, SocketFlags::CLOEXEC, self.protocol)?;
        for calls in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&socket, calls, Some(patience))?;
        }
        if self.is_stream && self.carries.is_some() {
            set_socket_reuseaddr(&socket, true)?;
        }
        Ok(socket)
    }

    /// Its place in the list, so that each has ports of its own.
    pub(super) fn number(&self) -> u16 {
        let at = KINDS.iter().position(|kind| kind.name == self.name);
        at.and_then(|at| u16::try_from(at).ok()).expect("there are a dozen kinds, this among them")
    }

    /// This host at `port`.
    pub(super) fn address(&self, port: u16) -> KernelAddress {
        match self.family {
            V4 => KernelAddress::from(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            V6 => KernelAddress::from(SocketAddr::from((Ipv6Addr::LOCALHOST, port))),
            _ => {
                let name = format!("calls-{}-{port}", std::process::id());
                KernelAddress::unix(&name).expect("two numbers and five letters fit")
            }
        }
    }

    /// The shortest length of an address that it takes: of IPv6 that of RFC 2133, which had no scope; of AF_UNIX a family
    /// alone, for a name of the kernel's choice.
    pub(super) fn least(&self) -> usize {
        match self.family {
            V4 => 16,
            V6 => 24,
            _ => 2,
        }
    }
}

pub(super) fn bind(socket: &OwnedFd, address: &KernelAddress) -> io::Result<()> {
    plain::bind(socket.as_fd(), address)
}

pub(super) fn connect(socket: &OwnedFd, address: &KernelAddress) -> io::Result<()> {
    plain::connect(socket.as_fd(), address)
}

pub(super) fn listen(socket: &OwnedFd) -> io::Result<()> {
    Ok(rustix::net::listen(socket, 8)?)
}

pub(super) fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(rustix::net::accept(listener)?)
}

pub(super) fn send(socket: &OwnedFd) -> io::Result<()> {
    Ok(rustix::net::send(socket, b".", SendFlags::NOSIGNAL).map(drop)?)
}

pub(super) fn send_to(socket: &OwnedFd, address: &KernelAddress) -> io::Result<()> {
    plain::send_to(socket.as_fd(), b".", address).map(drop)
}

/// Takes the one byte that is on its way.
pub(super) fn receive(socket: &OwnedFd) -> io::Result<()> {
    let mut byte = [0];
    let (taken, _) = rustix::net::recv(socket, &mut byte, RecvFlags::empty())?;
    if taken == 1 && byte == *b"." { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Ends a stream at once, so that nothing of it meets the next case.
pub(super) fn reset(socket: OwnedFd) -> io::Result<()> {
    Ok(set_socket_linger(&socket, Some(Duration::ZERO))?)
}
