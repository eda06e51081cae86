//! lsm/inet_conn_request: the inbound verdict when a peer's first packet has found its listener, in every network
//! namespace, with the identity of that listener. A denied peer gets no answer.
//!
//! Runs in softirq: whoever was interrupted has nothing to do with it.

use core::ffi::c_void;

use aya_ebpf::{macros::lsm, programs::LsmContext};
use verdict::{
    Cell, Direction, Endpoint, Flow, Protocol, Subject,
    abi::{Hook, Stamp, field},
};

use crate::{
    identity::stamp_of_sock,
    judge::{Witness, error, judge, settle},
    listeners::listener,
    maps::{NAMESPACES, Slot, everywhere, offset},
    sock::{Sock, load},
};

/// `TCPHDR_SYN` (include/net/tcp.h).
const SYN: u8 = 2;

/// Arguments: the listener, the packet, the request that is made of it, whose ends are filled in
/// (`tcp_v4_route_req`, `cookie_v4_check` and their siblings for IPv6).
#[lsm(hook = "inet_conn_request")]
pub(crate) fn inet_conn_request(ctx: LsmContext) -> i32 {
    let (sk, request) = (Sock::of_argument(&ctx, 0), Sock::of_argument(&ctx, 2));
    let knock = Knock { sk };
    if !everywhere() && NAMESPACES.get_ptr(&knock.netns()).is_none() {
        return 0;
    }
    let Some(slot) = Slot::in_force() else { return 0 };
    let mut flow = Flow {
        direction: Direction::In,
        protocol: Protocol::TCP,
        local: Endpoint::default(),
        remote: Endpoint::default(),
        subject: Subject::UNKNOWN,
    };
    ends(request, &mut flow);
    knock.identify(&slot, &mut flow);
    let decision = Cell(judged(&slot, &mut flow, sk.num())).unpack();
    if decision.denies() || begins(&ctx) {
        settle(&slot, &flow, &decision, &knock);
    }
    if decision.denies() { error(&slot, decision.enforced.rule) } else { 0 }
}

/// Judges the flow as the peer asked for it, and where a listener on another port takes it (TPROXY, another program's
/// sk_lookup) also there: it must be allowed at both. The flow is then the one that decides. Its cell; a function of its own
/// as [`ends`].
#[inline(never)]
fn judged(slot: &Slot, flow: &mut Flow, own_port: u16) -> u32 {
    let asked = flow.local.port;
    let decision = judge(flow, slot);
    if !decision.denies() && own_port != asked {
        flow.local.port = slot.blur_port(own_port);
        let there = judge(flow, slot);
        if there.denies() {
            return Cell::pack(there).0;
        }
        flow.local.port = slot.blur_port(asked);
    }
    Cell::pack(decision).0
}

/// Fills in both ends. A function of its own, because the stack of its caller has no room for what it needs.
#[inline(never)]
fn ends(request: Sock, flow: &mut Flow) {
    flow.local = request.local();
    flow.remote = request.remote();
}

/// Whether the packet begins a connection. With SYN cookies the hook runs once more, for the packet that completes it.
#[inline(always)]
fn begins(ctx: &LsmContext) -> bool {
    let packet: *const c_void = ctx.arg(1);
    let flags: u8 = load(packet, offset::<{ field::CB }>() + offset::<{ field::TCP_FLAGS }>());
    flags & SYN != 0
}

/// What this hook can tell.
struct Knock {
    sk: Sock,
}

impl Witness for Knock {
    #[inline(always)]
    fn hook(&self) -> Hook {
        Hook::Request
    }

    /// Whoever made the listener; of one that the kernel made for somebody else, whoever claimed its port.
    #[inline(always)]
    fn stamp<'a>(&'a self, flow: &Flow) -> Option<&'a Stamp> {
        stamp_of_sock(self.sk).or_else(|| listener(self.netns(), flow.protocol, &flow.local))
    }

    const BY_TASK: bool = false;

    #[inline(always)]
    fn socket(&self) -> u64 {
        self.sk.cookie()
    }

    #[inline(always)]
    fn netns(&self) -> u64 {
        self.sk.netns()
    }
}
