//! sk_lookup: the inbound verdict where a listener (or an unconnected UDP socket) would be found. A denied peer or port
//! gets a reset before any socket exists, so accept() never wakes.
//!
//! Runs once for each connection, not for its packets. It has no process: where a rule asks for one, it is looked up in
//! the table of listeners, and for events too.

use core::ptr::read_volatile;

use aya_ebpf::{macros::sk_lookup, programs::SkLookupContext};
use verdict::{
    Address, Direction, Endpoint, Flow, Protocol, Subject,
    abi::{Hook, REPORT_AT_REQUEST, Stamp},
    layout::RULE_DROP,
    rule_flags,
};

use crate::{
    judge::{Witness, allowed, judge, settle},
    listeners::listener,
    maps::{Slot, own_netns},
};

const SK_DROP: u32 = 0;
const SK_PASS: u32 = 1;
const AF_INET: u32 = 2;

/// Runs in softirq, in the network namespace it is attached to.
#[sk_lookup]
pub(crate) fn lookup(ctx: SkLookupContext) -> u32 {
    let Some(slot) = Slot::in_force() else { return SK_PASS };
    let mut flow = flow(&ctx);
    if is_diagnosis(&flow) {
        return SK_PASS;
    }
    Knock.identify(&slot, &mut flow);
    if slot.report & REPORT_AT_REQUEST == 0 || !matches!(flow.protocol, Protocol::TCP) {
        return if allowed(&slot, &flow, &Knock).0 { SK_PASS } else { SK_DROP };
    }
    // What passes is judged once more, and counted, where the listener is known. What is to be dropped in silence passes
    // too: here there are only resets.
    let decision = judge(&flow, &slot);
    if !decision.denies() || rule_flags(decision.enforced.rule, &slot) & RULE_DROP != 0 {
        return SK_PASS;
    }
    settle(&slot, &flow, &decision, &Knock);
    SK_DROP
}

/// What this hook can tell.
struct Knock;

impl Witness for Knock {
    #[inline(always)]
    fn hook(&self) -> Hook {
        Hook::Lookup
    }

    /// Whoever claimed the local end.
    #[inline(always)]
    fn stamp<'a>(&'a self, flow: &Flow) -> Option<&'a Stamp> {
        listener(own_netns(), flow.protocol, &flow.local)
    }

    /// Whoever was interrupted has nothing to do with it.
    const BY_TASK: bool = false;

    #[inline(always)]
    fn socket(&self) -> u64 {
        0
    }

    #[inline(always)]
    fn netns(&self) -> u64 {
        own_netns()
    }
}

/// Whether nobody knocks: sock_diag(7) looks a listener up as if a packet came from no address and no port
/// (`inet_diag_find_one_icsk`), and refusing it would keep a listener from being destroyed. No connection can be made
/// that way: an answer to the unspecified address goes nowhere.
#[inline(always)]
fn is_diagnosis(flow: &Flow) -> bool {
    flow.remote.port == 0
        && flow.remote.address.is_unspecified()
        && matches!(flow.protocol, Protocol::TCP)
}

#[inline(always)]
fn flow(ctx: &SkLookupContext) -> Flow {
    let lookup = ctx.lookup;
    // SAFETY: fields of the context, each read as wide as it is. `remote_port` is in network order, `local_port` in host
    // order (struct bpf_sk_lookup).
    unsafe {
        let word = |words: *const [u32; 4], index: usize| {
            u32::from_be(read_volatile(words.cast::<u32>().add(index)))
        };
        let six = |words: *const [u32; 4]| {
            Address::v6([word(words, 0), word(words, 1), word(words, 2), word(words, 3)])
        };
        let (local, remote) = if read_volatile(&raw const (*lookup).family) == AF_INET {
            (
                Address::v4(u32::from_be(read_volatile(&raw const (*lookup).local_ip4))),
                Address::v4(u32::from_be(read_volatile(&raw const (*lookup).remote_ip4))),
            )
        } else {
            (six(&raw const (*lookup).local_ip6), six(&raw const (*lookup).remote_ip6))
        };
        Flow {
            direction: Direction::In,
            protocol: Protocol::canonical(read_volatile(&raw const (*lookup).protocol)),
            local: Endpoint {
                address: local,
                port: read_volatile(&raw const (*lookup).local_port) as u16,
            },
            remote: Endpoint {
                address: remote,
                port: u16::from_be(read_volatile(&raw const (*lookup).remote_port)),
            },
            subject: Subject::UNKNOWN,
        }
    }
}
