//! The limits of one analysis, as named constants with their units. What breaks one is refused by name: an answer that
//! left something out would not be exact.

/// Kinds of hosts that the policies tell apart.
pub const KINDS_MAX: usize = 20_000;
/// Kinds of places (addresses of hosts, and outside) that behave differently; all pairs of them are looked at.
pub const SPOTS_MAX: usize = 4_096;
/// Kinds of processes that the rules tell apart at one end.
pub const PROCESSES_MAX: usize = 4_096;
/// Rules, failsafe lines and defaults of one set of policies.
pub const CLAUSES_MAX: usize = 100_000;
/// Pairs of an allowing and a denying rule of one tier that mean some flows in common.
pub const PAIRS_MAX: usize = 1_000_000;
/// Steps of one analysis; a step takes some nanoseconds, such as a comparison of 64 rules, so all of them some ten
/// seconds.
pub const STEPS_MAX: usize = 2_000_000_000;
