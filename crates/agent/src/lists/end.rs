//! When an entry ends, by a clock that nobody can set.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The time, as three readings taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the clock on the wall, which can be set.
    pub wall: Timestamp,
    /// By the clock that counts from the boot, sleep included, and cannot be set: nanoseconds of `CLOCK_BOOTTIME`, as
    /// the kernel programs read it.
    pub boottime_ns: u64,
    /// Which boot that is (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
}

/// Ends fall on whole seconds, so that entries which are added together end together, and are tidied up at once.
const GRAIN_NS: u64 = 1_000_000_000;

impl Moment {
    /// When the clock on the wall will show `wall`, by `CLOCK_BOOTTIME`; in the past, now.
    pub fn boottime_of(&self, wall: Timestamp) -> u64 {
        let left = wall.duration_since(self.wall).as_nanos().max(0);
        self.boottime_ns.saturating_add(u64::try_from(left).unwrap_or(u64::MAX))
    }
}

/// What is beyond the end of time is cut to it.
fn after(wall: Timestamp, nanoseconds: u64) -> Timestamp {
    let passed = SignedDuration::from_nanos(i64::try_from(nanoseconds).unwrap_or(i64::MAX));
    wall.saturating_add(passed).unwrap_or(Timestamp::MAX)
}

/// The end of an entry.
///
/// In the boot in which it was set, `CLOCK_BOOTTIME` decides, so that setting the clock changes nothing. After another
/// boot only the clock on the wall is left; should it have been set back, the entry still lasts no longer than it was
/// meant to from the beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// By the clock on the wall.
    pub at: Timestamp,
    /// For how long it was set, in nanoseconds.
    pub lasts_ns: u64,
    /// By `CLOCK_BOOTTIME` in [`boot`](Self::boot), in nanoseconds.
    pub until_boottime_ns: u64,
    /// The boot in which it was set.
    pub boot: String,
}

impl End {
    /// `lasts_ns` nanoseconds after `now`, and on to the next whole second of `CLOCK_BOOTTIME`. What is beyond the
    /// clocks' ends is cut to them.
    pub fn after(now: &Moment, lasts_ns: u64) -> Self {
        let until = now.boottime_ns.saturating_add(lasts_ns);
        let until_boottime_ns = until.checked_next_multiple_of(GRAIN_NS).unwrap_or(until);
        let lasts_ns = until_boottime_ns - now.boottime_ns;
        Self { at: after(now.wall, lasts_ns), lasts_ns, until_boottime_ns, boot: now.boot.clone() }
    }

    /// The end by the `CLOCK_BOOTTIME` of the present boot, in nanoseconds; never beyond `lasts_ns` from now.
    pub fn boottime_ns(&self, now: &Moment) -> u64 {
        if self.boot == now.boot {
            return self.until_boottime_ns;
        }
        now.boottime_of(self.at).min(now.boottime_ns.saturating_add(self.lasts_ns))
    }

    /// Whether it is over.
    pub fn is_over(&self, now: &Moment) -> bool {
        self.boottime_ns(now) <= now.boottime_ns
    }

    /// The same end as the present boot counts it. What is read from disk after a boot is settled once, or a clock that
    /// is set back later would move it.
    #[must_use]
    pub fn settled(&self, now: &Moment) -> Self {
        Self { until_boottime_ns: self.boottime_ns(now), boot: now.boot.clone(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    fn moment(boot: &str, wall_hours: i64, boottime_hours: u64) -> Moment {
        Moment {
            wall: Timestamp::from_second(1_800_000_000 + 3600 * wall_hours).unwrap(),
            boottime_ns: boottime_hours * HOUR,
            boot: boot.to_owned(),
        }
    }

    #[test]
    fn setting_the_clock_moves_no_end() {
        let end = End::after(&moment("first", 0, 10), 2 * HOUR);
        for (boot, wall, boottime, over) in [
            ("first", 1, 11, false),
            ("first", 2, 12, true),
            // set back by a year, and forward by one
            ("first", -8760, 11, false),
            ("first", -8760, 12, true),
            ("first", 8760, 11, false),
            // another boot: the wall is all there is
            ("second", 1, 0, false),
            ("second", 2, 0, true),
            ("second", 8760, 0, true),
        ] {
            assert_eq!(
                end.is_over(&moment(boot, wall, boottime)),
                over,
                "{boot} {wall} {boottime}"
            );
        }
    }

    #[test]
    fn after_a_boot_with_the_clock_set_back_it_lasts_no_longer_than_from_the_beginning() {
        let end = End::after(&moment("first", 0, 10), 2 * HOUR);
        let booted = moment("second", -8760, 1);
        let settled = end.settled(&booted);
        assert!(!settled.is_over(&booted));
        assert!(settled.is_over(&moment("second", -8759, 3)));
        assert_eq!(settled.settled(&moment("second", 5, 2)), settled);
    }
}
