//! Counting what two test runners say they ran.

use std::ops::Add;

/// Who prints the summary. Tests print too, even whole summaries of the other runner, so one must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runner {
    /// `Summary [ 1.2s] 22 tests run: 20 passed (1 slow), 1 failed, 1 timed out, 3 skipped`
    Nextest,
    /// `test result: ok. 5 passed; 0 failed; 0 ignored; ...`, once for every test binary
    Libtest,
}

/// Tests by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Those that held.
    pub passed: u64,
    /// Those that did not, by whatever end: a failure, a timeout, a signal.
    pub failed: u64,
}

impl Summary {
    /// What one line of `runner`'s output adds. Lines that are not its summary add nothing.
    pub(super) fn of_line(runner: Runner, line: &str) -> Self {
        let counts = match runner {
            Runner::Nextest => {
                line.strip_prefix("     Summary [").and_then(|rest| rest.split_once(" run: "))
            }
            Runner::Libtest => {
                line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
            }
        };
        let counts = counts.map(|(_, counts)| counts);
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
    fn each_runner_s_summary_is_understood_and_nothing_else() {
        use Runner::{Libtest, Nextest};
        for (runner, line, passed, failed) in [
            (Nextest, "     Summary [   2.576s] 22 tests run: 22 passed, 0 skipped", 22, 0),
            (
                Nextest,
                "     Summary [ 0.3s] 14/22 tests run: 13 passed (2 slow), 1 failed, 1 timed out, 0 skipped",
                13,
                2,
            ),
            (
                Nextest,
                "     Summary [   0.001s] 1 test run: 0 passed, 1 exec failed, 5 skipped",
                0,
                1,
            ),
            (
                Libtest,
                "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
                5,
                0,
            ),
            (
                Libtest,
                "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out",
                12,
                3,
            ),
            (
                Nextest,
                "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 1 filtered out",
                0,
                0,
            ),
            (Libtest, "     Summary [   2.576s] 22 tests run: 22 passed, 0 skipped", 0, 0),
            (Nextest, "        PASS [   0.004s] ( 1/22) testbed it_passed", 0, 0),
            (Libtest, "running 5 tests", 0, 0),
            (Libtest, "3 passed, 4 failed", 0, 0),
        ] {
            assert_eq!(Summary::of_line(runner, line), Summary { passed, failed }, "{line}");
        }
    }
}
