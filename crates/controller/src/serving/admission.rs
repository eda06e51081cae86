//! Who may come in now: a bucket of tokens, so that a storm of hosts that come back is let in as fast as handshakes can
//! be made, and no faster. Whoever is too early is not sent away, which would cost a handshake and one of his tickets: he
//! waits in the queue of the listener, and where that is full his kernel asks again (SYN, after 1, 3, 7 seconds).

/// A bucket that fills at a rate, up to half a second's worth. Times are microseconds by a clock that never goes back.
#[derive(Clone, Debug)]
pub struct Gate {
    per_second: u64,
    /// Millionths of a token.
    tokens: u64,
    last_us: u64,
}

/// Millionths in one.
const ONE: u64 = 1_000_000;

impl Gate {
    /// Lets in so many a second.
    pub fn new(per_second: u32, now_us: u64) -> Self {
        let per_second = u64::from(per_second.max(1));
        Self { per_second, tokens: Self::full(per_second), last_us: now_us }
    }

    fn full(per_second: u64) -> u64 {
        (per_second * ONE / 2).max(ONE)
    }

    /// Lets one more in.
    ///
    /// # Errors
    /// If it is too early, in how many microseconds it is not.
    pub fn admit(&mut self, now_us: u64) -> Result<(), u64> {
        let passed = now_us.saturating_sub(self.last_us).min(ONE);
        self.last_us = self.last_us.max(now_us);
        self.tokens = (self.tokens + passed * self.per_second).min(Self::full(self.per_second));
        match self.tokens.checked_sub(ONE) {
            Some(left) => {
                self.tokens = left;
                Ok(())
            }
            None => Err((ONE - self.tokens).div_ceil(self.per_second)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_let_in_at_the_rate() {
        let (mut gate, mut now, mut times) = (Gate::new(100, 5_000_000), 5_000_000, Vec::new());
        for _ in 0..200 {
            while let Err(wait) = gate.admit(now) {
                assert!((1..=10_000).contains(&wait), "{wait}");
                now += wait;
            }
            times.push(now);
        }
        assert_eq!(times[49], 5_000_000);
        assert_eq!(times[199] - times[50], 149 * 10_000);
        // A pause fills the bucket, and no more than that.
        now += 90_000_000;
        assert_eq!((0..100).filter(|_| gate.admit(now).is_ok()).count(), 50);
    }
}
