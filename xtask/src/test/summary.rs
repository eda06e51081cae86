//! Counting what two test runners say they ran.

use std::ops::Add;

/// Tests by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Those that held.
    pub passed: u64,
    /// Those that did not, by whatever end: a failure, a timeout, a signal.
    pub failed: u64,
}

impl Summary {
    /// What one line of a runner's output adds. Lines that are not a summary add nothing.
    ///
    /// nextest: `Summary [ 1.2s] 22 tests run: 20 passed (1 slow), 1 failed, 1 timed out, 3 skipped`;
    /// libtest: `test result: ok. 5 passed; 0 failed; 0 ignored; ...`.
    pub(super) fn of_line(line: &str) -> Self {
        let line = line.trim_start();
        // A test's own output may be a whole run's; only a line that begins like a summary counts.
        let counts = if let Some(rest) = line.strip_prefix("test result: ") {
            rest.split_once(". ").map(|(_, counts)| counts)
        } else if line.starts_with("Summary [") {
            line.split_once(" run: ").map(|(_, counts)| counts)
        } else {
            None
        };
        let mut summary = Self::default();
        for part in counts.unwrap_or_default().split([',', ';']) {
            let Some((number, outcome)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            if outcome.starts_with("passed") {
                summary.passed += number;
            } else if ["failed", "timed out", "exec failed"]
                .iter()
                .any(|bad| outcome.starts_with(bad))
            {
                summary.failed += number;
            }
        }
        summary
    }
}

impl Add for Summary {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_runners_summaries_are_understood() {
        for (line, passed, failed) in [
            ("     Summary [   2.576s] 22 tests run: 22 passed, 0 skipped", 22, 0),
            (
                "     Summary [   0.328s] 14/22 tests run: 13 passed (2 slow), 1 failed, 1 timed out, 0 skipped",
                13,
                2,
            ),
            ("     Summary [   0.001s] 1 test run: 0 passed, 1 exec failed, 5 skipped", 0, 1),
            (
                "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.07s",
                5,
                0,
            ),
            (
                "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out",
                12,
                3,
            ),
            ("        PASS [   0.004s] ( 1/22) testbed it_passed", 0, 0),
            ("running 5 tests", 0, 0),
            ("3 passed, 4 failed", 0, 0),
        ] {
            assert_eq!(Summary::of_line(line), Summary { passed, failed }, "{line}");
        }
    }
}
