//! cgroup/connect6: the outbound verdict for IPv6 sockets: connect() by any system call or io_uring, fast open, MPTCP
//! with its extra subflows, connected UDP, and the kernel's own clients.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use verdict::abi::Hook;

use crate::{
    judge::ALLOW,
    sock_addr::{AF_INET6, family, judge_out, named6},
};

/// Runs before the kernel connects, on its own copy of the address.
#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6(ctx: SockAddrContext) -> i32 {
    if family(&ctx) != AF_INET6 {
        return ALLOW;
    }
    judge_out(&ctx, named6(&ctx), Hook::Connect)
}
