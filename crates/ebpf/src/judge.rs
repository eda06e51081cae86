//! From a flow to a return code, the same way for every hook.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::helpers::generated::bpf_set_retval;
use verdict::{
    Address, Cell, Decision, Direction, Endpoint, Flow, Protocol, RuleNumber, Subject, Tables as _,
    abi::{FEATURE_RETVAL, Hook, Owner, REPORT_ALLOWED, REPORT_FLOWS, Stamp},
    closed_toward, decide_toward,
    layout::{FLAG_LOG, FLAG_NAMESPACES, FLAG_SUBJECTS, RULE_LOG, RULE_REFUSE},
    rule_flags,
};

use crate::{
    answers::{answers, goes_on, remember},
    evidence,
    flows::tally,
    identity::{current_owner, running, stamped},
    maps::{HITS, Slot, counters, has},
    report::report,
};

/// What a cgroup program returns to let the call go on.
pub(crate) const ALLOW: i32 = 1;
/// What it returns to refuse; the caller gets EPERM unless `bpf_set_retval` said otherwise.
const REFUSE: i32 = 0;

const EACCES: i32 = 13;
const ECONNREFUSED: i32 = 111;

/// What a hook can tell of a flow besides what decides it. Each answer costs a helper or more, so it is asked for only
/// where somebody wants to know: most flows are allowed and nobody does.
pub(crate) trait Witness {
    /// Through which hook the flow was seen.
    fn hook(&self) -> Hook;
    /// Whose socket the flow's is, as far as that was stamped on it.
    fn stamp<'a>(&'a self, flow: &Flow) -> Option<&'a Stamp>;
    /// Whether the running task stands for a socket without a stamp.
    const BY_TASK: bool;
    /// The socket's cookie; 0 where there is none.
    fn socket(&self) -> u64;
    /// The network namespace's cookie.
    fn netns(&self) -> u64;

    /// Who it is, for events.
    #[inline(always)]
    fn owner(&self, flow: &Flow, found: &mut Owner) {
        match self.stamp(flow) {
            Some(stamp) => *found = stamp.owner,
            None if Self::BY_TASK => current_owner(found),
            None => *found = Owner::default(),
        }
    }

    /// Fills in the process and its network namespace, as far as rules of the image ask for them. In place, because the
    /// stack has no room for copies. The flow is then the same to the verifier whichever way it came to be: what follows
    /// is checked once, not once for each way.
    #[inline(always)]
    fn identify(&self, slot: &Slot, flow: &mut Flow) {
        if slot.flags & FLAG_SUBJECTS != 0 {
            let stamp = self.stamp(flow);
            let found = &mut flow.subject;
            match stamp {
                Some(stamp) => stamped(stamp, found),
                None if Self::BY_TASK => running(found),
                None => evidence::unknown(),
            }
        }
        let found = &mut flow.subject;
        if slot.flags & FLAG_NAMESPACES != 0 {
            found.netns = self.netns();
        }
        found.uid = slot.blur(found.uid);
        found.gid = slot.blur(found.gid);
        found.exe = slot.blur_long(found.exe);
        found.cgroup = slot.blur_long(found.cgroup);
        for above in &mut found.above {
            *above = slot.blur_long(*above);
        }
        found.netns = slot.blur_long(found.netns);
        for end in [&mut flow.local, &mut flow.remote] {
            end.address.hi = slot.blur_long(end.address.hi);
            end.address.lo = slot.blur_long(end.address.lo);
            end.port = slot.blur(u32::from(end.port)) as u16;
        }
    }
}

/// Judges a flow.
#[inline(always)]
pub(crate) fn judge(flow: &Flow, slot: &Slot) -> Decision {
    // SAFETY: two references.
    Cell(unsafe { decided(inbound(flow), flow, slot) }).unpack()
}

/// The direction as global functions are told it.
#[inline(always)]
fn inbound(flow: &Flow) -> u32 {
    u32::from(matches!(flow.direction, Direction::In))
}

/// The direction that a global function was told.
#[inline(always)]
fn toward(inbound: u32) -> Direction {
    if inbound & 1 == 0 { Direction::Out } else { Direction::In }
}

/// The cell that decides `flow`. A global function: the kernel checks it once by itself, for any flow and slot, and not
/// again for each way that leads to a call. The direction is told beside the flow because the verifier follows registers,
/// and would not know of a byte in memory that it has two values only.
///
/// # Safety
/// Each pointer is null or leads to what it says.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn decided(inbound: u32, flow: *const Flow, slot: *const Slot) -> u32 {
    // SAFETY: as the caller promises; the verifier wants to see the check.
    let (Some(flow), Some(slot)) = (unsafe { (flow.as_ref(), slot.as_ref()) }) else {
        return Cell::pack(Decision::MALFORMED).0;
    };
    Cell::pack(decide_toward(toward(inbound), flow, slot)).0
}

/// Whether the local port of `flow` is closed to every peer. A global function for the reasons of [`decided`], and because
/// the callers' stacks have no room for its look-ups besides.
///
/// # Safety
/// Each pointer is null or leads to what it says.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn shut(inbound: u32, flow: *const Flow, slot: *const Slot) -> u32 {
    // SAFETY: as the caller promises; the verifier wants to see the check.
    let (Some(flow), Some(slot)) = (unsafe { (flow.as_ref(), slot.as_ref()) }) else { return 1 };
    u32::from(closed_toward(toward(inbound), flow, slot))
}

