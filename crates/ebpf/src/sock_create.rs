//! cgroup/sock_create: stamps the owner on the socket before any process holds it, and refuses to make sockets of a
//! protocol that may reach nobody.

use core::ptr::read_volatile;

use aya_ebpf::{
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    macros::cgroup_sock,
    programs::SockContext,
};
use verdict::{
    Direction, Endpoint, Flow, Protocol, abi::Hook, image_flags, layout::FLAG_PROTOCOLS,
};

use crate::{
    identity::{owner_of, stamp_current, subject},
    judge::{ALLOW, Sight, claim_allowed, refuse},
    maps::Slot,
};

const SOCK_RAW: u32 = 3;

/// Runs when an AF_INET or AF_INET6 socket has been made by a process; the kernel's own sockets do not come here.
#[cgroup_sock(sock_create)]
pub(crate) fn sock_create(ctx: SockContext) -> i32 {
    stamp_current(ctx.sock);
    let Some(slot) = Slot::in_force() else { return ALLOW };
    if image_flags(&slot) & FLAG_PROTOCOLS == 0 {
        return ALLOW;
    }
    // SAFETY: two fields of the context, read as wide as they are.
    let (kind, number) = unsafe {
        (
            read_volatile(&raw const (*ctx.sock).type_),
            read_volatile(&raw const (*ctx.sock).protocol),
        )
    };
    let protocol = if kind == SOCK_RAW { Protocol::RAW } else { Protocol::canonical(number) };
    if matches!(protocol, Protocol::TCP | Protocol::UDP) {
        return ALLOW;
    }
    let owner = owner_of(core::ptr::null_mut());
    let flow = Flow {
        direction: Direction::Out,
        protocol,
        local: Endpoint::default(),
        remote: Endpoint::default(),
        subject: subject(&owner),
    };
    let context = ctx.sock.cast();
    // SAFETY: both helpers take the context of a cgroup_sock program.
    let (socket, netns) =
        unsafe { (bpf_get_socket_cookie(context), bpf_get_netns_cookie(context)) };
    if claim_allowed(&slot, &flow, &owner, &Sight { hook: Hook::Create, socket, netns }) {
        ALLOW
    } else {
        refuse(&slot, verdict::decide(&flow, &slot).enforced.rule)
    }
}
