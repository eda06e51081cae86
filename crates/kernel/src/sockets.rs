//! The sockets of a network namespace, and their end: sock_diag(7).
//!
//! One dump for each protocol and family, no system call for each socket. What a dump says of a socket is what it was at
//! that moment; the cookie is how it is found again, and nothing is ever ended by its addresses alone.

mod info;
mod wire;

use std::io;

use verdict::{Direction, Endpoint, Protocol};

use crate::netns::{Netns, enter};
pub(crate) use wire::SocketId;

/// Families asked for: AF_INET, AF_INET6.
const FAMILIES: [u8; 2] = [2, 10];

/// State of a socket (include/net/tcp_states.h). UDP and raw sockets are [`Established`](State::Established) where
/// they are connected and [`Closed`](State::Closed) where they are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// Connected.
    Established = 1,
    /// A connection is asked for.
    SynSent = 2,
    /// A connection was asked for, and the handshake is not complete.
    SynReceived = 3,
    /// We said that we are done, and wait for the peer's acknowledgement.
    FinWait1 = 4,
    /// It came, and we wait for the peer to be done.
    FinWait2 = 5,
    /// Ended, and kept for what may still be on the way.
    TimeWait = 6,
    /// Not connected. A TCP socket is listed so where it has a local port and does nothing with it (since 6.8).
    Closed = 7,
    /// The peer is done.
    CloseWait = 8,
    /// Both are done, and we wait for the peer's acknowledgement.
    LastAck = 9,
    /// Connections are accepted.
    Listen = 10,
    /// Both said at once that they are done.
    Closing = 11,
}

impl State {
    /// By the kernel's number; `None` for one that is not known here.
    fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            // 12 is TCP_NEW_SYN_RECV: the same, by a request that is not a whole socket yet.
            3 | 12 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Closed,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            _ => return None,
        })
    }

    /// Its bit in the mask that a dump asks with.
    const fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Every socket that the kernel lists: TCP in all states but TIME_WAIT, UDP, UDP-Lite, MPTCP, SCTP and raw ones.
    All,
    /// TCP sockets that a connection or a listener begins as: SYN_SENT, ESTABLISHED and LISTEN. The cheapest.
    Opening,
}

/// One socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// What goes over the wire: an MPTCP socket is TCP.
    pub protocol: Protocol,
    /// Whether it is an MPTCP socket, whose connections are the TCP sockets with its [`token`](Self::token).
    pub mptcp: bool,
    /// This host's end.
    pub local: Endpoint,
    /// The peer's end; all zero where there is none.
    pub remote: Endpoint,
    /// Where it stands.
    pub state: State,
    /// The kernel's cookie for it, unique on the machine.
    pub cookie: u64,
    /// Its user, in the initial user namespace.
    pub uid: u32,
    /// Inode of its descriptor; 0 where no process holds it (it waits to be accepted, or is the kernel's).
    pub inode: u32,
    /// The cgroup v2 that it was created in, whose programs judge it; 0 where the kernel does not say (before 5.8).
    pub cgroup: u64,
    /// Who asked for the connection: this end ([`Direction::Out`]) or the peer. Told from the counts of the connection
    /// itself where they allow it; see `docs/connections.md`. `None` for everything that is no connection.
    pub opened: Option<Direction>,
    /// Connections that wait to be accepted, of a listener; else bytes that wait to be read.
    pub waiting: u32,
    /// The local token of MPTCP (RFC 8684, 3.2), where it speaks that; 0 otherwise.
    pub token: u32,
    family: u8,
    id: SocketId,
}

/// Why the sockets cannot be seen or ended.
#[derive(Debug, thiserror::Error)]
#[error("{what} in network namespace {namespace}")]
pub struct SocketsError {
    /// What was tried.
    pub what: &'static str,
    /// Where.
    pub namespace: String,
    /// Why it did not work.
    #[source]
    pub source: io::Error,
}

/// The sockets of one network namespace.
#[derive(Debug)]
pub struct Sockets<'a> {
    namespace: &'a Netns,
}

/// Protocols of sock_diag that are asked for one by one: `IPPROTO_*`.
const TCP: u32 = 6;
const OTHERS: [u32; 5] = [17, 136, 262, 132, 255];

impl<'a> Sockets<'a> {
    /// Those of `namespace`.
    pub fn of(namespace: &'a Netns) -> Self {
        Self { namespace }
    }

