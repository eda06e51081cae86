//! Lengths of time as people write them: `90s`, `2h`, `1d 12h`.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

/// Ten years: what is meant to last longer has no end.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Reads a length of time. A day is 24 hours.
///
/// # Errors
/// If it is none, is not above zero, or is longer than ten years.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let span = text
        .parse::<Span>()
        .map_err(|_error| format!("'{text}' is no length of time such as 90s, 2h or 1d"))?;
    let days = SpanRelativeTo::days_are_24_hours();
    let exact = span.to_duration(days).map_err(|_error| {
        format!("months and years have no fixed length: write '{text}' in days")
    })?;
    match Duration::try_from(exact) {
        Ok(Duration::ZERO) | Err(_) => Err(format!("'{text}' is not above zero")),
        Ok(duration) if duration > LONGEST => Err(format!("'{text}' is longer than ten years")),
        Ok(duration) => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read() {
        for (text, seconds) in [
            ("90s", 90),
            ("2h", 7200),
            ("1d", 86_400),
            ("1d 12h", 129_600),
            ("1w", 604_800),
            ("1h30m", 5400),
            ("PT5M", 300),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("1500ms"), Ok(Duration::from_millis(1500)));
    }

    #[test]
    fn what_is_none_is_told() {
        for (text, said) in [
            ("", "'' is no length of time such as 90s, 2h or 1d"),
            ("5", "'5' is no length of time such as 90s, 2h or 1d"),
            ("soon", "'soon' is no length of time such as 90s, 2h or 1d"),
            ("0s", "'0s' is not above zero"),
            ("-5m", "'-5m' is not above zero"),
            ("1y", "months and years have no fixed length: write '1y' in days"),
            ("4000d", "'4000d' is longer than ten years"),
        ] {
            assert_eq!(parse(text), Err(said.to_owned()));
        }
    }
}
