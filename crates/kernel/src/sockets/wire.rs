//! What goes over the netlink socket: requests and replies of inet_diag (include/uapi/linux/inet_diag.h).

use std::{io, os::fd::OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind,
    netlink::{SOCK_DIAG, SocketAddrNetlink},
    recv, send, socket_with,
};
use verdict::{Address, Direction, Endpoint, Protocol};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Socket, State, info};

/// Message types and flags (include/uapi/linux/sock_diag.h, netlink.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
/// A protocol that does not fit into the eight bits of a request, so that an attribute carries it.
pub(super) const IPPROTO_MPTCP: u32 = 262;
const INET_DIAG_REQ_PROTOCOL: u16 = 3;
/// Attributes of a reply.
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_ULP_INFO: u16 = 19;
const INET_DIAG_CGROUP_ID: u16 = 21;
/// Inside of `INET_DIAG_ULP_INFO`: `INET_ULP_INFO_MPTCP`, and in there `MPTCP_SUBFLOW_ATTR_TOKEN_LOC` (mptcp.h).
const INET_ULP_INFO_MPTCP: u16 = 3;
const MPTCP_SUBFLOW_ATTR_TOKEN_LOC: u16 = 2;
/// `mptcpi_token` in `struct mptcp_info`.
const MPTCP_INFO_TOKEN: usize = 12;
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Largest reply taken at once; the kernel splits dumps into parts of at most 32 KiB.
const REPLY_BYTES: usize = 64 * 1024;

/// A socket to ask by, in the namespace of the calling thread.
pub(super) fn open() -> io::Result<OwnedFd> {
    let netlink = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(SOCK_DIAG),
    )?;
    bind(&netlink, &SocketAddrNetlink::new(0, 0))?;
    Ok(netlink)
}

/// Adds every socket of `family` and `protocol` in one of `states` to `found`; `counts` asks for the counts of
/// connections too, by which is known who opened them.
pub(super) fn dump(
    netlink: &OwnedFd,
    family: u8,
    protocol: u32,
    states: u32,
    counts: bool,
    found: &mut Vec<Socket>,
) -> io::Result<()> {
    let mut request = Request::new(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family, SocketId::default());
    request.protocol = u8::try_from(protocol).unwrap_or(Protocol::TCP.0);
    request.states = states;
    request.extensions = if counts { 1 << (INET_DIAG_INFO - 1) } else { 0 };
    let mut bytes = request.as_bytes().to_vec();
    if protocol == IPPROTO_MPTCP {
        bytes.extend(8u16.to_ne_bytes());
        bytes.extend(INET_DIAG_REQ_PROTOCOL.to_ne_bytes());
        bytes.extend(protocol.to_ne_bytes());
    }
    let length = u32::try_from(bytes.len()).expect("80 bytes at most");
    bytes.splice(..4, length.to_ne_bytes());
    send(netlink, &bytes, SendFlags::empty())?;
    receive(netlink, |body| {
        if let Ok((message, attributes)) = Message::read_from_prefix(body) {
            found.extend(socket(&message, attributes, protocol));
        }
    })
}

/// Ends one socket.
pub(super) fn destroy(netlink: &OwnedFd, family: u8, protocol: u8, id: SocketId) -> io::Result<()> {
    let mut request = Request::new(SOCK_DESTROY, NLM_F_ACK, family, id);
    request.protocol = protocol;
    request.states = u32::MAX;
    send(netlink, request.as_bytes(), SendFlags::empty())?;
    receive(netlink, |_| ())
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
                NLMSG_DONE => {
                    // A dump that could not begin ends at once, with a reason.
                    return result(body);
                }
                NLMSG_ERROR => return result(body),
                _ => each(body),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// The result that a message begins with: 0, or an errno below zero.
fn result(body: &[u8]) -> io::Result<()> {
    match i32::read_from_prefix(body) {
        Ok((0, _)) => Ok(()),
        Ok((code, _)) if code < 0 => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The attributes (type and value) that `bytes` hold, up to the first that is cut off.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (&[a, b, c, d], _) = bytes.split_first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let kind = u16::from_ne_bytes([c, d]) & NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of one attribute of a nest.
fn nested(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|&(found, _)| found == kind).map(|(_, value)| value)
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
pub(crate) struct SocketId {
    local_port: [u8; 2],
    remote_port: [u8; 2],
    local: [u8; 16],
    remote: [u8; 16],
    interface: u32,
    cookie: [u32; 2],
}

impl SocketId {
    /// Whether it is found by its own end alone.
    pub(super) fn has_no_peer(&self) -> bool {
        self.remote_port == [0; 2]
    }
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
    fn new(kind: u16, flags: u16, family: u8, id: SocketId) -> Self {
        let length = u32::try_from(size_of::<Self>()).expect("72 bytes");
        Self {
            header: Header { length, kind, flags: flags | NLM_F_REQUEST, sequence: 1, port: 0 },
            family,
            protocol: 0,
            extensions: 0,
            padding: 0,
            states: 0,
            id,
        }
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

/// The socket of a reply; `None` where its state is none that we know.
fn socket(message: &Message, bytes: &[u8], protocol: u32) -> Option<Socket> {
    let state = State::of(message.state)?;
    let mptcp = protocol == IPPROTO_MPTCP;
    let (mut cgroup, mut token, mut opened) = (0, 0, None);
    for (kind, value) in attributes(bytes) {
        match kind {
            INET_DIAG_CGROUP_ID => {
                cgroup = value.try_into().map_or(0, u64::from_ne_bytes);
            }
            INET_DIAG_INFO if mptcp => {
                let bytes = value.get(MPTCP_INFO_TOKEN..MPTCP_INFO_TOKEN + 4).unwrap_or_default();
                token = bytes.try_into().map_or(0, u32::from_ne_bytes);
            }
            INET_DIAG_INFO if protocol == u32::from(Protocol::TCP.0) => {
                opened = info::opened(state, message.send_queue, value);
            }
            INET_DIAG_ULP_INFO => {
                let local = nested(value, INET_ULP_INFO_MPTCP)
                    .and_then(|subflow| nested(subflow, MPTCP_SUBFLOW_ATTR_TOKEN_LOC));
                token =
                    local.and_then(|value| value.try_into().ok()).map_or(token, u32::from_ne_bytes);
            }
            _ => {}
        }
    }
    // A request that is not a whole socket yet comes without counts.
    if state == State::SynReceived && !mptcp {
        opened = opened.or(Some(Direction::In));
    }
    let id = message.id;
    let [low, high] = id.cookie;
    Some(Socket {
        protocol: Protocol::canonical(protocol),
        mptcp,
        local: end(message.family, id.local, id.local_port),
        remote: end(message.family, id.remote, id.remote_port),
        state,
        cookie: u64::from(high) << 32 | u64::from(low),
        uid: message.uid,
        inode: message.inode,
        cgroup,
        opened,
        waiting: message.receive_queue,
        token,
        family: message.family,
        id,
    })
}

fn end(family: u8, address: [u8; 16], port: [u8; 2]) -> Endpoint {
    let [a, b, c, d, ..] = address;
    let address = match family {
        2 => Address::v4(u32::from_be_bytes([a, b, c, d])),
        _ => Address::from_bytes(address),
    };
    Endpoint { address, port: u16::from_be_bytes(port) }
}
