//! cgroup/post_bind6: keeps the table of who claimed which local endpoint.

use aya_ebpf::{macros::cgroup_sock, programs::SockContext};

use crate::{judge::ALLOW, sock_release::claim};

/// Runs once the kernel has given the socket its local endpoint.
#[cgroup_sock(post_bind6)]
pub(crate) fn post_bind6(ctx: SockContext) -> i32 {
    claim(&ctx);
    ALLOW
}
