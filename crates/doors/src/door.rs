//! What a door is, and what an attempt to go out through one needs.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::error::DoorError;
use crate::listen::{Make, Take};
use crate::opened::Opened;

/// One way to make or to receive a connection.
#[derive(Clone, Copy)]
pub struct Door {
    /// Its name: lower case, unique in [`crate::ALL`], the argument of `--via`.
    pub name: &'static str,
    /// What the socket was made for.
    pub protocol: Protocol,
    /// Which addresses can be reached, or listened on, by it.
    pub families: Families,
    /// What the kernel does behind it, in a sentence.
    pub note: &'static str,
    /// The hooks that judge each peer here, by their names in [`kernel::Hook::ALL`]: any one of them that is in place
    /// closes this door to a peer that rules deny. Empty where no hook can.
    pub judged_by: &'static [&'static str],
    /// The first release of Linux (major, minor) in which the hooks judge here.
    pub judged_since: (u32, u32),
    /// The hooks that refuse to make its socket at all where rules allow its protocol to nobody. Empty where a hook judges
    /// each peer as well, or where no hook sees the socket made.
    pub refused_by: &'static [&'static str],
    /// Whether `tcpcli` and `tcpserv` offer it: it leads to the address that was asked for, and carries what is said.
    pub offered: bool,
    pub(crate) way: Way,
}

/// The functions behind a door. Making a listener and accepting from it are two steps that combine freely.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    Out { open: fn(&Attempt<'_>) -> Result<Opened, DoorError> },
    In { make: Make, take: Take },
}

impl Door {
    /// Whether connections leave or arrive here.
    pub fn side(&self) -> Side {
        match self.way {
            Way::Out { .. } => Side::Out,
            Way::In { .. } => Side::In,
        }
    }

    /// How far it is open where `hooks` are in place, at the root of the cgroup tree of a kernel of this `release`
    /// (major, minor).
    pub fn extent(&self, hooks: &[&str], release: (u32, u32)) -> Extent {
        let in_place = |named: &[&str]| named.iter().any(|hook| hooks.contains(hook));
        if release >= self.judged_since && in_place(self.judged_by) {
            Extent::Judged
        } else if in_place(self.refused_by) {
            Extent::Unjudged
        } else {
            Extent::Open
        }
    }

    /// Whether this door can name `address` at all.
    pub fn reaches(&self, address: SocketAddr) -> bool {
        match self.families {
            Families::Both => true,
            Families::Ipv4 => address.is_ipv4(),
        }
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Door").field(&self.name).finish()
    }
}

/// How far a door is open to a peer that rules deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// Not at all: a hook judges each peer.
    Judged,
    /// Its socket cannot be made where rules allow its protocol to nobody; else it is open.
    Unjudged,
    /// Whatever the rules say.
    Open,
}

/// The side of a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It connects, or sends.
    Out,
    /// It accepts, or receives.
    In,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Out => "out",
            Self::In => "in",
        })
    }
}

/// The protocol that the socket was made for. On the wire MPTCP and SMC are TCP, and either end takes the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `IPPROTO_TCP`.
    Tcp,
    /// `IPPROTO_MPTCP` (Linux 5.6).
    Mptcp,
    /// `IPPROTO_UDP`.
    Udp,
    /// `IPPROTO_UDPLITE`.
    UdpLite,
    /// `IPPROTO_SCTP`.
    Sctp,
    /// `IPPROTO_DCCP` (until Linux 6.15).
    Dccp,
    /// `AF_SMC` or `IPPROTO_SMC`: on the wire TCP, and a TCP peer is as good.
    Smc,
    /// `IPPROTO_ICMP` and `IPPROTO_ICMPV6` on a datagram socket: echo requests.
    Icmp,
    /// A raw socket of the internet families.
    Raw,
    /// `AF_PACKET`: whole frames.
    Packet,
}

impl Protocol {
    /// Whether a door of this protocol can talk to one of the other.
    pub fn meets(self, other: Self) -> bool {
        let is_tcp = |protocol| matches!(protocol, Self::Tcp | Self::Mptcp | Self::Smc);
        self == other || is_tcp(self) && is_tcp(other)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Mptcp => "mptcp",
            Self::Udp => "udp",
            Self::UdpLite => "udp-lite",
            Self::Sctp => "sctp",
            Self::Dccp => "dccp",
            Self::Smc => "smc",
            Self::Icmp => "icmp",
            Self::Raw => "raw",
            Self::Packet => "packet",
        })
    }
}

/// The addresses a door can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 and IPv6.
    Both,
    /// IPv4 only: the door turns it into `::ffff:a.b.c.d`.
    Ipv4,
}

/// One attempt to go out.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Where to.
    pub target: SocketAddr,
    /// The first data. Fast-open doors give it to the kernel in the opening call, the others send it once connected; a
    /// datagram door sends it as one datagram, also when it is empty.
    pub first: &'a [u8],
    /// When to give up.
    pub deadline: Instant,
}

impl Attempt<'_> {
    /// An attempt without data that gives up after `timeout`.
    pub fn new(target: SocketAddr, timeout: Duration) -> Self {
        Self { target, first: &[], deadline: Instant::now() + timeout }
    }
}
