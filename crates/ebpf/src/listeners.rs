//! The table of who claimed which local endpoint: entered by the post_bind hooks, left by sock_release.
//!
//! sock_release may not read the socket's endpoint (`__sock_filter_check_attach_type` in net/core/filter.c), so each
//! claim leaves its key on the socket.

use core::ptr::{null_mut, read_volatile};

use aya_ebpf::{
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_sk_storage_get},
    programs::SockContext,
};
use verdict::{
    Address, Flow, Protocol,
    abi::{Listener, ListenerKey, Owner},
};

use crate::{
    identity::owner_of_new,
    maps::{CLAIMS, LISTENERS},
};

/// Enters the socket of a post_bind context at `address`. When the table is full the listener stays unknown, which is a
/// verdict's business only where a rule asks for the process.
#[inline(always)]
pub(crate) fn claim(ctx: &SockContext, address: Address) {
    let address = if address.is_unspecified() { Address::UNSPECIFIED_V6 } else { address };
    // SAFETY: two fields of a post_bind context, read as wide as they are (`src_port` is in host order); the helper
    // takes that context.
    let (protocol, port, netns) = unsafe {
        (
            read_volatile(&raw const (*ctx.sock).protocol),
            read_volatile(&raw const (*ctx.sock).src_port),
            bpf_get_netns_cookie(ctx.sock.cast()),
        )
    };
    let mut key = ListenerKey {
        netns,
        address_hi: address.hi,
        address_lo: address.lo,
        port: port as u16,
        protocol: Protocol::canonical(protocol).0,
        padding: [0; 5],
    };
    let listener = Listener { socket: cookie(ctx), owner: owner_of_new(ctx.sock) };
    if LISTENERS.insert(key, listener, 0).is_ok() {
        // SAFETY: the context is a socket; the map's value type is `ListenerKey`; the helper copies it.
        unsafe {
            let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
            bpf_sk_storage_get(
                (&raw const CLAIMS).cast_mut().cast(),
                ctx.sock.cast(),
                (&raw mut key).cast(),
                flags,
            );
        }
    }
}

/// Takes the socket of a sock_release context out, unless somebody else has claimed the endpoint since.
#[inline(always)]
pub(crate) fn release(ctx: &SockContext) {
    // SAFETY: the context is a socket; the value, if any, is a `ListenerKey` and stays while the program runs.
    let key: Option<ListenerKey> = unsafe {
        let key: *const ListenerKey = bpf_sk_storage_get(
            (&raw const CLAIMS).cast_mut().cast(),
            ctx.sock.cast(),
            null_mut(),
            0,
        )
        .cast();
        key.as_ref().copied()
    };
    let Some(key) = key else { return };
    // SAFETY: one field is compared at once; a change in between leaves at worst an entry that the next claim of the
    // endpoint overwrites.
    if unsafe { LISTENERS.get(key) }.is_some_and(|listener| listener.socket == cookie(ctx)) {
        // An entry that is gone already is as good.
        let _gone = LISTENERS.remove(key);
    }
}

/// The owner of whoever claimed the local end of an inbound flow; nobody where that is not known.
#[inline(always)]
pub(crate) fn listener(netns: u64, flow: &Flow) -> Owner {
    let of = |address: Address| {
        let key = ListenerKey {
            netns,
            address_hi: address.hi,
            address_lo: address.lo,
            port: flow.local.port,
            protocol: flow.protocol.0,
            padding: [0; 5],
        };
        // SAFETY: the owner is copied at once; a change in between gives one of two owners that both claimed the end.
        unsafe { LISTENERS.get(key) }.map(|listener| listener.owner)
    };
    of(flow.local.address).or_else(|| of(Address::UNSPECIFIED_V6)).unwrap_or_default()
}

#[inline(always)]
fn cookie(ctx: &SockContext) -> u64 {
    // SAFETY: the helper takes the context of a cgroup_sock program.
    unsafe { bpf_get_socket_cookie(ctx.sock.cast()) }
}
