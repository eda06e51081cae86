//! Telling user space, within bounds: a token bucket for each CPU, and counters for what was not told.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use verdict::{
    Cell, Decision, Flow,
    abi::{EVENT_BURST, EVENT_COST_NS, Event},
};

use crate::{
    judge::Witness,
    maps::{EVENTS, LOSSES, Slot},
};

/// Sends one event, or counts it as lost.
#[inline(always)]
pub(crate) fn report(slot: &Slot, flow: &Flow, decision: &Decision, witness: &impl Witness) {
    // SAFETY: a helper without pointers.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if !has_token(now) {
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        if let Some(losses) = LOSSES.get_ptr_mut(0) {
            // SAFETY: this CPU's value; see `has_token`.
            unsafe { (*losses).overrun += 1 };
        }
        return;
    };
    entry.write(Event {
        time_ns: now,
        socket: witness.socket(),
        netns: witness.netns(),
        local_hi: flow.local.address.hi,
        local_lo: flow.local.address.lo,
        remote_hi: flow.remote.address.hi,
        remote_lo: flow.remote.address.lo,
        owner: witness.owner(),
        cell: Cell::pack(*decision).0,
        generation: slot.generation,
        local_port: flow.local.port,
        remote_port: flow.remote.port,
        hook: witness.hook() as u8,
        direction: flow.direction as u8,
        protocol: flow.protocol.0,
        padding: 0,
    });
    entry.submit(0);
}

/// Takes one token. The bucket holds time: what has passed since it was last looked at fills it, an event costs
/// [`EVENT_COST_NS`]. Two programs that meet on one CPU may disturb each other's arithmetic by one event; the counts of
/// verdicts do not pass through here.
#[inline(always)]
fn has_token(now: u64) -> bool {
    let Some(losses) = LOSSES.get_ptr_mut(0) else { return true };
    // SAFETY: this CPU's value of a per-CPU array, aligned, alive as long as the program.
    let losses = unsafe { &mut *losses };
    let filled = losses.credit_ns + now.saturating_sub(losses.looked_ns);
    let full = EVENT_BURST * EVENT_COST_NS;
    let credit = if filled < full { filled } else { full };
    losses.looked_ns = now;
    if credit < EVENT_COST_NS {
        losses.credit_ns = credit;
        losses.limited += 1;
        return false;
    }
    losses.credit_ns = credit - EVENT_COST_NS;
    true
}
