//! The clocks: on the wall, since the boot, and which boot that is.

use std::fs;

use ::agent::{lists::Moment, machine};
use anyhow::Context;
use jiff::{Timestamp, Unit};
use kernel::boottime;

/// Names the boot (random(4)).
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Which boot this is.
///
/// # Errors
/// Where the kernel does not tell.
pub(crate) fn boot() -> anyhow::Result<String> {
    Ok(fs::read_to_string(BOOT).context(BOOT)?.trim().to_owned())
}

/// What the clocks show now.
pub(crate) fn now(boot: &str) -> Moment {
    Moment { wall: Timestamp::now(), boottime_ns: boottime(), boot: boot.to_owned() }
}

/// The same without the wall.
pub(crate) fn counted(moment: &Moment) -> machine::Moment<'_> {
    machine::Moment { boottime_ns: moment.boottime_ns, boot: &moment.boot }
}

/// When CLOCK_BOOTTIME will show `boottime_ns`, by the clock on the wall, to the millisecond: no two readings of both
/// clocks agree on more.
pub(crate) fn wall_of(boottime_ns: u64, now: &Moment) -> Timestamp {
    let left = i128::from(boottime_ns) - i128::from(now.boottime_ns);
    let left = jiff::SignedDuration::from_nanos(i64::try_from(left).unwrap_or(i64::MAX));
    let wall = now.wall.saturating_add(left).unwrap_or(Timestamp::MAX);
    wall.round(Unit::Millisecond).unwrap_or(wall)
}
