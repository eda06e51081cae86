//! cgroup/post_bind4: keeps the table of who claimed which local endpoint, IPv4.

use core::ptr::read_volatile;

use aya_ebpf::{macros::cgroup_sock, programs::SockContext};
use verdict::Address;

use crate::{judge::ALLOW, listeners::claim};

/// Runs once the kernel has given the socket its local endpoint.
#[cgroup_sock(post_bind4)]
pub(crate) fn post_bind4(ctx: SockContext) -> i32 {
    // SAFETY: a field of the context, read as wide as it is; post_bind4 may read this address and no other.
    let address = unsafe { read_volatile(&raw const (*ctx.sock).src_ip4) };
    claim(&ctx, Address::v4(u32::from_be(address)));
    ALLOW
}
