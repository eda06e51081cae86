//! A socket address in memory that one thread hands to the kernel while another rewrites it: the attack on filters
//! that read the address a second time after the check (acceptance.md B13).
//! The memory is a row of atomic words, so the race is one between whole 32-bit stores and the kernel's copy. Two
//! addresses that differ in one word only (same family, same port, IPv4) never mix into a third.

#![expect(unsafe_code, reason = "connect(2) and sendto(2) on memory that changes meanwhile")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use super::address::{BYTES_MAX, KernelAddress};

const WORDS: usize = BYTES_MAX / 4;

/// The address under attack. Shared by reference between the connecting and the rewriting thread.
#[derive(Debug)]
pub struct RacingAddress {
    words: [AtomicU32; WORDS],
    len: libc::socklen_t,
}

impl RacingAddress {
    /// Memory that holds `address` at first.
    pub fn new(address: SocketAddr) -> Self {
        let address = KernelAddress::from(address);
        let racing = Self { words: Default::default(), len: address.len() };
        racing.store(&address);
        racing
    }

    /// Writes `address` over the old one, word by word, without any lock. Only as many bytes as the first address had
    /// are ever read by the kernel, so both must be of one family.
    pub fn store(&self, address: &KernelAddress) {
        for (word, bytes) in self.words.iter().zip(address.bytes().as_chunks::<4>().0) {
            word.store(u32::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
    }

    /// connect(2) on the memory as it is at the moment of the kernel's copy.
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn connect(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: the words live as long as `self` and hold at least `len` bytes; every write to them is atomic, and
        // the kernel copies them once and keeps no pointer.
        let answer =
            unsafe { libc::connect(socket.as_raw_fd(), self.words.as_ptr().cast(), self.len) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// sendto(2) of nothing with `MSG_FASTOPEN`: a connect by another name, on the same memory.
    ///
    /// # Errors
    /// Those of connect(2), and `EOPNOTSUPP` where fast open is off.
    pub fn open_fast(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: no data is passed (length 0); of the address the same holds as in `connect`.
        let answer = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                std::ptr::null(),
                0,
                libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL,
                self.words.as_ptr().cast(),
                self.len,
            )
        };
        if answer >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
