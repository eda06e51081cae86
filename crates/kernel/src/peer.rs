//! Which groups the process at the other end of a Unix socket is in.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Groups that a process has at most (`NGROUPS_MAX`, include/uapi/linux/limits.h).
const GROUPS_MAX: usize = 65_536;

/// The supplementary groups of the process that connected, as they were then (unix(7), `SO_PEERGROUPS`, Linux 4.13).
///
/// # Errors
/// Where the descriptor is no connected Unix socket.
pub fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0u32; 64];
    loop {
        let room = groups.len() * size_of::<u32>();
        let mut length = libc::socklen_t::try_from(room).expect("64 Ki groups are 256 KiB");
        // SAFETY: the pointer and the length are those of `groups`, which the kernel fills with whole u32 values; both
        // live until the call returns.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let needed = usize::try_from(length).unwrap_or(0) / size_of::<u32>();
        if result == 0 {
            groups.truncate(needed);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // ERANGE comes with the length that is needed.
        if error.raw_os_error() != Some(libc::ERANGE) || needed > GROUPS_MAX {
            return Err(error);
        }
        groups.resize(needed.max(groups.len() + 1), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd, unix::net::UnixStream};

    use super::*;

    #[test]
    fn the_groups_of_the_peer_are_those_of_this_process() {
        let (near, _far) = UnixStream::pair().unwrap();
        let mut groups = peer_groups(near.as_fd()).unwrap();
        let mut own: Vec<u32> =
            rustix::process::getgroups().unwrap().into_iter().map(|gid| gid.as_raw()).collect();
        groups.sort_unstable();
        own.sort_unstable();
        assert_eq!(groups, own);
        let file = std::fs::File::open("/dev/null").unwrap();
        peer_groups(file.as_fd()).unwrap_err();
    }
}
