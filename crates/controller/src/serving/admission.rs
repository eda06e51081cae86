//! Who may come in now: a bucket of tokens, so that a storm of hosts that come back is let in as fast as handshakes can
//! be made, and no faster.

/// Whether a connection is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is.
    Welcome,
    /// The handshake is made, and it is told to come again after so many milliseconds.
    Later(u64),
    /// It is closed at once, without a handshake: there are too many to be told anything.
    Closed,
}

/// A bucket that fills at a rate. Times are milliseconds by a clock that never goes back.
#[derive(Clone, Debug)]
pub struct Gate {
    per_second: u32,
    /// Thousandths of a token.
    tokens: u64,
    /// The same for those that are told to come again.
    answers: u64,
    last_ms: u64,
    /// When the next one that is sent away should come, in thousandths of a millisecond.
    booked_us: u64,
}

/// One in so many that are let in may be told to come again.
const ANSWERS_SHARE: u64 = 4;

impl Gate {
    /// Lets in so many a second, and so many at once.
    pub fn new(per_second: u32, now_ms: u64) -> Self {
        let full = u64::from(per_second.max(1)) * 1_000;
        let answers = full / ANSWERS_SHARE;
        Self { per_second: per_second.max(1), tokens: full, answers, last_ms: now_ms, booked_us: 0 }
    }

    /// Whether one more is let in. Those that are sent away get a place in time each, at the same rate, and `draw`, any
    /// number, spreads them over half a second more.
    pub fn admit(&mut self, now_ms: u64, draw: u64) -> Admission {
        let rate = u64::from(self.per_second);
        let passed = now_ms.saturating_sub(self.last_ms).min(1_000);
        self.last_ms = self.last_ms.max(now_ms);
        self.tokens = (self.tokens + passed * rate).min(rate * 1_000);
        self.answers = (self.answers + passed * rate / ANSWERS_SHARE).min(rate * 1_000);
        if let Some(left) = self.tokens.checked_sub(1_000) {
            self.tokens = left;
            return Admission::Welcome;
        }
        let Some(left) = self.answers.checked_sub(1_000) else { return Admission::Closed };
        self.answers = left;
        let earliest = now_ms.saturating_mul(1_000).saturating_add(1_000_000);
        self.booked_us = self.booked_us.max(earliest).saturating_add(1_000_000 / rate);
        Admission::Later(self.booked_us / 1_000 - now_ms + draw % 500)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_let_in_at_the_rate_and_the_others_get_a_place_each() {
        let mut gate = Gate::new(100, 5_000);
        let answers: Vec<Admission> = (0..200).map(|draw| gate.admit(5_000, draw)).collect();
        assert_eq!(answers.iter().filter(|it| **it == Admission::Welcome).count(), 100);
        assert_eq!(answers.iter().filter(|it| **it == Admission::Closed).count(), 75);
        let later = |it: &Admission| if let Admission::Later(ms) = it { Some(*ms) } else { None };
        let later: Vec<u64> = answers.iter().filter_map(later).collect();
        assert!(later.iter().all(|ms| (1_000..2_000).contains(ms)), "{later:?}");
        assert!((0..10).all(|_| gate.admit(5_100, 0) == Admission::Welcome));
        assert_ne!(gate.admit(5_100, 0), Admission::Welcome);
        assert_eq!(gate.admit(90_000, 0), Admission::Welcome);
    }
}
