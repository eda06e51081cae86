//! Sockets as the doors make them: created close-on-exec, bounded by a deadline, waited for, and asked who is at the ends.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_error};
use rustix::net::{
    AddressFamily, Protocol as Number, SocketAddrAny, SocketFlags, SocketType, getpeername,
    getsockname, ipproto, socket_with,
};

use crate::door::Protocol;
use crate::error::{DoorError, Stage, at};

/// `SOCK_DCCP` (include/linux/net.h).
const SOCK_DCCP: SocketType = SocketType::from_raw(6);
/// `IPPROTO_SMC` (include/uapi/linux/in.h, Linux 6.11).
const IPPROTO_SMC: Number = Number::from_raw(NonZeroU32::new(256).expect("256 is not zero"));

/// The shortest time limit a socket option can hold: zero would mean none.
const LIMIT_MIN: Duration = Duration::from_millis(1);

/// The address that both `a.b.c.d` and `::ffff:a.b.c.d` are, with its port.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// `::ffff:a.b.c.d` for an IPv4 address, any other unchanged.
pub(crate) fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// A new socket of the family of `address`.
pub(crate) fn create(
    address: SocketAddr,
    protocol: Protocol,
    flags: SocketFlags,
) -> Result<OwnedFd, DoorError> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, number): (SocketType, Option<Number>) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, None),
        Protocol::Mptcp => (SocketType::STREAM, Some(ipproto::MPTCP)),
        Protocol::Udp => (SocketType::DGRAM, None),
        Protocol::UdpLite => (SocketType::DGRAM, Some(ipproto::UDPLITE)),
        Protocol::Sctp => (SocketType::STREAM, Some(ipproto::SCTP)),
        Protocol::Dccp => (SOCK_DCCP, Some(ipproto::DCCP)),
        Protocol::Smc => (SocketType::STREAM, Some(IPPROTO_SMC)),
        Protocol::Icmp if address.is_ipv4() => (SocketType::DGRAM, Some(ipproto::ICMP)),
        Protocol::Icmp => (SocketType::DGRAM, Some(ipproto::ICMPV6)),
        Protocol::Raw => (SocketType::RAW, Some(ipproto::TCP)),
        Protocol::Packet => return Err(DoorError::unsupported("a packet socket has no address")),
    };
    socket_with(family, kind, flags | SocketFlags::CLOEXEC, number).map_err(|errno| {
        match (protocol, errno) {
            (
                Protocol::UdpLite | Protocol::Sctp | Protocol::Dccp | Protocol::Smc,
                Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT | Errno::NOPROTOOPT,
            ) => DoorError::unsupported(format!("this kernel has no {protocol}")),
            (Protocol::Mptcp, Errno::PROTONOSUPPORT) => {
                DoorError::unsupported("this kernel has no MPTCP")
            }
            (Protocol::Mptcp, Errno::NOPROTOOPT) => {
                DoorError::unsupported("net.mptcp.enabled is 0")
            }
            (_, Errno::AFNOSUPPORT) if address.is_ipv6() => {
                DoorError::unsupported("this kernel has no IPv6")
            }
            _ => at(Stage::Socket)(errno),
        }
    })
}

/// Bounds blocking calls on `socket` by `deadline`; without one they wait for ever.
pub(crate) fn limit(
    socket: BorrowedFd<'_>,
    calls: Timeout,
    deadline: Option<Instant>,
) -> Result<(), DoorError> {
    let left =
        deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()).max(LIMIT_MIN));
    set_socket_timeout(socket, calls, left).map_err(at(Stage::Option))
}

/// Waits until `socket` is ready for `events`, or failed. `false` past the deadline.
pub(crate) fn wait(
    socket: BorrowedFd<'_>,
    events: PollFlags,
    deadline: Option<Instant>,
) -> Result<bool, Errno> {
    loop {
        let left = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
        });
        match poll(&mut [PollFd::new(&socket, events)], left.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Waits until the handshake is over and returns the peer, or the error that ended it.
pub(crate) fn connected(
    socket: BorrowedFd<'_>,
    deadline: Instant,
) -> Result<SocketAddr, DoorError> {
    let stage = Stage::Handshake;
    if !wait(socket, PollFlags::OUT, Some(deadline)).map_err(at(stage))? {
        return Err(DoorError::TimedOut { stage });
    }
    socket_error(socket).map_err(at(stage))?.map_err(at(stage))?;
    let peer = getpeername(socket).map_err(at(stage))?.ok_or(Errno::NOTCONN).map_err(at(stage))?;
    internet(peer).map_err(at(stage))
}

/// The local address.
pub(crate) fn local(socket: impl AsFd) -> Result<SocketAddr, Errno> {
    internet(getsockname(socket)?)
}

/// An address of the internet families.
pub(crate) fn internet(address: SocketAddrAny) -> Result<SocketAddr, Errno> {
    SocketAddr::try_from(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_and_canonical_are_inverse_for_ipv4() {
        let v4: SocketAddr = "192.0.2.1:80".parse().unwrap();
        assert_eq!(mapped(v4).to_string(), "[::ffff:192.0.2.1]:80");
        assert_eq!(canonical(mapped(v4)), v4);
        let v6: SocketAddr = "[::1]:80".parse().unwrap();
        assert_eq!((mapped(v6), canonical(v6)), (v6, v6));
    }
}
