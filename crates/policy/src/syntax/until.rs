//! When a rule ends.

use std::{borrow::Cow, fmt, str::FromStr};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// When a rule ends: after a day, or at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Until {
    /// `2027-01-31`: with the end of that day in UTC.
    Day(Date),
    /// `2027-01-31T18:00:00Z`: at that moment (RFC 3339).
    Moment(Timestamp),
}

/// Why a text is not such a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a day (2027-01-31) nor a moment in UTC (2027-01-31T18:00:00Z)")]
pub struct UntilError(pub String);

impl Until {
    /// The first moment at which the rule does not hold any more.
    pub fn ends_at(self) -> Timestamp {
        match self {
            Self::Day(day) => day
                .tomorrow()
                .and_then(|next| next.to_zoned(TimeZone::UTC))
                .map_or(Timestamp::MAX, |midnight| midnight.timestamp()),
            Self::Moment(moment) => moment,
        }
    }
}

impl FromStr for Until {
    type Err = UntilError;

    fn from_str(text: &str) -> Result<Self, UntilError> {
        let fault = || UntilError(text.to_owned());
        let until = if text.contains('T') {
            Self::Moment(text.parse().map_err(|_malformed| fault())?)
        } else {
            Self::Day(text.parse().map_err(|_malformed| fault())?)
        };
        // jiff reads more spellings (20270131); one concept has one spelling here.
        let one_spelling = matches!(until, Self::Moment(_)) || until.to_string() == text;
        if one_spelling { Ok(until) } else { Err(fault()) }
    }
}

impl fmt::Display for Until {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day(day) => day.fmt(to),
            Self::Moment(moment) => moment.fmt(to),
        }
    }
}

impl TryFrom<String> for Until {
    type Error = UntilError;

    fn try_from(text: String) -> Result<Self, UntilError> {
        text.parse()
    }
}

impl From<Until> for String {
    fn from(until: Until) -> Self {
        until.to_string()
    }
}

impl JsonSchema for Until {
    fn schema_name() -> Cow<'static, str> {
        "Until".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A day, which is included (2027-01-31), or a moment (2027-01-31T18:00:00Z).",
            "type": "string",
            "minLength": 10,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_included() {
        let until: Until = "2027-01-31".parse().unwrap();
        assert_eq!(until.ends_at(), "2027-02-01T00:00:00Z".parse::<Timestamp>().unwrap());
        let moment: Until = "2027-01-31T18:00:00Z".parse().unwrap();
        assert_eq!(moment.ends_at(), "2027-01-31T18:00:00Z".parse::<Timestamp>().unwrap());
        assert_eq!(moment.to_string(), "2027-01-31T18:00:00Z");
        for fault in ["2027-02-29", "20270131", "31.1.2027", "2027-01-31T", ""] {
            assert!(fault.parse::<Until>().is_err(), "{fault}");
        }
    }
}
