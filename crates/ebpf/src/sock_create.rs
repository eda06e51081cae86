//! cgroup/sock_create: stamps the owner on the socket before any process holds it, where a rule asks for processes, and
//! refuses to make sockets of a protocol that may reach nobody.

use core::ptr::read_volatile;

use aya_ebpf::{
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    macros::cgroup_sock,
    programs::SockContext,
};
use verdict::{
    Direction, Endpoint, Flow, Protocol,
    abi::{Hook, Stamp},
    layout::{FLAG_PROTOCOLS, FLAG_SUBJECTS},
};

use crate::{
    identity::stamp_current,
    judge::{ALLOW, Witness, claim, refuse, refused_by},
    maps::Slot,
};

const SOCK_RAW: u32 = 3;

/// Runs when an AF_INET or AF_INET6 socket has been made by a process; the kernel's own sockets do not come here.
#[cgroup_sock(sock_create)]
pub(crate) fn sock_create(ctx: SockContext) -> i32 {
    let Some(slot) = Slot::in_force() else { return ALLOW };
    if slot.flags & FLAG_SUBJECTS != 0 {
        stamp_current(ctx.sock, cookie(&ctx));
    }
    if slot.flags & FLAG_PROTOCOLS == 0 {
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
    let maker = Maker { ctx: &ctx };
    let mut flow = claim(Direction::Out, protocol, Endpoint::default());
    maker.identify(&slot, &mut flow);
    match refused_by(&slot, &flow, &maker) {
        Some(rule) => refuse(&slot, rule),
        None => ALLOW,
    }
}

/// What this hook can tell.
struct Maker<'a> {
    ctx: &'a SockContext,
}

impl Witness for Maker<'_> {
    #[inline(always)]
    fn hook(&self) -> Hook {
        Hook::Create
    }

    #[inline(always)]
    fn stamp<'a>(&'a self, _flow: &Flow) -> Option<&'a Stamp> {
        None
    }

    /// The socket is the running task's that makes it.
    const BY_TASK: bool = true;

    #[inline(always)]
    fn socket(&self) -> u64 {
        cookie(self.ctx)
    }

    #[inline(always)]
    fn netns(&self) -> u64 {
        // SAFETY: the helper takes the context of a cgroup_sock program.
        unsafe { bpf_get_netns_cookie(self.ctx.sock.cast()) }
    }
}

#[inline(always)]
fn cookie(ctx: &SockContext) -> u64 {
    // SAFETY: the helper takes the context of a cgroup_sock program.
    unsafe { bpf_get_socket_cookie(ctx.sock.cast()) }
}
