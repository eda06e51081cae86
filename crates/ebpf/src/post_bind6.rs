//! cgroup/post_bind6: keeps the table of who claimed which local endpoint, IPv6 and IPv4-mapped.

use core::ptr::read_volatile;

use aya_ebpf::{macros::cgroup_sock, programs::SockContext};
use verdict::Address;

use crate::{judge::ALLOW, listeners::claim};

/// Runs once the kernel has given the socket its local endpoint.
#[cgroup_sock(post_bind6)]
pub(crate) fn post_bind6(ctx: SockContext) -> i32 {
    // SAFETY: four fields of the context, each read as wide as it is; post_bind6 may read this address and no other.
    let word = |index: usize| unsafe {
        u32::from_be(read_volatile((&raw const (*ctx.sock).src_ip6).cast::<u32>().add(index)))
    };
    claim(&ctx, Address::v6([word(0), word(1), word(2), word(3)]));
    ALLOW
}