    /// The sockets of both families. A protocol that the kernel cannot list (no `*_diag` module) has none.
    ///
    /// # Errors
    /// Where the namespace cannot be entered or the kernel has no inet_diag for TCP.
    pub fn list(&self, wanted: Wanted) -> Result<Vec<Socket>, SocketsError> {
        self.ask("list sockets", move || {
            let netlink = wire::open()?;
            let mut found = Vec::new();
            let all_states = !State::TimeWait.bit();
            let states = match wanted {
                Wanted::All => all_states,
                Wanted::Opening => {
                    State::Established.bit() | State::SynSent.bit() | State::Listen.bit()
                }
            };
            for family in FAMILIES {
                wire::dump(&netlink, family, TCP, states, wanted == Wanted::All, &mut found)?;
            }
            if wanted == Wanted::All {
                for protocol in OTHERS {
                    list_other(&netlink, protocol, all_states, &mut found)?;
                }
            }
            Ok(found)
        })
    }

    /// Ends one socket, see [`Self::destroy_all`].
    ///
    /// # Errors
    /// ENOENT where the socket is gone already.
    pub fn destroy(&self, socket: &Socket) -> Result<(), SocketsError> {
        let outcome = self.destroy_all(std::slice::from_ref(socket))?;
        outcome.into_iter().next().unwrap_or(Ok(())).map_err(|source| SocketsError {
            what: "destroy a socket",
            namespace: self.namespace.name().to_owned(),
            source,
        })
    }

    /// Ends connections and listeners, TCP or UDP, one outcome for each: their processes get ECONNABORTED (EINVAL from
    /// accept()), their peers a reset. ENOENT is the outcome where a socket is gone already. Needs CAP_NET_ADMIN and
    /// CONFIG_INET_DIAG_DESTROY.
    ///
    /// # Errors
    /// Where the namespace cannot be entered: then nothing was tried.
    pub fn destroy_all(&self, sockets: &[Socket]) -> Result<Vec<io::Result<()>>, SocketsError> {
        let wanted: Vec<_> =
            sockets.iter().map(|socket| (socket.family, socket.protocol.0, socket.id)).collect();
        self.ask("destroy sockets", move || {
            let netlink = wire::open()?;
            let destroy = |&(family, protocol, id): &(u8, u8, SocketId)| {
                wire::destroy(&netlink, family, protocol, id)
            };
            let mut outcomes: Vec<_> = wanted.iter().map(destroy).collect();
            // Listeners that share an endpoint (SO_REUSEPORT) are found by that endpoint, always the same one of them
            // first (`inet_diag_find_one_icsk` answers ENOENT for the others): they can be reached once it is gone.
            loop {
                let mut progress = false;
                for (outcome, wanted) in outcomes.iter_mut().zip(&wanted) {
                    let hidden = |error: &io::Error| error.raw_os_error() == Some(libc::ENOENT);
                    if wanted.2.has_no_peer() && outcome.as_ref().is_err_and(hidden) {
                        *outcome = destroy(wanted);
                        progress |= outcome.is_ok();
                    }
                }
                if !progress {
                    return Ok(outcomes);
                }
            }
        })
    }

    fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        inside: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, SocketsError> {
        self.namespace.file().and_then(|file| enter(file, inside)).map_err(|source| SocketsError {
            what,
            namespace: self.namespace.name().to_owned(),
            source,
        })
    }
}

/// Adds the sockets of a protocol that the kernel may not be able to list.
fn list_other(
    netlink: &std::os::fd::OwnedFd,
    protocol: u32,
    states: u32,
    found: &mut Vec<Socket>,
) -> io::Result<()> {
    let before = found.len();
    for family in FAMILIES {
        match wire::dump(netlink, family, protocol, states, true, found) {
            Err(error) if cannot_list(&error) => return Ok(()),
            other => other?,
        }
    }
    if protocol == wire::IPPROTO_MPTCP {
        // Kernels before 5.9 do not read the attribute that asks for MPTCP and list TCP once more.
        let (known, new) = found.split_at(before);
        let mut cookies: Vec<u64> = known.iter().map(|socket| socket.cookie).collect();
        cookies.sort_unstable();
        let new: Vec<Socket> = new
            .iter()
            .filter(|socket| cookies.binary_search(&socket.cookie).is_err())
            .copied()
            .collect();
        found.truncate(before);
        found.extend(new);
    }
    Ok(())
}

/// There is no such `*_diag` module, or no such family.
fn cannot_list(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EINVAL | libc::EAFNOSUPPORT)
    )
}

#[cfg(test)]
mod tests;
