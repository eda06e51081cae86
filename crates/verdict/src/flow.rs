//! A flow: one attempt to connect or to accept.

use crate::{Address, limits::ANCESTORS_MAX};

/// Which end of the connection this host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Direction {
    /// The host connects (or sends a datagram).
    Out = 0,
    /// The host accepts (or receives a datagram).
    In = 1,
}

/// An IP protocol number (IANA "Assigned Internet Protocol Numbers"), canonical: see [`Protocol::canonical`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Transmission Control Protocol, whatever carries it: MPTCP and SMC open TCP connections too.
    pub const TCP: Self = Self(6);
    /// User Datagram Protocol.
    pub const UDP: Self = Self(17);
    /// Stream Control Transmission Protocol.
    pub const SCTP: Self = Self(132);
    /// Lightweight UDP.
    pub const UDPLITE: Self = Self(136);
    /// Stands for raw sockets, whatever header they write: 255 is reserved and never seen on the wire.
    pub const RAW: Self = Self(255);
    /// Internet Control Message Protocol (ping sockets).
    pub const ICMP: Self = Self(1);
    /// ICMP for IPv6 (ping sockets).
    pub const ICMPV6: Self = Self(58);

    /// The protocol that goes over the wire for a socket of protocol `number` as the kernel reports it: `IPPROTO_MPTCP`
    /// (262) and `IPPROTO_SMC` (256) do not fit in an IP header and are TCP there (include/uapi/linux/in.h).
    #[inline(always)]
    pub const fn canonical(number: u32) -> Self {
        match number {
            256 | 262 => Self::TCP,
            other => Self((other & 0xff) as u8),
        }
    }
}

/// An address and a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The canonical address.
    pub address: Address,
    /// The port in host byte order; 0 where the protocol has none or none is chosen yet.
    pub port: u16,
}

/// The local process that connects or accepts, as far as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// User id, in the initial user namespace; `u32::MAX` is unknown.
    pub uid: u32,
    /// Group id, in the initial user namespace; `u32::MAX` is unknown.
    pub gid: u32,
    /// The executable, as the agent numbers it; 0 is unknown.
    pub exe: u64,
    /// The cgroup v2 id; 0 is unknown.
    pub cgroup: u64,
    /// Ids of the cgroups above it, the deepest first; its own may be the first of them. 0 is none.
    pub above: [u64; ANCESTORS_MAX],
    /// Cookie of the network namespace of its socket; 0 is unknown.
    pub netns: u64,
}

impl Subject {
    /// Nobody knows: no rule that asks for a user, group, executable, unit, container or network namespace holds. The
    /// two ids are the ones that no process can have (setuid(2): -1 stands for "no change").
    pub const UNKNOWN: Self = Self {
        uid: u32::MAX,
        gid: u32::MAX,
        exe: 0,
        cgroup: 0,
        above: [0; ANCESTORS_MAX],
        netns: 0,
    };

    /// The cgroups that it is in, the deepest first.
    pub fn cgroups(&self) -> impl Iterator<Item = u64> + '_ {
        core::iter::once(self.cgroup).chain(self.above.iter().copied()).filter(|&id| id != 0)
    }
}

/// One attempt to connect or to accept, as [`decide`](crate::decide) judges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Whether this host connects or accepts.
    pub direction: Direction,
    /// TCP, UDP or another IP protocol.
    pub protocol: Protocol,
    /// This host's end. When connecting, its address is not chosen yet and takes no part in the verdict.
    pub local: Endpoint,
    /// The peer's end.
    pub remote: Endpoint,
    /// Who connects or accepts here.
    pub subject: Subject,
}

impl Flow {
    /// The port that a service rule speaks of: the server's, which is the remote one when connecting and the local one
    /// when accepting. The client's port never takes part in a verdict.
    #[inline(always)]
    pub const fn service_port(&self) -> u16 {
        match self.direction {
            Direction::Out => self.remote.port,
            Direction::In => self.local.port,
        }
    }
}
