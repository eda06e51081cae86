//! From a flow to a return code, the same way for every hook.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::helpers::generated::bpf_set_retval;
use verdict::{
    Decision, Flow, RuleNumber, Subject,
    abi::{FEATURE_RETVAL, Hook, Owner, REPORT_ALLOWED, REPORT_FLOWS, SLOTS},
    closed, decide,
    layout::{FLAG_LOG, FLAG_SUBJECTS, RULE_LOG, RULE_REFUSE},
    rule_flags,
};

use crate::{
    answers::{answers, goes_on, remember},
    flows::tally,
    identity::subject,
    maps::{HITS, Slot, has, slot_rules},
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
    /// Whose socket it is.
    fn owner(&self) -> Owner;
    /// The socket's cookie; 0 where there is none.
    fn socket(&self) -> u64;
    /// The network namespace's cookie.
    fn netns(&self) -> u64;

    /// The process, where a rule of the image asks for one.
    #[inline(always)]
    fn subject(&self, slot: &Slot) -> Subject {
        if slot.flags & FLAG_SUBJECTS == 0 { Subject::UNKNOWN } else { subject(&self.owner()) }
    }
}

/// Judges, counts and reports a flow; `true` is allowed. An answer to an allowed datagram passes uncounted.
#[inline(always)]
pub(crate) fn allowed(slot: &Slot, flow: &Flow, witness: &impl Witness) -> (bool, Decision) {
    let decision = decide(flow, slot);
    if decision.denies() && answers(slot, flow, &decision, witness) {
        return (true, decision);
    }
    count(slot, &decision);
    let counted = slot.report & REPORT_FLOWS != 0;
    if counted && (decision.denies() || !goes_on(slot, flow, witness)) {
        tally(slot, flow, &decision, witness);
    }
    if !decision.denies() {
        remember(slot, flow, witness);
    }
    let wanted = decision.denies()
        || slot.report & REPORT_ALLOWED != 0
        || slot.flags & FLAG_LOG != 0 && rule_flags(decision.enforced.rule, slot) & RULE_LOG != 0
        || decision.would.verdict as u8 != decision.enforced.verdict as u8;
    if wanted {
        report(slot, flow, &decision, witness);
    }
    (!decision.denies(), decision)
}

/// Judges a claim on a local port: refused where no peer at all could be accepted.
#[inline(always)]
pub(crate) fn claim_allowed(slot: &Slot, flow: &Flow, witness: &impl Witness) -> bool {
    if !closed(flow, slot) {
        return true;
    }
    let decision = decide(flow, slot);
    count(slot, &decision);
    report(slot, flow, &decision, witness);
    false
}

/// The return code of a cgroup hook for a denied call, with the errno that the deciding rule asks for.
#[inline(always)]
pub(crate) fn refuse(slot: &Slot, rule: RuleNumber) -> i32 {
    if has(FEATURE_RETVAL) {
        let errno = if rule_flags(rule, slot) & RULE_REFUSE != 0 { ECONNREFUSED } else { EACCES };
        // SAFETY: a helper without pointers.
        unsafe { bpf_set_retval(-errno) };
    }
    REFUSE
}

/// Exact: no count is lost, whatever interrupts whom. The would-be verdict counts where another rule would make it.
#[inline(always)]
fn count(slot: &Slot, decision: &Decision) {
    let rules = slot_rules();
    let first = slot.number() * rules;
    hit(first + u32::from(decision.enforced.rule.0));
    if decision.would.rule.0 != decision.enforced.rule.0 {
        hit(first + SLOTS * rules + u32::from(decision.would.rule.0));
    }
}

#[inline(always)]
fn hit(entry: u32) {
    if let Some(counter) = HITS.get_ptr_mut(entry) {
        // SAFETY: an aligned entry of a per-CPU array that lives as long as the program. Atomic because a softirq or,
        // on preemptible kernels, another task may run a program on this CPU in between.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1) };
    }
}
