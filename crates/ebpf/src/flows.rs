//! Counting flows that are alike, for whoever wants to know what a host does: one entry for each kind of flow, read and
//! taken out by user space every few seconds.
//!
//! Nothing here takes part in a verdict. What the table loses (the least recently used entry goes when it is full) shows
//! as a difference: every flow is counted in `LOSSES` after it went into the table.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::generated::{
        bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid,
        bpf_get_current_uid_gid, bpf_ktime_get_boot_ns,
    },
};
use verdict::{
    Cell, Decision, Direction, Flow,
    abi::{FEATURE_CURRENT, FlowCount, FlowKey},
};

use crate::{
    identity::exe,
    judge::Witness,
    maps::{FLOWS, LOSSES, Slot, has},
};

/// Counts one flow. A function of its own, because the stack of its caller has no room for what it needs.
#[inline(never)]
pub(crate) fn tally(slot: &Slot, flow: &Flow, decision: &Decision, witness: &impl Witness) {
    let inbound = matches!(flow.direction, Direction::In);
    let local = flow.local.address;
    // Of two zeros side by side the compiler would make a call, and keep everything else on the stack meanwhile.
    let nobody = slot.blur_long(0);
    let mut key = FlowKey {
        local_hi: if inbound { local.hi } else { 0 },
        local_lo: if inbound { local.lo } else { 0 },
        remote_hi: flow.remote.address.hi,
        remote_lo: flow.remote.address.lo,
        netns: witness.netns(),
        exe: nobody,
        cgroup: nobody,
        uid: u32::MAX,
        gid: u32::MAX,
        cell: Cell::pack(*decision).0,
        generation: slot.generation,
        service_port: flow.service_port(),
        direction: flow.direction as u8,
        protocol: flow.protocol.0,
        slot: slot.number(),
    };
    whose(&mut key, flow, witness);
    if !count(&key, flow, witness) {
        // Another CPU may have been first; where there is no memory the flow is lost, and counted as such below. The new
        // value is copied from a map: there is no room for it on the stack of 512 bytes.
        let _new = FLOWS.insert(&key, &NONE, u64::from(BPF_NOEXIST));
        count(&key, flow, witness);
    }
    if let Some(losses) = LOSSES.get_ptr_mut(0) {
        // SAFETY: an aligned field of this CPU's value, which lives as long as the program. Atomic because a softirq may
        // run a program on this CPU in between.
        unsafe {
            atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*losses).flows, 1);
        }
    }
}

/// Whose the flow is, into the key. Field by field, because the stack has no room for an owner beside it.
#[inline(always)]
fn whose<W: Witness>(key: &mut FlowKey, flow: &Flow, witness: &W) {
    match witness.stamp(flow) {
        // No process has id 0, so that owner is nobody.
        Some(stamp) if stamp.owner.pid != 0 => {
            key.exe = stamp.owner.exe;
            key.cgroup = stamp.owner.cgroup;
            key.uid = stamp.owner.uid;
            key.gid = stamp.owner.gid;
        }
        None if W::BY_TASK && has(FEATURE_CURRENT) => {
            // SAFETY: helpers without pointers.
            let (users, cgroup) =
                unsafe { (bpf_get_current_uid_gid(), bpf_get_current_cgroup_id()) };
            key.exe = exe();
            key.cgroup = cgroup;
            key.uid = users as u32;
            key.gid = (users >> 32) as u32;
        }
        Some(_) | None => {}
    }
}

/// The same for what only the first flow of an entry tells.
#[inline(always)]
fn by_whom<W: Witness>(entry: &mut FlowCount, flow: &Flow, witness: &W) {
    match witness.stamp(flow) {
        Some(stamp) => {
            entry.pid = stamp.owner.pid;
            entry.comm = stamp.owner.comm;
        }
        None if W::BY_TASK && has(FEATURE_CURRENT) => {
            // SAFETY: a helper without pointers, and one that is given sixteen bytes to write to.
            unsafe {
                entry.pid = (bpf_get_current_pid_tgid() >> 32) as u32;
                bpf_get_current_comm(entry.comm.as_mut_ptr().cast(), 16);
            }
        }
        None => {}
    }
}

/// What an entry begins as.
static NONE: FlowCount =
    FlowCount { count: 0, first_ns: 0, last_ns: 0, pid: 0, padding: 0, comm: [0; 16] };

/// Adds to the entry, if there is one.
#[inline(always)]
fn count(key: &FlowKey, flow: &Flow, witness: &impl Witness) -> bool {
    let Some(entry) = FLOWS.get_ptr_mut(key) else { return false };
    // SAFETY: a helper without pointers, then an aligned entry, which stays readable and writable while the program runs.
    // Counted atomically; of two CPUs that store a time or an owner either will do.
    unsafe {
        let now = bpf_ktime_get_boot_ns();
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*entry).count, 1);
        if (*entry).first_ns == 0 {
            by_whom(&mut *entry, flow, witness);
            (&raw mut (*entry).first_ns).write_volatile(now);
        }
        (&raw mut (*entry).last_ns).write_volatile(now);
    }
    true
}
