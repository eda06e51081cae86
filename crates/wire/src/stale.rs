//! How old a policy is: fresh until its timestamp expires, then stale, then too old.
//!
//! A stale policy stays in force. Whoever enforces it raises an alarm, and does what the root says once it is too old.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::root::MaxStale;

/// What is done with a policy that is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// It stays in force, and the alarm with it.
    Keep,
    /// Only the failsafe set is allowed until a fresh one comes.
    Lockdown,
}

/// Until when a policy is fresh, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freshness {
    /// When the first of what vouches for it expires.
    pub until: Timestamp,
    /// What the root says of stale policies.
    pub max_stale: Option<MaxStale>,
}

/// What a policy is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// It is vouched for.
    Fresh,
    /// It is not any more: it stays in force, with an alarm.
    Stale,
    /// It has not been for longer than the root allows, which says what to do.
    TooOld(Then),
}

impl Freshness {
    /// What the policy is at `now`.
    pub fn at(&self, now: Timestamp) -> Stale {
        if now < self.until {
            return Stale::Fresh;
        }
        match (self.max_stale, self.too_old_at()) {
            (Some(max), Some(end)) if end <= now => Stale::TooOld(max.then),
            _ => Stale::Stale,
        }
    }

    /// When the policy is too old; `None` if it never is.
    pub fn too_old_at(&self) -> Option<Timestamp> {
        let max = self.max_stale?;
        let seconds = SignedDuration::from_secs(max.seconds.into());
        Some(self.until.saturating_add(seconds).unwrap_or(Timestamp::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_ages() {
        let until: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        let at = |freshness: Freshness, seconds| {
            freshness.at(until.checked_add(SignedDuration::from_secs(seconds)).unwrap())
        };
        let forever = Freshness { until, max_stale: None };
        assert_eq!(
            [-1, 0, 1_000_000].map(|s| at(forever, s)),
            [Stale::Fresh, Stale::Stale, Stale::Stale]
        );
        for then in [Then::Keep, Then::Lockdown] {
            let day = Freshness { until, max_stale: Some(MaxStale { seconds: 86_400, then }) };
            let found = [-1, 0, 86_399, 86_400].map(|s| at(day, s));
            assert_eq!(found, [Stale::Fresh, Stale::Stale, Stale::Stale, Stale::TooOld(then)]);
        }
    }
}
