//! Spans of time as they are typed: `90s`, `10m`, `2h 30m`, `7d`.

use std::{str::FromStr, time::Duration};

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};

/// A span of time, a day of which has 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ago(Duration);

/// Why a text is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a span of time: 90s, 10m, '2h 30m' and 7d are")]
pub(crate) struct BadSpan(String);

impl Ago {
    /// How long it is.
    pub(crate) fn duration(self) -> Duration {
        self.0
    }

    /// The moment that long before `now`.
    ///
    /// # Errors
    /// Where there was no such time.
    pub(crate) fn before(self, now: Timestamp) -> anyhow::Result<Timestamp> {
        let span = SignedDuration::try_from(self.0).context("look that far back")?;
        now.checked_sub(span).context("look that far back")
    }
}

impl FromStr for Ago {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Self, BadSpan> {
        let bad = || BadSpan(text.to_owned());
        let mut seconds = 0u64;
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            let (number, after) = rest.split_at_checked(digits).ok_or_else(bad)?;
            let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, after) = after.split_at_checked(letters).ok_or_else(bad)?;
            let length = match unit {
                "s" | "sec" | "seconds" => 1,
                "m" | "min" | "minutes" => 60,
                "h" | "hour" | "hours" => 3_600,
                "d" | "day" | "days" => 86_400,
                "w" | "week" | "weeks" => 604_800,
                _ => return Err(bad()),
            };
            let number: u64 = number.parse().map_err(|_none| bad())?;
            seconds = number
                .checked_mul(length)
                .and_then(|more| seconds.checked_add(more))
                .ok_or_else(bad)?;
            rest = after.trim_start();
        }
        Ok(Self(Duration::from_secs(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_sums_of_numbers_with_units() {
        let seconds = |text: &str| text.parse::<Ago>().ok().map(|ago| ago.duration().as_secs());
        let rows = [
            ("90s", Some(90)),
            ("10m", Some(600)),
            ("2h 30m", Some(9_000)),
            ("2h30m", Some(9_000)),
            ("7d", Some(604_800)),
            ("1w", Some(604_800)),
            ("0s", Some(0)),
            ("10", None),
            ("", None),
            ("m", None),
            ("10y", None),
            ("-1m", None),
            ("99999999999999999999d", None),
            ("9999999999999999999d", None),
        ];
        for (text, wanted) in rows {
            assert_eq!(seconds(text), wanted, "{text}");
        }
    }
}
