//! `cargo xtask bench policy`: how long policies take from text to image, from scratch and after one change.
//!
//! The work is done by the example `bench_policy` of crate `policy`, built for release and run in a process of its own, so
//! that its peak memory is its own, too. It refuses to report if the incremental result differs from a full compilation.

use serde_json::Value;
use std::process::ExitCode;

use super::{by_example, ended, publish};

/// Measure parse, check and compile of a large policy for one host, a one-rule edit and a one-host relabel
#[derive(clap::Args)]
pub struct Policy {
    /// Rules of the policy
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    rules: u32,
    /// Hosts of the inventory
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    hosts: u32,
    /// Rounds of the full compilation
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// The example that measures.
const EXAMPLE: &str = "bench_policy";

/// In the order in which they are told.
const TIMES: [&str; 12] = [
    "index the inventory",
    "parse",
    "parse + check",
    "compile",
    "full",
    "edit a rule",
    "edit a rule that concerns the host",
    "edit a rule that does not",
    "image after such an edit",
    "relabel a host",
    "relabel a host that is a peer",
    "relabel a host that is not",
];

impl Policy {
    /// Builds, measures, prints the table and writes the figures as JSON.
    pub(super) fn run(&self) -> ExitCode {
        ended(
            by_example("policy", EXAMPLE, &[self.rules, self.hosts, self.rounds])
                .and_then(|report| publish("policy", &report, &table(&report))),
        )
    }
}

/// The measurements for people.
fn table(report: &Value) -> String {
    let mut table = format!(
        "{:<36} {:>6} {:>12} {:>12} {:>12}\n",
        "milliseconds", "count", "median", "min", "max"
    );
    for what in TIMES {
        let Some(time) = report.pointer("/times").and_then(|times| times.get(what)) else {
            continue;
        };
        let millis =
            |field: &str| time.get(field).and_then(Value::as_f64).unwrap_or_default() / 1_000.0;
        let count = time.get("count").and_then(Value::as_u64).unwrap_or_default();
        let [median, min, max] = ["median_us", "min_us", "max_us"].map(millis);
        table.push_str(&format!("{what:<36} {count:>6} {median:>12.3} {min:>12.3} {max:>12.3}\n"));
    }
    let median =
        |what: &str| report.pointer(&format!("/times/{what}/median_us")).and_then(Value::as_f64);
    if let (Some(full), Some(edit)) = (median("full"), median("edit a rule")) {
        table.push_str(&format!(
            "a one-rule edit is {:.0} times cheaper than parse + check + compile\n",
            full / edit
        ));
    }
    for (what, unit) in [("sizes", ""), ("peak_memory_kib", " KiB")] {
        for (name, value) in report.get(what).and_then(Value::as_object).into_iter().flatten() {
            table.push_str(&format!("{:<36} {value}{unit}\n", name.replace('_', " ")));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_what_was_measured() {
        let report = serde_json::json!({
            "times": {
                "full": { "count": 3, "median_us": 2_000.0, "min_us": 1_000.0, "max_us": 3_000.0 },
                "edit a rule": { "count": 9, "median_us": 4.0, "min_us": 1.0, "max_us": 5.0 },
            },
            "sizes": { "rules_of_the_host": 7 },
        });
        let table = table(&report);
        assert!(table.contains("a one-rule edit is 500 times cheaper"), "{table}");
        assert!(table.contains("2.000        1.000        3.000"), "{table}");
        assert!(table.contains("rules of the host"), "{table}");
    }
}
