//! Telling user space, within bounds: a token bucket for each CPU and ring buffer, and counters for what was not told.
//!
//! What tells of tampering has a ring buffer and a bucket of its own, so that no flood of denials keeps it from being
//! heard.

use aya_ebpf::{helpers::generated::bpf_ktime_get_boot_ns, maps::RingBuf};
use verdict::{
    Cell, Decision, Flow, RuleNumber,
    abi::{
        Bucket, EVENT_BURST, EVENT_COST_NS, Event, Hook, Losses, TAMPER_BURST, TAMPER_COST_NS,
        WAKE_NS,
    },
};

use crate::{
    judge::Witness,
    maps::{EVENTS, LOSSES, Slot, TAMPER},
};

/// Flags of bpf_ringbuf_submit() (include/uapi/linux/bpf.h).
const BPF_RB_NO_WAKEUP: u64 = 1 << 0;
const BPF_RB_FORCE_WAKEUP: u64 = 1 << 1;

/// Sends one event, or counts it as lost. A function of its own, because the stack of its caller has no room for an event.
#[inline(never)]
pub(crate) fn report(slot: &Slot, flow: &Flow, decision: &Decision, witness: &impl Witness) {
    let Some(losses) = LOSSES.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's value of a per-CPU array, aligned, alive as long as the program.
    let losses: &mut Losses = unsafe { &mut *losses };
    let tampered = witness.hook() as u8 == Hook::Tripwire as u8
        || decision.enforced.rule.0 == RuleNumber::MALFORMED.0;
    if tampered {
        send(
            &TAMPER,
            &mut losses.tamper,
            TAMPER_COST_NS,
            TAMPER_BURST,
            slot,
            flow,
            decision,
            witness,
        );
    } else {
        send(
            &EVENTS,
            &mut losses.events,
            EVENT_COST_NS,
            EVENT_BURST,
            slot,
            flow,
            decision,
            witness,
        );
    }
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "inlined: what is sent, and where")]
fn send(
    ring: &RingBuf,
    bucket: &mut Bucket,
    cost_ns: u64,
    burst: u64,
    slot: &Slot,
    flow: &Flow,
    decision: &Decision,
    witness: &impl Witness,
) {
    // SAFETY: a helper without pointers.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if !has_token(bucket, cost_ns, burst, now) {
        return;
    }
    let Some(mut entry) = ring.reserve::<Event>(0) else {
        bucket.overrun += 1;
        return;
    };
    let event: *mut Event = entry.as_mut_ptr();
    // Field by field, because the stack has no room for a second event.
    //
    // SAFETY: the reserved entry is as large as an `Event` and aligned to 8 bytes; every field is written.
    unsafe {
        (*event).time_ns = now;
        (*event).socket = witness.socket();
        (*event).netns = witness.netns();
        (*event).local_hi = flow.local.address.hi;
        (*event).local_lo = flow.local.address.lo;
        (*event).remote_hi = flow.remote.address.hi;
        (*event).remote_lo = flow.remote.address.lo;
        witness.owner(flow, &mut (*event).owner);
        (*event).cell = Cell::pack(*decision).0;
        (*event).generation = slot.generation;
        (*event).local_port = flow.local.port;
        (*event).remote_port = flow.remote.port;
        (*event).hook = witness.hook() as u8;
        (*event).direction = flow.direction as u8;
        (*event).protocol = flow.protocol.0;
        (*event).slot = slot.number() as u8;
    }
    entry.submit(if wakes(bucket, now) { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP });
}

/// Whether an event has to wake whoever waits: they were not woken a moment ago, and so may sleep.
#[inline(always)]
fn wakes(bucket: &mut Bucket, now: u64) -> bool {
    let due = now.saturating_sub(bucket.woken_ns) >= WAKE_NS;
    if due {
        bucket.woken_ns = now;
    }
    due
}

/// Takes one token. The bucket holds time: what has passed since it was last looked at fills it, an event costs
/// `cost_ns`. Two programs that meet on one CPU may disturb each other's arithmetic by one event; the counts of
/// verdicts do not pass through here.
#[inline(always)]
fn has_token(bucket: &mut Bucket, cost_ns: u64, burst: u64, now: u64) -> bool {
    let filled = bucket.credit_ns + now.saturating_sub(bucket.looked_ns);
    let full = burst * cost_ns;
    let credit = if filled < full { filled } else { full };
    bucket.looked_ns = now;
    if credit < cost_ns {
        bucket.credit_ns = credit;
        bucket.limited += 1;
        return false;
    }
    bucket.credit_ns = credit - cost_ns;
    true
}
