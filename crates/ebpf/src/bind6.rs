//! cgroup/bind6: an early error for claiming a port that no peer may reach. Advisory: listen() without bind() comes to
//! a port of the kernel's choice, and what arrives there is judged by `sk_lookup`.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::{
    judge::ALLOW,
    sock_addr::{AF_INET6, family, judge_claim, named6},
};

/// Runs before the kernel looks for a conflict.
#[cgroup_sock_addr(bind6)]
pub(crate) fn bind6(ctx: SockAddrContext) -> i32 {
    if family(&ctx) != AF_INET6 {
        return ALLOW;
    }
    judge_claim(&ctx, named6(&ctx))
}
