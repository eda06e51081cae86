//! The limits of a controller, as named constants with their units.

/// Hosts that a canary's selector may select, whose ids stand in the rollout's record: some 400 KiB.
pub const PICKED_MAX: usize = 10_000;
/// The shortest time that a new version can be tried: a host that is told has to answer within it.
pub const CONFIRM_S_MIN: u64 = 10;
/// The longest: seven days.
pub const CONFIRM_S_MAX: u64 = 7 * 86_400;
/// Records of versions that are kept, with or without their documents; older ones go when a new one comes.
pub const VERSIONS_KEPT: usize = 1_000;
/// Versions that hosts may be left with because nothing that concerns them has changed since. When there is one more, all
/// hosts are told of the newest.
pub const STEPS_MAX: usize = 128;
/// Seconds for which a token to enrol can be valid at most: seven days.
pub const TOKEN_S_MAX: u64 = 7 * 86_400;
/// Addresses of one host: each is a record of its own, and one batch has to hold those it gives up and those it takes.
pub const ADDRESSES_MAX: usize = 32;
/// Names of one host besides its id, by the same reason.
pub const NAMES_MAX: usize = 16;
