//! The TCP sockets of a network namespace, and their end: sock_diag(7).

use std::{io, os::fd::OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind,
    netlink::{SOCK_DIAG, SocketAddrNetlink},
    recv, send, socket_with,
};
use verdict::{Address, Endpoint};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::netns::{Netns, enter};

/// Message types and flags (include/uapi/linux/sock_diag.h, netlink.h, inet_diag.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const IPPROTO_TCP: u8 = 6;
const FAMILIES: [u8; 2] = [2, 10];

/// Largest reply taken at once; the kernel splits dumps into parts of at most 32 KiB.
const REPLY_BYTES: usize = 64 * 1024;

/// State of a TCP socket (include/net/tcp_states.h), as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// A connection is asked for.
    SynSent,
    /// Connections are accepted.
    Listen,
    /// Any other.
    Other(u8),
}

/// One TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// This host's end.
    pub local: Endpoint,
    /// The peer's end.
    pub remote: Endpoint,
    /// Where it stands.
    pub state: State,
    /// The kernel's cookie for it, unique on the machine.
    pub cookie: u64,
    /// Its user.
    pub uid: u32,
    /// Inode of its descriptor; 0 where no process holds it.
    pub inode: u32,
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

/// The TCP sockets of one network namespace.
#[derive(Debug)]
pub struct Sockets<'a> {
    namespace: &'a Netns,
}

impl<'a> Sockets<'a> {
    /// Those of `namespace`.
    pub fn of(namespace: &'a Netns) -> Self {
        Self { namespace }
    }

    /// The sockets of both families in any of `states` as a bit mask of kernel state numbers; [`Sockets::OPENING`] are
    /// those that a new connection or listener can be in.
    ///
    /// # Errors
    /// Where the namespace cannot be entered or the kernel has no inet_diag.
    pub fn list(&self, states: u32) -> Result<Vec<TcpSocket>, SocketsError> {
        self.ask("list TCP sockets", move || {
            let netlink = open()?;
            let mut found = Vec::new();
            for family in FAMILIES {
                let request = Request::new(
                    SOCK_DIAG_BY_FAMILY,
                    NLM_F_DUMP,
                    family,
                    states,
                    SocketId::default(),
                );
                request.send(&netlink)?;
                receive(&netlink, |body| {
                    if let Ok((message, _)) = Message::read_from_prefix(body) {
                        found.push(message.into());
                    }
                })?;
            }
            Ok(found)
        })
    }

    /// States in which a socket asks for a connection, has just got it, or accepts them (SYN_SENT, ESTABLISHED, LISTEN).
    pub const OPENING: u32 = 1 << 1 | 1 << 2 | 1 << 10;