/// Judges, counts and reports a flow; `true` is allowed. An answer to an allowed datagram passes uncounted.
#[inline(always)]
pub(crate) fn allowed(slot: &Slot, flow: &Flow, witness: &impl Witness) -> (bool, Decision) {
    let decision = judge(flow, slot);
    if decision.denies() && answers(slot, flow, &decision, witness) {
        return (true, decision);
    }
    settle(slot, flow, &decision, witness);
    (!decision.denies(), decision)
}

/// As [`allowed`], for a lock that comes before another one which judges the same flow: whichever refuses counts and
/// reports, and what passes here is counted there. So each flow is, once.
#[inline(always)]
pub(crate) fn passes(slot: &Slot, flow: &Flow, witness: &impl Witness) -> (bool, Decision) {
    let decision = judge(flow, slot);
    if !decision.denies() || answers(slot, flow, &decision, witness) {
        return (true, decision);
    }
    settle(slot, flow, &decision, witness);
    (false, decision)
}

/// Counts and reports what a flow came to.
#[inline(always)]
pub(crate) fn settle(slot: &Slot, flow: &Flow, decision: &Decision, witness: &impl Witness) {
    count(slot, decision);
    let counted = slot.report & REPORT_FLOWS != 0;
    if counted && (decision.denies() || !goes_on(slot, flow, witness)) {
        tally(slot, flow, decision, witness);
    }
    if !decision.denies() {
        remember(slot, flow, witness);
    }
    let wanted = decision.denies()
        || slot.report & REPORT_ALLOWED != 0
        || slot.flags & FLAG_LOG != 0 && rule_flags(decision.enforced.rule, slot) & RULE_LOG != 0
        || decision.would.verdict as u8 != decision.enforced.verdict as u8;
    if wanted {
        report(slot, flow, decision, witness);
    }
}

/// A claim on `local`, or on a protocol: the flow of nobody in particular with no peer.
#[inline(always)]
pub(crate) fn claim(direction: Direction, protocol: Protocol, local: Endpoint) -> Flow {
    Flow { direction, protocol, local, remote: Endpoint::default(), subject: Subject::UNKNOWN }
}

/// Judges a claim: refused where no peer at all could be accepted, and the rule that says so.
#[inline(always)]
pub(crate) fn refused_by(slot: &Slot, flow: &Flow, witness: &impl Witness) -> Option<RuleNumber> {
    if !is_shut(slot, flow) {
        return None;
    }
    let decision = judge(flow, slot);
    count(slot, &decision);
    report(slot, flow, &decision, witness);
    Some(decision.enforced.rule)
}

/// Where a socket at `local` gets to that is told to connect to `named`.
#[inline(always)]
pub(crate) fn destination(named: Address, local: Address) -> Address {
    if named.is_unspecified() && local.is_v4() && !local.is_unspecified() {
        // A socket bound to an IPv4 address reaches 127.0.0.1 by `::` too (tcp_v6_connect).
        Address::LOOPBACK_V4
    } else {
        named.as_destination()
    }
}

/// Whether the local port of `flow` is closed to every peer.
#[inline(always)]
pub(crate) fn is_shut(slot: &Slot, flow: &Flow) -> bool {
    // SAFETY: two references.
    unsafe { shut(inbound(flow), flow, slot) != 0 }
}

/// The return code of a cgroup hook for a denied call, with the errno that the deciding rule asks for.
#[inline(always)]
pub(crate) fn refuse(slot: &Slot, rule: RuleNumber) -> i32 {
    if has(FEATURE_RETVAL) {
        // SAFETY: a helper without pointers.
        unsafe { bpf_set_retval(error(slot, rule)) };
    }
    REFUSE
}

/// What a denied call ends with, as its rule asks: the return code of an LSM hook. One of two constants, which the verifier
/// wants to see (`bpf_lsm_get_retval_range` in kernel/bpf/bpf_lsm.c).
#[inline(always)]
pub(crate) fn error(slot: &Slot, rule: RuleNumber) -> i32 {
    if rule_flags(rule, slot) & RULE_REFUSE != 0 { -ECONNREFUSED } else { -EACCES }
}

/// Exact: no count is lost, whatever interrupts whom. The would-be verdict counts where another rule would make it.
#[inline(always)]
fn count(slot: &Slot, decision: &Decision) {
    let (enforced, would) = (decision.enforced.rule.0, decision.would.rule.0);
    counted(slot.number(), u32::from(enforced), u32::from(would));
}

/// Counts a verdict of a slot by its rules. A function of its own, because the stack of its callers has no room for what
/// it needs. And a global one, which the verifier looks at by itself: with a static one here Linux 6.1 refused allowed
/// connections, too, without an event (seen on Debian's 6.1.0-56; 6.18 did not). A global function returns a number.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn counted(slot: u32, enforced: u32, would: u32) -> u32 {
    let (first, first_would) = counters(slot);
    hit(first.wrapping_add(enforced));
    if would != enforced {
        hit(first_would.wrapping_add(would));
    }
    0
}

#[inline(always)]
fn hit(entry: u32) {
    if let Some(counter) = HITS.get_ptr_mut(entry) {
        // SAFETY: an aligned entry of a per-CPU array that lives as long as the program. Atomic because a softirq or,
        // on preemptible kernels, another task may run a program on this CPU in between.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1) };
    }
}
