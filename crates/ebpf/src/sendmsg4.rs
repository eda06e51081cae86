//! cgroup/sendmsg4: the outbound verdict for each datagram that names its destination.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use verdict::abi::Hook;

use crate::sock_addr::{judge_out, named4};

/// Runs before the kernel routes the datagram, on its own copy of the address.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn sendmsg4(ctx: SockAddrContext) -> i32 {
    judge_out(&ctx, named4(&ctx), Hook::Send)
}
