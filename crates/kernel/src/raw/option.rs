//! Socket options that no safe library sets or tells. A length is that of the value or of the slice it stands beside, so that
//! none can disagree with a buffer.

#![expect(unsafe_code, reason = "setsockopt(2) and getsockopt(2)")]

use std::ffi::c_int;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `BPF_MAXINSNS` (include/uapi/linux/bpf_common.h).
const FILTER_MAX: usize = 4096;

/// Sets `TCP_FASTOPEN_CONNECT` (tcp(7), Linux 4.11): with a cookie at hand connect() returns at once and the SYN
/// leaves with the first write.
///
/// # Errors
/// `EOPNOTSUPP` where `net.ipv4.tcp_fastopen` has the client's bit off; `EINVAL` unless the socket is new.
pub fn set_fastopen_connect(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT)
}

/// Sets `TCP_FASTOPEN_KEY` (Linux 5.3): the keys that the cookies of this listener are made and checked with, in place of its
/// network's; 16 bytes, or 32 for one more that cookies may still be of.
///
/// # Errors
/// `EINVAL` for any other length.
pub fn set_fastopen_keys(socket: BorrowedFd<'_>, keys: &[u8]) -> io::Result<()> {
    set_bytes(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_KEY, keys)
}

/// Sets `IP_RECVERR` (ip(7)) on an IPv4 socket: an unconnected datagram socket then reports ICMP errors too.
///
/// # Errors
/// `ENOPROTOOPT` on a socket that is not of the internet families.
pub fn set_receive_errors_v4(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_RECVERR)
}

/// Sets `IPV6_RECVERR` (ipv6(7)), the same for an IPv6 socket.
///
/// # Errors
/// `ENOPROTOOPT` on an IPv4 socket.
pub fn set_receive_errors_v6(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
}

/// Sets `IP_TRANSPARENT` (ip(7)): the socket may be bound to an address that is not this host's.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN or CAP_NET_RAW.
pub fn set_transparent(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_IP, libc::IP_TRANSPARENT)
}

/// `SOL_MPTCP` (include/linux/socket.h).
const SOL_MPTCP: c_int = 284;

/// What MPTCP tells of a connection (include/uapi/linux/mptcp.h, Linux 5.16).
#[derive(Clone, Copy, Debug)]
pub enum Multipath {
    /// `MPTCP_INFO`: `struct mptcp_info`.
    Info = 1,
    /// `MPTCP_TCPINFO`: `struct mptcp_subflow_data`, and behind it a `struct tcp_info` for each subflow.
    States = 2,
    /// `MPTCP_SUBFLOW_ADDRS`: the same with a `struct mptcp_subflow_addrs` for each.
    Addresses = 3,
}

/// Reads `what` into `value`, which begins with what that option wants there, and returns how many bytes of it were told.
///
/// # Errors
/// `EOPNOTSUPP` where the socket is not one of MPTCP or the kernel is older; `EINVAL` where `value` does not begin so.
pub fn multipath(socket: BorrowedFd<'_>, what: Multipath, value: &mut [u8]) -> io::Result<usize> {
    let mut len = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: `len` is how many bytes of the live slice the kernel may write at most, and it writes how many it has told; in
    // none of these options is there a pointer.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            SOL_MPTCP,
            what as c_int,
            value.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if answer == 0 { Ok(len as usize) } else { Err(io::Error::last_os_error()) }
}

/// Fills the memory for options of a TCP socket of IPv4 (`net.core.optmem_max`), as any program may, so that nothing can be
/// stored on its socket: most of it with the largest filter that fits (`SO_ATTACH_FILTER`, socket(7)), the rest with keys
/// for peers that it will never have, if this kernel has them (`TCP_MD5SIG`, tcp(7)).
///
/// # Errors
/// Those of setsockopt(2) other than `ENOMEM`.
pub fn fill_option_memory(socket: BorrowedFd<'_>) -> io::Result<()> {
    attach_filter(socket)?;
    for peer in 0..KEYS_MAX {
        match add_key(socket, Ipv4Addr::from_bits(UNUSED_PEERS.to_bits() | peer)) {
            Ok(()) => {}
            Err(error) if KEYS_END.contains(&error.raw_os_error()) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What ends the keys: no memory left, or a kernel without them.
const KEYS_END: [Option<c_int>; 2] = [Some(libc::ENOMEM), Some(libc::ENOPROTOOPT)];
/// More than there is memory for: a key takes a hundred bytes and more, and the default memory is 128 KiB.
const KEYS_MAX: u32 = 4096;
/// A network that no row goes to (RFC 2544).
const UNUSED_PEERS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// `struct tcp_md5sig` (include/uapi/linux/tcp.h), with the address of an IPv4 peer.
#[repr(C)]
struct Key {
    peer: libc::sockaddr_in,
    /// `struct sockaddr_storage` has 128 bytes.
    rest_of_address: [u8; 112],
    flags: u8,
    prefix: u8,
    length: u16,
    interface: c_int,
    key: [u8; 80],
}

/// Adds a key for one peer.
fn add_key(socket: BorrowedFd<'_>, peer: Ipv4Addr) -> io::Result<()> {
    #[expect(clippy::cast_possible_truncation, reason = "a small constant")]
    let family = libc::AF_INET as libc::sa_family_t;
    let key = Key {
        peer: libc::sockaddr_in {
            sin_family: family,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: peer.to_bits().to_be() },
            sin_zero: [0; 8],
        },
        rest_of_address: [0; 112],
        flags: 0,
        prefix: 0,
        length: 1,
        interface: 0,
        key: [1; 80],
    };
    #[expect(clippy::cast_possible_truncation, reason = "the structure has 216 bytes")]
    let len = size_of::<Key>() as libc::socklen_t;
    // SAFETY: the value is a live structure of `len` bytes without padding; the kernel copies it.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_MD5SIG,
            (&raw const key).cast(),
            len,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Attaches a filter that passes everything.
fn attach_filter(socket: BorrowedFd<'_>) -> io::Result<()> {
    // `BPF_RET | BPF_K` with all of the packet, over and over (include/uapi/linux/bpf_common.h).
    let pass = libc::sock_filter { code: 6, jt: 0, jf: 0, k: u32::MAX };
    let mut filter = vec![pass; FILTER_MAX];
    let mut size = FILTER_MAX;
    // A filter replaces the one before, whose memory is freed after: halves find the largest that fits.
    while size > 0 {
        let program = libc::sock_fprog {
            len: u16::try_from(size).expect("at most FILTER_MAX"),
            filter: filter.as_mut_ptr(),
        };
        #[expect(clippy::cast_possible_truncation, reason = "the structure has 16 bytes")]
        let len = size_of::<libc::sock_fprog>() as libc::socklen_t;
        // SAFETY: the value is a live structure of `len` bytes, and its pointer leads to `size` instructions at least;
        // the kernel copies both.
        let answer = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                len,
            )
        };
        if answer == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ENOMEM) {
            return Err(error);
        }
        size /= 2;
    }
    Ok(())
}

fn set(socket: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<()> {
    let on: c_int = 1;
    set_bytes(socket, level, name, &on.to_ne_bytes())
}

/// For options whose value has no pointer.
fn set_bytes(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &[u8]) -> io::Result<()> {
    let len = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the value is `len` live bytes; the kernel reads them and keeps no pointer.
    let answer =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
