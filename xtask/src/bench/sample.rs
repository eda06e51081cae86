//! What a measurement of connections gives, and what many of them lie between.

use serde::{Deserialize, Serialize};

/// Medians of one measurement, in nanoseconds, as tcpcost prints them.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Sample {
    pub connect_ns: f64,
    pub cycle_ns: f64,
}

/// A median over the rounds and what it lies between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl FromIterator<f64> for Spread {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        match (values.first(), middle(&values), values.last()) {
            (Some(&min), Some(median), Some(&max)) => Self { median, min, max },
            _ => Self::default(),
        }
    }
}

impl Spread {
    /// With one digit behind the point.
    pub(super) fn shown(self) -> String {
        format!("{:.1} [{:.1} to {:.1}]", self.median, self.min, self.max)
    }
}

/// The median; of an even number of values, the mean of the two in the middle.
pub(super) fn middle(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_is_between_two() {
        assert_eq!(middle(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(middle(&[]), None);
        let spread: Spread = [3.0, 1.0, 2.0].into_iter().collect();
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::from_iter([]), Spread::default());
    }
}
