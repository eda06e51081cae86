//! Counts what speaks of somebody who hides; user space shows it.

use verdict::abi::Evidence;

use crate::maps::EVIDENCE;

/// A stamp or claim did not fit on its socket.
#[inline(always)]
pub(crate) fn refused() {
    count(|evidence| evidence.refused += 1);
}

/// A rule asks for the process, and nobody knows it.
#[inline(always)]
pub(crate) fn unknown() {
    count(|evidence| evidence.unknown += 1);
}

/// Somebody tried to take away what is guarded.
#[inline(always)]
pub(crate) fn guarded() {
    count(|evidence| evidence.guarded += 1);
}

#[inline(always)]
fn count(one: impl Fn(&mut Evidence)) {
    if let Some(evidence) = EVIDENCE.get_ptr_mut(0) {
        // SAFETY: this CPU's value of a per-CPU array, aligned, alive as long as the program. Two programs that meet on
        // one CPU may lose a count of each other: it is evidence, not a bill.
        one(unsafe { &mut *evidence });
    }
}
