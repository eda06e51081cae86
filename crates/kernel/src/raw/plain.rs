//! Plain calls with what safe libraries do not put into them: addresses without a family, of another one or of any length,
//! the calls of the x32 ABI, and the addresses of packet sockets (packet(7)).

#![expect(unsafe_code, reason = "bind(2), sendto(2) and syscall(2)")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::address::KernelAddress;

/// `__X32_SYSCALL_BIT` (arch/x86/include/uapi/asm/unistd.h).
const X32: libc::c_long = 0x4000_0000;
/// `ETH_P_IP` in network order.
const ETH_P_IP: u16 = 0x0800_u16.to_be();

/// bind(2) to an address that need not be one.
///
/// # Errors
/// Those of bind(2).
pub fn bind(socket: BorrowedFd<'_>, address: &KernelAddress) -> io::Result<()> {
    // SAFETY: the pointer leads to `len` bytes that live through the call; the kernel copies them.
    let answer =
        unsafe { libc::bind(socket.as_raw_fd(), address.bytes().as_ptr().cast(), address.len()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// connect(2) to an address that need not be one.
///
/// # Errors
/// Those of connect(2).
pub fn connect(socket: BorrowedFd<'_>, address: &KernelAddress) -> io::Result<()> {
    // SAFETY: as in `bind`.
    let answer = unsafe {
        libc::connect(socket.as_raw_fd(), address.bytes().as_ptr().cast(), address.len())
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// sendto(2) to an address that need not be one, without a signal; how much was sent.
///
/// # Errors
/// Those of send(2).
pub fn send_to(socket: BorrowedFd<'_>, data: &[u8], address: &KernelAddress) -> io::Result<usize> {
    // SAFETY: both pointers lead to as many bytes as is said, and the kernel copies them.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            data.as_ptr().cast(),
            data.len(),
            libc::MSG_NOSIGNAL,
            address.bytes().as_ptr().cast(),
            address.len(),
        )
    };
    usize::try_from(sent).map_err(|_negative| io::Error::last_os_error())
}

/// connect(2) by the number that programs of the x32 ABI use.
///
/// # Errors
/// Those of connect(2); `ENOSYS` where the kernel has no x32, which is nearly everywhere.
pub fn connect_by_x32(socket: BorrowedFd<'_>, address: &KernelAddress) -> io::Result<()> {
    // SAFETY: as in `bind`; a call that the kernel does not have touches nothing.
    let answer = unsafe {
        libc::syscall(
            X32 | libc::SYS_connect,
            socket.as_raw_fd(),
            address.bytes().as_ptr(),
            address.len(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// sendto(2) of one whole frame, its header included, through the interface with the number `interface`.
///
/// # Errors
/// Those of packet(7).
pub fn send_frame(socket: BorrowedFd<'_>, interface: u32, frame: &[u8]) -> io::Result<()> {
    // SAFETY: a structure of numbers, for which zero is a value.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    #[expect(clippy::cast_possible_truncation, reason = "AF_PACKET is 17")]
    let family = libc::AF_PACKET as u16;
    to.sll_family = family;
    to.sll_protocol = ETH_P_IP;
    to.sll_ifindex = interface.cast_signed();
    to.sll_halen = 6;
    #[expect(clippy::cast_possible_truncation, reason = "the structure has 20 bytes")]
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: both pointers lead to as many bytes as is said, and the kernel copies them.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            libc::MSG_NOSIGNAL,
            (&raw const to).cast(),
            len,
        )
    };
    if sent >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
