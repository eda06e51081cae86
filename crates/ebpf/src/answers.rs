//! Answers to allowed datagrams: a default deny must not break them.
//!
//! Connected UDP sockets need nothing of this: what comes in for them finds them before `sk_lookup` runs. For the
//! others, each allowed datagram is remembered by network namespace, local port and peer, and a datagram the other way
//! that only a default would deny is let through for a while. A rule that denies it by name still does.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use verdict::{
    Decision, Flow, Protocol,
    abi::{ANSWER_NS, Exchange, REPORT_FLOWS},
    layout::{FLAG_ANSWERS, RULE_DEFAULT},
    rule_flags,
};

use crate::{
    judge::Witness,
    maps::{EXCHANGES, Slot},
};

/// Whether the denied `flow` answers a datagram that was allowed a short while ago.
#[inline(always)]
pub(crate) fn answers(
    slot: &Slot,
    flow: &Flow,
    decision: &Decision,
    witness: &impl Witness,
) -> bool {
    concerns(slot, flow)
        && rule_flags(decision.enforced.rule, slot) & RULE_DEFAULT != 0
        && known(flow, witness.netns())
}

/// Whether the allowed `flow` is a further datagram of an exchange that goes on: it is no flow of its own for whoever
/// counts them.
#[inline(always)]
pub(crate) fn goes_on(slot: &Slot, flow: &Flow, witness: &impl Witness) -> bool {
    concerns(slot, flow) && known(flow, witness.netns())
}

/// Functions of their own, because the stack of their callers has no room for a key.
#[inline(never)]
fn known(flow: &Flow, netns: u64) -> bool {
    // SAFETY: the value is copied at once.
    let Some(&seen) = (unsafe { EXCHANGES.get(&key(flow, netns)) }) else { return false };
    // SAFETY: a helper without pointers.
    unsafe { bpf_ktime_get_boot_ns() }.saturating_sub(seen) < ANSWER_NS
}

#[inline(never)]
fn learn(flow: &Flow, netns: u64) {
    // SAFETY: a helper without pointers.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // Without memory for it the answer is judged like any other datagram.
    let _kept = EXCHANGES.insert(&key(flow, netns), &now, 0);
}

/// Remembers an allowed datagram. When the table is full the least recently used entry goes.
#[inline(always)]
pub(crate) fn remember(slot: &Slot, flow: &Flow, witness: &impl Witness) {
    if concerns(slot, flow) {
        learn(flow, witness.netns());
    }
}

/// A socket that connects before it has a port will be found by its answers without us.
#[inline(always)]
fn concerns(slot: &Slot, flow: &Flow) -> bool {
    matches!(flow.protocol, Protocol::UDP)
        && flow.local.port != 0
        && (slot.flags & FLAG_ANSWERS != 0 || slot.report & REPORT_FLOWS != 0)
}

#[inline(always)]
fn key(flow: &Flow, netns: u64) -> Exchange {
    Exchange {
        netns,
        peer_hi: flow.remote.address.hi,
        peer_lo: flow.remote.address.lo,
        local_port: flow.local.port,
        peer_port: flow.remote.port,
        padding: 0,
    }
}
