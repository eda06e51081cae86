//! cgroup/connect4: the outbound verdict for IPv4 sockets: connect() by any system call or io_uring, fast open, MPTCP
//! with its extra subflows, connected UDP, and the kernel's own clients.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use verdict::abi::Hook;

use crate::{
    judge::ALLOW,
    sock_addr::{AF_INET, family, judge_out, named4},
};

/// Runs before the kernel connects, on its own copy of the address.
#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(ctx: SockAddrContext) -> i32 {
    if family(&ctx) != AF_INET {
        return ALLOW;
    }
    judge_out(&ctx, named4(&ctx), Hook::Connect)
}
