//! Word of a network namespace's addresses as they come and go: rtnetlink(7).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, recv,
        socket_with,
    },
};

use crate::netns::{Netns, enter};

/// `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR` (include/uapi/linux/rtnetlink.h).
const ADDRESSES: u32 = 0x10 | 0x100;
/// What is said does not matter, only that something is: the kernel cuts messages to what fits.
const MESSAGE_BYTES: usize = 256;

/// Hears whenever an interface of one namespace gets or loses an address. It polls readable then.
#[derive(Debug)]
pub struct AddressWatch {
    netlink: OwnedFd,
}

impl AddressWatch {
    /// Hears everything in `namespace` from now on.
    ///
    /// # Errors
    /// Where it cannot be entered, or there are no descriptors left.
    pub fn of(namespace: &Netns) -> io::Result<Self> {
        let netlink = enter(namespace.file()?, || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            // No protocol is the first one: NETLINK_ROUTE.
            let netlink = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, None)?;
            bind(&netlink, &SocketAddrNetlink::new(0, ADDRESSES))?;
            Ok(netlink)
        })?;
        Ok(Self { netlink })
    }

    /// Whether an address came, went or changed since the last time this was asked: which one, a look at
    /// [`Netns::addresses`] tells.
    pub fn has_word(&self) -> bool {
        let mut heard = false;
        loop {
            match recv(&self.netlink, &mut [0; MESSAGE_BYTES], RecvFlags::empty()) {
                Ok(_) => heard = true,
                // There was more than the socket holds.
                Err(Errno::NOBUFS) => heard = true,
                Err(Errno::INTR) => {}
                Err(_nothing_more) => return heard,
            }
        }
    }
}

impl AsFd for AddressWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    /// Whether it polls readable within five seconds.
    fn polls(watch: &AddressWatch) -> bool {
        let mut source = PollFd::new(watch, PollFlags::IN);
        let limit = Timespec { tv_sec: 5, tv_nsec: 0 };
        poll(slice::from_mut(&mut source), Some(&limit)).expect("poll") == 1
    }

    #[test]
    fn an_address_is_heard_of_when_it_comes_and_in_no_other_namespace() {
        let (bed, other) = (testbed::Namespace::new(), testbed::Namespace::new());
        let watch = |bed: &testbed::Namespace| {
            AddressWatch::of(&Netns::open(bed.name()).expect("just made")).expect("it is entered")
        };
        let (here, there) = (watch(&bed), watch(&other));
        // A namespace may still be setting up its loopback.
        while here.has_word() {}
        there.has_word();
        bed.add_address("lo", "10.1.2.3/32");
        assert!(polls(&here) && here.has_word() && !here.has_word());
        bed.add_address("lo", "fd00::7/128");
        assert!(polls(&here) && here.has_word());
        assert!(!there.has_word());
    }
}
