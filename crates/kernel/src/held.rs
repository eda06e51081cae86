//! A socket by a descriptor that some process holds of it: borrowed by pidfd_getfd(2), which gives a descriptor of the same
//! socket, and used for what no address reaches.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::fstat,
    net::{
        Shutdown, shutdown,
        sockopt::{socket_acceptconn, socket_cookie},
    },
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

/// Where a socket is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The process.
    pub pid: u32,
    /// The descriptor in there.
    pub descriptor: u32,
    /// The inode of the socket, by which it is known again.
    pub inode: u32,
}

impl Held {
    /// A descriptor of our own of the socket. Needs CAP_SYS_PTRACE.
    ///
    /// # Errors
    /// Where the process has ended, the descriptor is that of something else by now, or the kernel refuses.
    pub(crate) fn borrow(&self) -> io::Result<OwnedFd> {
        let pid = Pid::from_raw(self.pid.cast_signed()).ok_or(io::ErrorKind::InvalidInput)?;
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        let descriptor = self.descriptor.cast_signed();
        let socket = pidfd_getfd(process, descriptor, PidfdGetfdFlags::empty())?;
        if fstat(&socket)?.st_ino == u64::from(self.inode) {
            Ok(socket)
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    /// The socket's cookie: of an MPTCP socket its own, which is none of its connections'.
    ///
    /// # Errors
    /// As for [`Self::end_listener`].
    pub fn cookie(&self) -> io::Result<u64> {
        Ok(socket_cookie(self.borrow()?)?)
    }

    /// Ends a listener as its own process would: shutdown(2), by which accept() ends with EINVAL from then on, and what
    /// waits to be accepted is reset. For MPTCP, of which sock_diag(7) ends no listener (`tcp_abort_override` in
    /// net/mptcp/subflow.c, and net/mptcp/mptcp_diag.c has no way to end anything).
    ///
    /// # Errors
    /// Where the process has ended, the descriptor is that of something else by now, or the kernel refuses; NotFound also
    /// where it does not listen any more.
    pub fn end_listener(&self) -> io::Result<()> {
        let socket = self.borrow()?;
        if !socket_acceptconn(socket.as_fd())? {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(shutdown(socket, Shutdown::Both)?)
    }
}
