//! When to connect again: full jitter, so that a fleet whose controller was gone does not come back as one.

/// The first wait is up to this long.
const FIRST_MS: u64 = 1_000;
/// No wait is longer, unless somebody was sent away for longer.
const MOST_MS: u64 = 60_000;
/// No wait is longer while nobody is reached: a partition that heals is noticed within five seconds, and an attempt that
/// nobody takes costs a controller nothing.
const UNREACHED_MOST_MS: u64 = 3_000;

/// How often it did not work.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    failures: u32,
    /// Somebody was told not to come before.
    not_before: u64,
    random: u64,
}

impl Backoff {
    pub(super) const fn new(seed: u64) -> Self {
        Self { failures: 0, not_before: 0, random: seed }
    }

    /// It works.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next wait has at least so many milliseconds.
    pub(super) const fn not_before(&mut self, wait_ms: u64) {
        self.not_before = wait_ms;
    }

    /// How long to wait: anything up to a second, then up to twice as long each time, up to a minute.
    pub(super) fn next_ms(&mut self) -> u64 {
        let most = self.most_ms(MOST_MS);
        self.failures = (self.failures + 1).min(u32::BITS);
        self.wait_ms(most)
    }

    /// The same where nobody was reached: no more than three seconds. Whoever is reached then and has no time for all of
    /// them is another matter: how often nobody was there says nothing of that.
    pub(super) fn unreached_ms(&mut self) -> u64 {
        let most = self.most_ms(UNREACHED_MOST_MS);
        if most < UNREACHED_MOST_MS {
            self.failures += 1;
        }
        self.wait_ms(most)
    }

    fn most_ms(&self, most: u64) -> u64 {
        FIRST_MS.checked_shl(self.failures).map_or(most, |grown| grown.min(most))
    }

    fn wait_ms(&mut self, most: u64) -> u64 {
        // Not all of those who were sent away come at the same moment either.
        std::mem::take(&mut self.not_before) + self.random() % (most + 1)
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014): good enough to spread, and nothing more depends on it.
    const fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_are_spread() {
        let waits = |failures: usize| {
            let wait = |seed| {
                let mut backoff = Backoff::new(seed);
                (0..=failures).map(|_| backoff.next_ms()).last().unwrap()
            };
            (0..1_000).map(wait).collect::<Vec<_>>()
        };
        for (failures, most) in [(0, 1_000), (1, 2_000), (5, 32_000), (6, 60_000), (90, 60_000)] {
            let waits = waits(failures);
            let longest = *waits.iter().max().unwrap();
            assert!(most * 9 / 10 < longest && longest <= most, "{failures}: {longest}");
            assert!(*waits.iter().min().unwrap() < most / 10, "{failures}");
            let mean = waits.iter().sum::<u64>() / 1_000;
            assert!((most * 45 / 100..most * 55 / 100).contains(&mean), "{failures}: {mean}");
        }
    }

    #[test]
    fn who_reaches_nobody_tries_again_within_seconds_and_is_patient_with_those_who_are_there() {
        let mut backoff = Backoff::new(7);
        let waits: Vec<_> = (0..1_000).map(|_| backoff.unreached_ms()).collect();
        assert!((2_900..=3_000).contains(waits.iter().max().unwrap()));
        assert!(backoff.next_ms() <= 4_000, "one failure more than two");
        let longest = (0..1_000).map(|_| backoff.next_ms()).max().unwrap();
        assert!((59_000..=60_000).contains(&longest));
        assert!(backoff.unreached_ms() <= 3_000);
    }

    #[test]
    fn who_is_sent_away_stays_away() {
        let mut backoff = Backoff::new(7);
        backoff.not_before(90_000);
        assert!((90_000..=91_000).contains(&backoff.next_ms()));
        assert!(backoff.next_ms() <= 2_000);
        backoff.reset();
        assert!(backoff.next_ms() <= 1_000);
    }
}
