//! Counting flows that are alike, for whoever wants to know what a host does: one entry for each kind of flow, read and
//! taken out by user space every few seconds.
//!
//! Nothing here takes part in a verdict. What the table loses (the least recently used entry goes when it is full) shows
//! as a difference: every flow is counted in `LOSSES` after it went into the table.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::generated::bpf_ktime_get_boot_ns};
use verdict::{
    Cell, Decision, Direction, Flow,
    abi::{FlowCount, FlowKey, Owner},
};

use crate::{
    judge::Witness,
    maps::{FLOWS, LOSSES, Slot},
};

/// Counts one flow. A function of its own, because the stack of its caller has no room for what it needs.
#[inline(never)]
pub(crate) fn tally(slot: &Slot, flow: &Flow, decision: &Decision, witness: &impl Witness) {
    let mut owner = Owner::default();
    witness.owner(flow, &mut owner);
    // No process has id 0, so that owner is nobody.
    let (uid, gid) = if owner.pid == 0 { (u32::MAX, u32::MAX) } else { (owner.uid, owner.gid) };
    let inbound = matches!(flow.direction, Direction::In);
    let local = flow.local.address;
    let key = FlowKey {
        local_hi: if inbound { local.hi } else { 0 },
        local_lo: if inbound { local.lo } else { 0 },
        remote_hi: flow.remote.address.hi,
        remote_lo: flow.remote.address.lo,
        netns: witness.netns(),
        exe: owner.exe,
        cgroup: owner.cgroup,
        uid,
        gid,
        cell: Cell::pack(*decision).0,
        generation: slot.generation,
        service_port: flow.service_port(),
        direction: flow.direction as u8,
        protocol: flow.protocol.0,
        slot: slot.number(),
    };
    if !count(&key, &owner) {
        // Another CPU may have been first; where there is no memory the flow is lost, and counted as such below. The new
        // value is copied from a map: there is no room for it on the stack of 512 bytes.
        let _new = FLOWS.insert(&key, &NONE, u64::from(BPF_NOEXIST));
        count(&key, &owner);
    }
    if let Some(losses) = LOSSES.get_ptr_mut(0) {
        // SAFETY: an aligned field of this CPU's value, which lives as long as the program. Atomic because a softirq may
        // run a program on this CPU in between.
        unsafe {
            atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*losses).flows, 1);
        }
    }
}

/// What an entry begins as.
static NONE: FlowCount =
    FlowCount { count: 0, first_ns: 0, last_ns: 0, pid: 0, padding: 0, comm: [0; 16] };

/// Adds to the entry, if there is one.
#[inline(always)]
fn count(key: &FlowKey, owner: &Owner) -> bool {
    let Some(entry) = FLOWS.get_ptr_mut(key) else { return false };
    // SAFETY: a helper without pointers, then an aligned entry, which stays readable and writable while the program runs.
    // Counted atomically; of two CPUs that store a time or an owner either will do.
    unsafe {
        let now = bpf_ktime_get_boot_ns();
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*entry).count, 1);
        if (*entry).first_ns == 0 {
            (*entry).pid = owner.pid;
            (*entry).comm = owner.comm;
            (&raw mut (*entry).first_ns).write_volatile(now);
        }
        (&raw mut (*entry).last_ns).write_volatile(now);
    }
    true
}
