//! `cargo xtask bench image`: how long a list takes from prefixes to enforced, and how much memory a prefix takes.
//!
//! The work is done by the example `bench_image` of crate `kernel`, built for release and run in a process of its own, as
//! root.

use serde_json::Value;
use std::process::ExitCode;

use super::{by_example, ended, publish};

/// Measure building, checking and putting in force a list, one prefix more, and filling the kernel's own trie (as root)
#[derive(clap::Args)]
pub struct Image {
    /// Prefixes of the list
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=2_000_000))]
    prefixes: u32,
    /// Rounds
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// The example that measures.
const EXAMPLE: &str = "bench_image";

/// In the order in which they are told.
const TIMES: [&str; 6] = ["sort", "build", "check", "put in force", "one more", "fill an LPM trie"];

impl Image {
    /// Builds, measures, prints the table and writes the figures as JSON.
    pub(super) fn run(&self) -> ExitCode {
        ended(
            by_example("kernel", EXAMPLE, &[self.prefixes, self.rounds])
                .and_then(|report| publish("image", &report, &table(&report))),
        )
    }
}

/// The measurements for people.
fn table(report: &Value) -> String {
    let mut table = String::new();
    for (list, own) in report.as_object().into_iter().flatten() {
        let size = |name: &str| own.get(name).and_then(Value::as_u64).unwrap_or_default();
        let (ranges, bytes) = (size("ranges"), size("bytes"));
        let each = bytes as f64 / ranges.max(1) as f64;
        table.push_str(&format!(
            "{list}: {ranges} ranges, {bytes} bytes, {each:.1} bytes a range\n"
        ));
        table.push_str(&format!(
            "  {:<18} {:>10} {:>10} {:>10} {:>18}\n",
            "milliseconds", "median", "min", "max", "processor, median"
        ));
        for what in TIMES {
            let times = own.get("milliseconds").and_then(|times| times.get(what));
            let [median, min, max] = spread(times, 0);
            let [processor, ..] = spread(times, 1);
            table.push_str(&format!(
                "  {what:<18} {median:>10.1} {min:>10.1} {max:>10.1} {processor:>18.1}\n"
            ));
        }
    }
    table
}

/// Median, least and greatest of one of the values of each round: 0 is the clock's, 1 the processor's.
fn spread(rounds: Option<&Value>, which: usize) -> [f64; 3] {
    let rounds = rounds.and_then(Value::as_array).into_iter().flatten();
    let mut times: Vec<f64> = rounds.filter_map(|round| round.get(which)?.as_f64()).collect();
    times.sort_by(f64::total_cmp);
    let at = |index: usize| times.get(index).copied().unwrap_or_default();
    [times.len() / 2, 0, times.len().saturating_sub(1)].map(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_what_was_measured() {
        let report = serde_json::json!({
            "IPv4 routes": {
                "ranges": 4, "bytes": 256, "milliseconds": { "build": [[30.0, 5.0], [10.0, 7.0], [20.0, 6.0]] },
            },
        });
        let table = table(&report);
        assert!(table.contains("IPv4 routes: 4 ranges, 256 bytes, 64.0 bytes a range"), "{table}");
        assert!(table.contains("20.0       10.0       30.0                6.0"), "{table}");
    }
}
