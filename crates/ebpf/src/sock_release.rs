//! cgroup/sock_release: takes a closed socket out of the table of listeners.

use aya_ebpf::{macros::cgroup_sock, programs::SockContext};

use crate::{judge::ALLOW, listeners::release};

/// Runs when a process closes its last descriptor of the socket.
#[cgroup_sock(sock_release)]
pub(crate) fn sock_release(ctx: SockContext) -> i32 {
    release(&ctx);
    ALLOW
}
