//! What the connect, sendmsg and bind hooks have in common: reading `struct bpf_sock_addr` (include/uapi/linux/bpf.h).

use core::ptr::read_volatile;

use aya_ebpf::{
    bindings::bpf_sock,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_sk_storage_get},
    programs::SockAddrContext,
};
use verdict::{
    Address, Direction, Endpoint, Flow, Protocol, Subject,
    abi::{FEATURE_TRIPWIRE, Hook, Stamp},
};

use crate::{
    identity::stamp_of,
    judge::{ALLOW, Witness, allowed, claim, destination, refuse, refused_by},
    maps::{JUDGED, JUDGED_APART, Slot, has},
};

const AF_UNSPEC: u32 = 0;
pub(crate) const AF_INET: u32 = 2;
pub(crate) const AF_INET6: u32 = 10;

/// The IPv4 address that the caller named.
#[inline(always)]
pub(crate) fn named4(ctx: &SockAddrContext) -> Address {
    // SAFETY: a field of the context, read as wide as it is.
    Address::v4(u32::from_be(unsafe { read_volatile(&raw const (*ctx.sock_addr).user_ip4) }))
}

/// The IPv6 address that the caller named, which may be an IPv4-mapped one.
#[inline(always)]
pub(crate) fn named6(ctx: &SockAddrContext) -> Address {
    // SAFETY: four fields of the context, each read as wide as it is.
    let word = |index: usize| unsafe {
        u32::from_be(read_volatile((&raw const (*ctx.sock_addr).user_ip6).cast::<u32>().add(index)))
    };
    Address::v6([word(0), word(1), word(2), word(3)])
}

/// The family of the address that the caller named. The hooks of connect() and bind() run before the kernel looks at it: an
/// address of another family than the hook's is none, and the kernel says so itself where the hook lets it pass
/// (`tcp_v4_connect`, `__ip4_datagram_connect`, `__inet_bind` and their siblings for IPv6).
#[inline(always)]
pub(crate) fn family(ctx: &SockAddrContext) -> u32 {
    // SAFETY: a field of the context, read as wide as it is.
    unsafe { read_volatile(&raw const (*ctx.sock_addr).user_family) }
}

/// Whether `named`, of that family, can be claimed on a socket of IPv4: the unspecified address also without a family.
#[inline(always)]
pub(crate) fn is_claim4(family: u32, named: Address) -> bool {
    family == AF_INET || family == AF_UNSPEC && named.is_unspecified()
}

/// What a sock_addr hook can tell.
struct Caller<'a> {
    ctx: &'a SockAddrContext,
    hook: Hook,
}

impl Witness for Caller<'_> {
    #[inline(always)]
    fn hook(&self) -> Hook {
        self.hook
    }

    #[inline(always)]
    fn stamp<'a>(&'a self, _flow: &Flow) -> Option<&'a Stamp> {
        stamp_of(socket(self.ctx), || self.socket())
    }

    const BY_TASK: bool = true;

    #[inline(always)]
    fn socket(&self) -> u64 {
        // SAFETY: the helper takes the context of a sock_addr program.
        unsafe { bpf_get_socket_cookie(self.ctx.sock_addr.cast()) }
    }

    #[inline(always)]
    fn netns(&self) -> u64 {
        // SAFETY: as above.
        unsafe { bpf_get_netns_cookie(self.ctx.sock_addr.cast()) }
    }
}

/// Judges a connection or datagram to `named` and returns the hook's code.
#[inline(always)]
pub(crate) fn judge_out(ctx: &SockAddrContext, named: Address, hook: Hook) -> i32 {
    let Some(slot) = Slot::in_force() else { return ALLOW };
    let sk = socket(ctx);
    let local = local(sk);
    let address = destination(named, local.address);
    let caller = Caller { ctx, hook };
    let mut flow = Flow {
        direction: Direction::Out,
        protocol: protocol(ctx),
        local,
        remote: Endpoint { address, port: named_port(ctx) },
        subject: Subject::UNKNOWN,
    };
    caller.identify(&slot, &mut flow);
    let (allowed, decision) = allowed(&slot, &flow, &caller);
    if allowed {
        mark(ctx, sk, &slot);
        ALLOW
    } else {
        refuse(&slot, decision.enforced.rule)
    }
}

/// Judges a claim on the local endpoint `named` and the port that the caller named.
#[inline(always)]
pub(crate) fn judge_claim(ctx: &SockAddrContext, named: Address) -> i32 {
    let port = named_port(ctx);
    let Some(slot) = Slot::in_force() else { return ALLOW };
    if port == 0 {
        return ALLOW;
    }
    let caller = Caller { ctx, hook: Hook::Bind };
    let mut flow = claim(Direction::In, protocol(ctx), Endpoint { address: named, port });
    caller.identify(&slot, &mut flow);
    match refused_by(&slot, &flow, &caller) {
        Some(rule) => refuse(&slot, rule),
        None => ALLOW,
    }
}

#[inline(always)]
fn socket(ctx: &SockAddrContext) -> *mut bpf_sock {
    // SAFETY: the context's socket pointer, 8 bytes wide.
    unsafe { read_volatile((&raw const (*ctx.sock_addr).__bindgen_anon_1).cast()) }
}

#[inline(always)]
fn named_port(ctx: &SockAddrContext) -> u16 {
    // SAFETY: a field of the context, read as wide as it is; the port stands in its lower half in network order.
    u16::from_be(unsafe { read_volatile(&raw const (*ctx.sock_addr).user_port) } as u16)
}

#[inline(always)]
fn protocol(ctx: &SockAddrContext) -> Protocol {
    // SAFETY: a field of the context, read as wide as it is.
    Protocol::canonical(unsafe { read_volatile(&raw const (*ctx.sock_addr).protocol) })
}

/// Where the socket is bound; all zero where it is not.
#[inline(always)]
fn local(sk: *mut bpf_sock) -> Endpoint {
    if sk.is_null() {
        return Endpoint::default();
    }
    // SAFETY: a socket of this context, not null; each field read as wide as it is. `src_port` is in host order.
    unsafe {
        let port = read_volatile(&raw const (*sk).src_port) as u16;
        let address = if read_volatile(&raw const (*sk).family) == AF_INET {
            Address::v4(u32::from_be(read_volatile(&raw const (*sk).src_ip4)))
        } else {
            let word = |index: usize| {
                u32::from_be(read_volatile((&raw const (*sk).src_ip6).cast::<u32>().add(index)))
            };
            Address::v6([word(0), word(1), word(2), word(3)])
        };
        Endpoint { address, port }
    }
}

/// Marks the socket as judged, for the tripwire: on itself, and where it has no room for that by its cookie.
#[inline(always)]
fn mark(ctx: &SockAddrContext, sk: *mut bpf_sock, slot: &Slot) {
    if !has(FEATURE_TRIPWIRE) || sk.is_null() {
        return;
    }
    let mut generation = u64::from(slot.generation);
    // SAFETY: `sk` is a socket of this context and not null; the helper copies the value.
    let kept = unsafe {
        let flags = u64::from(aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE);
        bpf_sk_storage_get(
            (&raw const JUDGED).cast_mut().cast(),
            sk.cast(),
            (&raw mut generation).cast(),
            flags,
        )
    };
    if kept.is_null() {
        // SAFETY: the helper takes the context of a sock_addr program.
        let cookie = unsafe { bpf_get_socket_cookie(ctx.sock_addr.cast()) };
        // An LRU map makes room; where even that fails the tripwire says more than it has to.
        let _kept = JUDGED_APART.insert(&cookie, &generation, 0);
    }
}
