//! Ways out by protocols that are neither TCP nor UDP: SCTP, DCCP, UDP-Lite, SMC, echo requests, and packets made by hand.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use kernel::raw::plain::send_frame;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::netdevice::name_to_index;
use rustix::net::sockopt::Timeout;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use super::dial;
use crate::door::{Attempt, Protocol};
use crate::error::{DoorError, Stage, at};
use crate::opened::{Carrier, Opened, SendCall};
use crate::socket;

/// The source port of SYNs that no socket of the kernel's TCP has sent.
pub const MADE_BY_HAND: u16 = 7777;

/// `AF_SMC` (include/linux/socket.h).
const AF_SMC: AddressFamily = AddressFamily::from_raw(43);

pub(crate) fn sctp_connect(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    connect(attempt, Protocol::Sctp)
}

/// A one-to-many socket: the association comes with the first message.
pub(crate) fn sctp_send(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    let family = if attempt.target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = SocketType::SEQPACKET;
    let made = socket_with(family, kind, SocketFlags::CLOEXEC, Some(ipproto::SCTP));
    let socket = made.map_err(|errno| match errno {
        Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT => {
            DoorError::unsupported("this kernel has no sctp")
        }
        errno => at(Stage::Socket)(errno),
    })?;
    socket::limit(socket.as_fd(), Timeout::Send, Some(attempt.deadline))?;
    unconnected(socket, attempt, attempt.first)
}

pub(crate) fn dccp_connect(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    connect(attempt, Protocol::Dccp)
}

/// Falls back to TCP where the peer knows no SMC.
pub(crate) fn smc_by_family(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    // SMCPROTO_SMC and SMCPROTO_SMC6 (net/smc/smc.h).
    let number = attempt.target.is_ipv6().then_some(SMC6);
    let socket =
        socket_with(AF_SMC, SocketType::STREAM, SocketFlags::CLOEXEC, number).map_err(|errno| {
            at(Stage::Socket)(errno).lacking(Errno::AFNOSUPPORT, "this kernel has no smc")
        })?;
    connected(socket, attempt)
}

/// The same by a protocol of the internet families (Linux 6.11).
pub(crate) fn smc_by_protocol(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    connected(socket::create(attempt.target, Protocol::Smc, SocketFlags::empty())?, attempt)
}

/// Connects and asks nothing more: poll() on a socket that has just fallen back to TCP may wait for ever (seen on 6.12).
/// So a call that was interrupted is made again, and goes on with the handshake that it began: a call with a time limit is
/// never restarted by the kernel (signal(7)), and a ring that this thread has closed interrupts it some time later.
fn connected(socket: OwnedFd, attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    socket::limit(socket.as_fd(), Timeout::Send, Some(attempt.deadline))?;
    retry_on_intr(|| rustix::net::connect(&socket, &attempt.target)).map_err(at(Stage::Connect))?;
    let local = socket::local(&socket).map_err(at(Stage::Handshake))?;
    Ok(Opened::new(socket, Carrier::Stream, local, attempt.target))
}

pub(crate) fn udp_lite(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    let socket = socket::create(attempt.target, Protocol::UdpLite, SocketFlags::empty())?;
    unconnected(socket, attempt, attempt.first)
}

/// An echo request: 8 bytes of header, which the kernel completes.
pub(crate) fn ping(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    let request = if attempt.target.is_ipv4() { 8 } else { 128 };
    let socket = socket::create(attempt.target, Protocol::Icmp, SocketFlags::empty())?;
    rustix::net::connect(&socket, &attempt.target).map_err(at(Stage::Connect))?;
    let mut opened = Opened::new(socket, Carrier::Connected, attempt.target, attempt.target);
    opened.send(&[request, 0, 0, 0, 0, 0, 0, 1])?;
    Ok(opened)
}

/// A SYN made by hand, sent with its address.
pub(crate) fn raw_send(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    let (socket, to) = raw(attempt)?;
    unconnected(socket, &Attempt { target: to, ..*attempt }, &syn(attempt.target))
}

/// A SYN made by hand on a connected raw socket.
pub(crate) fn raw_connect(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    let (socket, to) = raw(attempt)?;
    rustix::net::connect(&socket, &to).map_err(at(Stage::Connect))?;
    let mut opened = Opened::new(socket, Carrier::Connected, to, to);
    opened.send(&syn(attempt.target))?;
    Ok(opened)
}

