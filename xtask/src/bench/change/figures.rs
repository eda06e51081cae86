//! From changes to medians, a table and JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::bench::sample::Spread;

/// One change, once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub what: &'static str,
    /// From the command's start until a connection was refused; none where nothing reads what changed.
    pub visible_ms: Option<f64>,
    /// From the command's start to its end.
    pub answered_ms: f64,
}

#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    visible_ms: Option<Spread>,
    answered_ms: Spread,
}

/// One change beside another.
#[derive(Debug, Serialize)]
struct Target {
    what: &'static str,
    at_least: f64,
    reached: Option<f64>,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    kernel: String,
    rounds: usize,
    changes: Vec<Row>,
    targets: Vec<Target>,
}

/// What was aimed at: how many times as long the second takes as the first.
const TARGETS: [(&str, f64, &str, &str); 3] = [
    (
        "one prefix, sooner than in an nft interval set of 100,000: times",
        1_000.0,
        "fwnet deny add, nothing else in force",
        "nft add element, interval set of 100,000",
    ),
    (
        "one prefix with 1,000,000 in force, sooner than in an nft interval set of 100,000: times",
        1_000.0,
        "fwnet deny add, 1,000,000 in force",
        "nft add element, interval set of 100,000",
    ),
    (
        "1,000,000 prefixes, sooner than filling an LPM trie: times",
        3.0,
        "fwnet list import, 1,000,000 prefixes",
        "BPF_MAP_TYPE_LPM_TRIE, 1,000,000 updates",
    ),
];

impl Row {
    /// Until it is in force.
    fn time_ms(&self) -> f64 {
        self.visible_ms.unwrap_or(self.answered_ms).median
    }
}

impl Figures {
    pub(super) fn of(rounds: &[Vec<Change>]) -> Self {
        let names = rounds.first().into_iter().flatten().map(|change| change.what);
        let row = |what| {
            let all = || rounds.iter().flatten().filter(move |change| change.what == what);
            let seen: Option<Vec<f64>> = all().map(|change| change.visible_ms).collect();
            Row {
                what,
                visible_ms: seen.map(|seen| seen.into_iter().collect()),
                answered_ms: all().map(|change| change.answered_ms).collect(),
            }
        };
        let changes: Vec<Row> = names.map(row).collect();
        let find = |what: &str| changes.iter().find(|row| row.what == what).map(Row::time_ms);
        let target = |&(what, at_least, ours, theirs): &(&'static str, f64, &str, &str)| Target {
            what,
            at_least,
            reached: find(theirs).zip(find(ours)).map(|(theirs, ours)| theirs / ours),
        };
        let targets = TARGETS.iter().map(target).collect();
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            rounds: rounds.len(),
            changes,
            targets,
        }
    }

    /// For people; Markdown, so that it can be pasted.
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "Linux {}, {} rounds; median [min to max]\n\n| change | in force after, ms | answered after, ms |\n|---|---|---|\n",
            self.kernel, self.rounds
        );
        for row in &self.changes {
            let visible = row.visible_ms.map_or_else(String::new, Spread::shown);
            let _written =
                writeln!(text, "| {} | {visible} | {} |", row.what, row.answered_ms.shown());
        }
        text += "\n| target | reached in this run | |\n|---|---|---|\n";
        for target in &self.targets {
            let reached = target.reached.unwrap_or_default();
            let met = if reached >= target.at_least { "met" } else { "**missed**" };
            let _written = writeln!(
                text,
                "| {}: at least {} | {reached:.2} | {met} |",
                target.what, target.at_least
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_compared_by_when_it_is_in_force() {
        let change = |what, visible_ms, answered_ms| Change { what, visible_ms, answered_ms };
        let round = vec![
            change("fwnet list import, 1,000,000 prefixes", Some(100.0), 900.0),
            change("BPF_MAP_TYPE_LPM_TRIE, 1,000,000 updates", None, 400.0),
        ];
        let figures = Figures::of(&[round]);
        assert_eq!(figures.targets.last().unwrap().reached, Some(4.0));
        assert_eq!(figures.targets.first().unwrap().reached, None);
        assert!(figures.table().contains("filling an LPM trie: times: at least 3 | 4.00 | met |"));
    }
}
