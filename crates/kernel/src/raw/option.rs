//! Two socket options that no safe library sets. Each takes one int, so no length can disagree with a buffer.

#![expect(unsafe_code, reason = "setsockopt(2)")]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets `TCP_FASTOPEN_CONNECT` (tcp(7), Linux 4.11): with a cookie at hand connect() returns at once and the SYN
/// leaves with the first write.
///
/// # Errors
/// `EOPNOTSUPP` where `net.ipv4.tcp_fastopen` has the client's bit off; `EINVAL` unless the socket is new.
pub fn set_fastopen_connect(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT)
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

fn set(socket: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<()> {
    let on: c_int = 1;
    #[expect(clippy::cast_possible_truncation, reason = "an int is four bytes")]
    let len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the value is a live int and `len` is its size; the kernel reads it and keeps no pointer.
    let answer =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), len) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