/// A SYN made by hand with the headers below it, as a frame on the loopback device.
pub(crate) fn packet_send(attempt: &Attempt<'_>) -> Result<Opened, DoorError> {
    let IpAddr::V4(to) = attempt.target.ip() else {
        return Err(DoorError::unsupported("frames are made for IPv4"));
    };
    // No protocol: this socket receives nothing.
    let family = AddressFamily::PACKET;
    let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .map_err(at(Stage::Socket))?;
    let interface = name_to_index(&socket, "lo").map_err(at(Stage::Send))?;
    send_frame(socket.as_fd(), interface, &frame(to, &syn(attempt.target)))
        .map_err(at(Stage::Send))?;
    Ok(Opened::new(socket, Carrier::Connected, attempt.target, attempt.target))
}

/// `SMCPROTO_SMC6` (net/smc/smc.h).
const SMC6: rustix::net::Protocol =
    rustix::net::Protocol::from_raw(std::num::NonZeroU32::new(1).expect("1 is not zero"));

fn connect(attempt: &Attempt<'_>, protocol: Protocol) -> Result<Opened, DoorError> {
    dial(attempt, protocol, SocketFlags::empty(), |socket| {
        rustix::net::connect(socket, &attempt.target).map_err(at(Stage::Connect))?;
        Ok(0)
    })
}

fn unconnected(socket: OwnedFd, attempt: &Attempt<'_>, data: &[u8]) -> Result<Opened, DoorError> {
    let carrier = Carrier::Unconnected { to: attempt.target, by: SendCall::SendTo, pending: None };
    let mut opened = Opened::new(socket, carrier, attempt.target, attempt.target);
    opened.send(data)?;
    Ok(opened)
}

/// A raw socket, and the target as raw sockets name it: of IPv6 the port must be zero (raw(7), ipv6(7)).
fn raw(attempt: &Attempt<'_>) -> Result<(OwnedFd, SocketAddr), DoorError> {
    let socket = socket::create(attempt.target, Protocol::Raw, SocketFlags::empty())?;
    Ok((socket, SocketAddr::new(attempt.target.ip(), 0)))
}

/// A TCP header with the SYN flag from [`MADE_BY_HAND`] to the port of `target`, which must be loopback: its checksum
/// is over equal addresses at both ends.
fn syn(target: SocketAddr) -> Vec<u8> {
    let mut header = Vec::with_capacity(20);
    header.extend(MADE_BY_HAND.to_be_bytes());
    header.extend(target.port().to_be_bytes());
    // Sequence number, acknowledgement, length of the header in words, SYN, window, checksum, urgent pointer.
    header.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, 2, 0x20, 0, 0, 0, 0, 0]);
    let mut pseudo = match target.ip() {
        IpAddr::V4(ip) => [ip.octets(), ip.octets()].concat(),
        IpAddr::V6(ip) => [ip.octets(), ip.octets()].concat(),
    };
    pseudo.extend([0, 6, 0, 20]);
    pseudo.extend(&header);
    let sum = checksum(&pseudo);
    header[16..18].copy_from_slice(&sum.to_be_bytes());
    header
}

/// An Ethernet frame around an IPv4 packet from `to` to itself.
fn frame(to: Ipv4Addr, segment: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + segment.len()).expect("a header and no data");
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, 6, 0, 0]);
    packet.extend(to.octets());
    packet.extend(to.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![0; 12];
    frame.extend([8, 0]);
    frame.extend(packet);
    frame.extend(segment);
    frame
}

/// The checksum of the internet protocols (RFC 1071) over an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.as_chunks::<2>().0.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_by_hand_sums_to_zero_where_a_receiver_sums_it() {
        let frame = frame(Ipv4Addr::LOCALHOST, &syn("127.0.0.1:80".parse().unwrap()));
        assert_eq!(frame.len(), 14 + 20 + 20);
        assert_eq!(checksum(&frame[14..34]), 0);
        let mut pseudo = frame[26..34].to_vec();
        pseudo.extend([0, 6, 0, 20]);
        pseudo.extend(&frame[34..]);
        assert_eq!(checksum(&pseudo), 0);
    }
}
