//! cgroup/bind4: an early error for claiming a port that no peer may reach. Advisory: listen() without bind() comes to
//! a port of the kernel's choice, and what arrives there is judged by `sk_lookup`.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::{
    judge::ALLOW,
    sock_addr::{family, is_claim4, judge_claim, named4},
};

/// Runs before the kernel looks for a conflict.
#[cgroup_sock_addr(bind4)]
pub(crate) fn bind4(ctx: SockAddrContext) -> i32 {
    let named = named4(&ctx);
    if !is_claim4(family(&ctx), named) {
        return ALLOW;
    }
    judge_claim(&ctx, named)
}
