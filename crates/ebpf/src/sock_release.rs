//! cgroup/sock_release: takes a closed socket out of the table of listeners, and the table itself.

use core::ptr::read_volatile;

use aya_ebpf::{
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    macros::cgroup_sock,
    programs::SockContext,
};
use verdict::{
    Protocol,
    abi::{Listener, ListenerKey},
};

use crate::{identity::owner_of, judge::ALLOW, maps::LISTENERS, sock_addr::local};

/// Runs when a process closes its last descriptor of the socket.
#[cgroup_sock(sock_release)]
pub(crate) fn sock_release(ctx: SockContext) -> i32 {
    let key = key(&ctx);
    if key.port != 0 {
        // SAFETY: the value is copied at once; a concurrent change can at worst leave an entry that the next claim of
        // the endpoint overwrites.
        let held = unsafe { LISTENERS.get(key) }.is_some_and(|listener| listener.socket == cookie(&ctx));
        if held {
            // An entry that is gone already is as good.
            let _ = LISTENERS.remove(key);
        }
    }
    ALLOW
}

/// Enters the socket of a post_bind context. When the table is full the listener stays unknown, which is a verdict's
/// business only where a rule asks for the process.
#[inline(always)]
pub(crate) fn claim(ctx: &SockContext) {
    let listener = Listener { socket: cookie(ctx), owner: owner_of(ctx.sock) };
    let _ = LISTENERS.insert(key(ctx), listener, 0);
}

#[inline(always)]
fn cookie(ctx: &SockContext) -> u64 {
    // SAFETY: the helper takes the context of a cgroup_sock program.
    unsafe { bpf_get_socket_cookie(ctx.sock.cast()) }
}

#[inline(always)]
fn key(ctx: &SockContext) -> ListenerKey {
    let end = local(ctx.sock);
    // SAFETY: a field of the context, read as wide as it is; the helper takes the context of a cgroup_sock program.
    let (protocol, netns) =
        unsafe { (read_volatile(&raw const (*ctx.sock).protocol), bpf_get_netns_cookie(ctx.sock.cast())) };
    let address = if end.address.is_unspecified() { verdict::Address::UNSPECIFIED_V6 } else { end.address };
    ListenerKey {
        netns,
        address_hi: address.hi,
        address_lo: address.lo,
        port: end.port,
        protocol: Protocol::canonical(protocol).0,
        padding: [0; 5],
    }
}
