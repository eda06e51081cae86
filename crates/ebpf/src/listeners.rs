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
    Address, Endpoint, Protocol,
    abi::{Listener, ListenerKey, Stamp},
};

use crate::{
    evidence,
    identity::{current, stamp_of_new},
    maps::{CLAIMS, CLAIMS_APART, LISTENERS},
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
    let socket = cookie(ctx);
    let mut listener = Listener { socket, stamp: Stamp::default() };
    match stamp_of_new(ctx.sock, socket) {
        Some(stamp) => listener.stamp = *stamp,
        None => current(&mut listener.stamp),
    }
    if LISTENERS.insert(&key, &listener, 0).is_ok() {
        // SAFETY: the context is a socket; the map's value type is `ListenerKey`; the helper copies it.
        let kept = unsafe {
            let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
            bpf_sk_storage_get(
                (&raw const CLAIMS).cast_mut().cast(),
                ctx.sock.cast(),
                (&raw mut key).cast(),
                flags,
            )
        };
        if kept.is_null() {
            evidence::refused();
            // Without either the entry stays until the next claim of the endpoint, as an owner that is gone.
            let _kept = CLAIMS_APART.insert(&socket, &key, 0);
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
    let socket = cookie(ctx);
    let key = key.or_else(|| {
        // SAFETY: copied at once; nobody else writes under this cookie.
        let apart = unsafe { CLAIMS_APART.get(socket) }.copied();
        if apart.is_some() {
            // If it is gone already, so much the better.
            let _gone = CLAIMS_APART.remove(socket);
        }
        apart
    });
    let Some(key) = key else { return };
    // SAFETY: one field is compared at once; a change in between leaves at worst an entry that the next claim of the
    // endpoint overwrites.
    if unsafe { LISTENERS.get(key) }.is_some_and(|listener| listener.socket == socket) {
        // An entry that is gone already is as good.
        let _gone = LISTENERS.remove(key);
    }
}

/// The stamp of whoever claimed the endpoint `local`, if that is known.
///
/// A function of its own, because the stack of its callers has no room for a key.
#[inline(never)]
pub(crate) fn listener<'a>(netns: u64, protocol: Protocol, local: &Endpoint) -> Option<&'a Stamp> {
    let of = |address: Address| {
        let key = ListenerKey {
            netns,
            address_hi: address.hi,
            address_lo: address.lo,
            port: local.port,
            protocol: protocol.0,
            padding: [0; 5],
        };
        // SAFETY: the value stays while the program runs; a change in between gives one of two owners that both claimed
        // the end.
        unsafe { LISTENERS.get(key) }.map(|listener| &listener.stamp)
    };
    of(local.address).or_else(|| of(Address::UNSPECIFIED_V6))
}

#[inline(always)]
fn cookie(ctx: &SockContext) -> u64 {
    // SAFETY: the helper takes the context of a cgroup_sock program.
    unsafe { bpf_get_socket_cookie(ctx.sock.cast()) }
}