    /// Ends a connection or a listener: its process gets ECONNABORTED (EINVAL from accept()), its peer a reset. Needs
    /// CAP_NET_ADMIN and CONFIG_INET_DIAG_DESTROY.
    ///
    /// # Errors
    /// ENOENT where the socket is gone already.
    pub fn destroy(&self, socket: &TcpSocket) -> Result<(), SocketsError> {
        let (family, id) = (socket.family, socket.id);
        self.ask("destroy a TCP socket", move || {
            let netlink = open()?;
            Request::new(SOCK_DESTROY, NLM_F_ACK, family, u32::MAX, id).send(&netlink)?;
            receive(&netlink, |_| ())
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

fn open() -> io::Result<OwnedFd> {
    let netlink = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(SOCK_DIAG),
    )?;
    bind(&netlink, &SocketAddrNetlink::new(0, 0))?;
    Ok(netlink)
}

/// Reads replies until the kernel says that there are no more.
fn receive(netlink: &OwnedFd, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0u8; REPLY_BYTES];
    loop {
        let (count, _) = recv(netlink, buffer.as_mut_slice(), RecvFlags::empty())?;
        let mut rest = buffer.get(..count).unwrap_or_default();
        while let Ok((header, _)) = Header::read_from_prefix(rest) {
            let length = header.length as usize;
            let body = rest.get(size_of::<Header>()..length).ok_or(io::ErrorKind::InvalidData)?;
            match header.kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = i32::read_from_prefix(body).map_or(-libc::EPROTO, |(code, _)| code);
                    return if code == 0 {
                        Ok(())
                    } else {
                        Err(io::Error::from_raw_os_error(-code))
                    };
                }
                _ => each(body),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// `struct nlmsghdr`
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}

/// `struct inet_diag_sockid`; ports and addresses in network order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SocketId {
    local_port: [u8; 2],
    remote_port: [u8; 2],
    local: [u8; 16],
    remote: [u8; 16],
    interface: u32,
    cookie: [u32; 2],
}

/// A header with `struct inet_diag_req_v2`.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
struct Request {
    header: Header,
    family: u8,
    protocol: u8,
    extensions: u8,
    padding: u8,
    states: u32,
    id: SocketId,
}

impl Request {
    fn new(kind: u16, flags: u16, family: u8, states: u32, id: SocketId) -> Self {
        let length = u32::try_from(size_of::<Self>()).expect("72 bytes");
        Self {
            header: Header { length, kind, flags: flags | NLM_F_REQUEST, sequence: 1, port: 0 },
            family,
            protocol: IPPROTO_TCP,
            extensions: 0,
            padding: 0,
            states,
            id,
        }
    }

    fn send(&self, netlink: &OwnedFd) -> io::Result<()> {
        send(netlink, self.as_bytes(), SendFlags::empty())?;
        Ok(())
    }
}

/// `struct inet_diag_msg`
#[derive(Clone, Copy, FromBytes, Immutable)]
#[repr(C)]
struct Message {
    family: u8,
    state: u8,
    timer: u8,
    retransmits: u8,
    id: SocketId,
    expires: u32,
    receive_queue: u32,
    send_queue: u32,
    uid: u32,
    inode: u32,
}

impl From<Message> for TcpSocket {
    fn from(message: Message) -> Self {
        let Message {
            family,
            state,
            timer: _,
            retransmits: _,
            id,
            expires: _,
            receive_queue: _,
            send_queue: _,
            uid,
            inode,
        } = message;
        let end = |address: [u8; 16], port: [u8; 2]| {
            let [a, b, c, d, ..] = address;
            let address = match family {
                2 => Address::v4(u32::from_be_bytes([a, b, c, d])),
                _ => Address::from_bytes(address),
            };
            Endpoint { address, port: u16::from_be_bytes(port) }
        };
        let [low, high] = id.cookie;
        Self {
            local: end(id.local, id.local_port),
            remote: end(id.remote, id.remote_port),
            state: match state {
                2 => State::SynSent,
                10 => State::Listen,
                other => State::Other(other),
            },
            cookie: u64::from(high) << 32 | u64::from(low),
            uid,
            inode,
            family,
            id,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_listed_and_can_be_ended() {
        let bed = testbed::Namespace::new();
        let namespace = Netns::open(bed.name()).expect("just made");
        let listener = bed.inside(|| TcpListener::bind("127.0.0.1:0").expect("bind on loopback"));
        let port = listener.local_addr().expect("bound").port();
        let of = || {
            let all = Sockets::of(&namespace).list(Sockets::OPENING).expect("inet_diag");
            all.into_iter().find(|socket| socket.local.port == port)
        };
        let found = of().expect("the listener");
        assert_eq!((found.state, found.local.address), (State::Listen, Address::LOOPBACK_V4));
        Sockets::of(&namespace).destroy(&found).expect("CONFIG_INET_DIAG_DESTROY");
        assert_eq!(of(), None);
        let error = Sockets::of(&namespace).destroy(&found).expect_err("gone");
        assert_eq!(error.source.raw_os_error(), Some(libc::ENOENT));
    }
}
