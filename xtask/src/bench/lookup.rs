//! `cargo xtask bench lookup`: what it takes in the kernel to look an address up in an image of a million prefixes, beside
//! BPF_MAP_TYPE_LPM_TRIE with the same prefixes.
//!
//! The object is built with programs that ask in a loop, of which one asks nobody: its time is taken from the others'. The
//! example `bench_lookup` of crate `kernel` loads and runs them, as root, and proves first that both answer alike.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::sample::Spread;
use super::{line, publish};
use crate::bpf;
use crate::packages;
use crate::programs::Programs;
use crate::step::{output, timed};
use crate::supervise::supervised;

/// Measure look-ups of addresses in the kernel, in an image and in an LPM trie of the kernel's (as root)
#[derive(clap::Args)]
pub struct Lookup {
    /// Prefixes of each table
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=1_500_000))]
    prefixes: u32,
    /// Rounds
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// The processor that it all runs on
    #[arg(long, default_value_t = 1)]
    cpu: u32,
}

/// The example that measures.
const EXAMPLE: &str = "bench_lookup";
/// What was aimed at: how many times as long a look-up in the trie takes.
const TARGETS: [(&str, &str, f64); 4] = [
    ("IPv4 threats", "cold", 13.0),
    ("IPv4 routes", "cold", 40.0),
    ("IPv6 routes", "cold", 4.0),
    ("IPv6 routes", "hot", 8.0),
];

/// What the example tells of a table.
#[derive(Debug, Deserialize)]
struct Measured {
    prefixes: u64,
    bytes: u64,
    addresses: u64,
    /// By the way of asking: for each round, the nanoseconds of the loop alone, of ours, of the trie and of a verdict of ours.
    nanoseconds: BTreeMap<String, Vec<[f64; 4]>>,
}

#[derive(Debug, Serialize)]
struct Figures {
    kernel: String,
    rounds: u32,
    tables: Vec<Table>,
    targets: Vec<Target>,
}

#[derive(Debug, Serialize)]
struct Table {
    name: String,
    prefixes: u64,
    bytes: u64,
    addresses: u64,
    ways: Vec<Way>,
}

/// One way of asking. What the loop takes is subtracted from both.
#[derive(Debug, Serialize)]
struct Way {
    name: String,
    loop_ns: Spread,
    image_ns: Spread,
    trie_ns: Spread,
    ratio: Spread,
    /// Of all that decides a connection, the look-up included.
    verdict_ns: Spread,
}

#[derive(Debug, Serialize)]
struct Target {
    table: &'static str,
    way: &'static str,
    at_least: f64,
    reached: Spread,
    met: bool,
}

impl Lookup {
    /// Builds, measures, prints the table and writes the figures as JSON.
    pub(super) fn run(&self) -> ExitCode {
        supervised(|| {
            timed("packages", packages::install_tools)?;
            let object = timed("the object for this", bpf::build_for_bench)?;
            // What is measured runs in the kernel: how the program is built that asks for it makes no difference.
            let programs = timed("programs", || Programs::example(EXAMPLE))?;
            let mut measure = Command::new(programs.path(EXAMPLE)?);
            measure
                .arg(object)
                .args([self.prefixes, self.rounds, self.cpu].map(|it| it.to_string()));
            let report = timed("measure", || output(&mut measure))?;
            let measured: BTreeMap<String, Measured> =
                serde_json::from_str(&report).context("read what was measured")?;
            let figures = Figures::of(measured, self.rounds)?;
            publish("lookup", &figures, &figures.table())
        })
    }
}

impl Figures {
    fn of(measured: BTreeMap<String, Measured>, rounds: u32) -> Result<Self> {
        let tables: Vec<Table> = measured.into_iter().map(Table::of).collect();
        let target = |(table, way, at_least)| {
            let found = tables.iter().find(|it| it.name == table);
            let found = found.and_then(|it| it.ways.iter().find(|it| it.name == way));
            let reached = found.with_context(|| format!("{table}, {way} is measured"))?.ratio;
            Ok(Target { table, way, at_least, reached, met: reached.median >= at_least })
        };
        let targets = TARGETS.into_iter().map(target).collect::<Result<_>>()?;
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        Ok(Self { kernel, rounds, tables, targets })
    }

    /// For people; Markdown, so that it can be pasted.
    fn table(&self) -> String {
        let mut text = format!(
            "Linux {}, {} rounds; median [min to max] over the rounds, nanoseconds of one look-up less those of the loop\n\n\
             | table, addresses | the loop | image | LPM trie | LPM trie, x | a verdict by the image |\n|---|---|---|---|---|---|\n",
            self.kernel, self.rounds
        );
        for table in &self.tables {
            for way in &table.ways {
                let cells = [way.loop_ns, way.image_ns, way.trie_ns, way.ratio, way.verdict_ns]
                    .map(Spread::shown);
                line(
                    &mut text,
                    &format!("| {}, {} | {} |", table.name, way.name, cells.join(" | ")),
                );
            }
        }
        text += "\n| table | prefixes | image, bytes | bytes a prefix |\n|---|---|---|---|\n";
        for Table { name, prefixes, bytes, .. } in &self.tables {
            let each = *bytes as f64 / (*prefixes).max(1) as f64;
            line(&mut text, &format!("| {name} | {prefixes} | {bytes} | {each:.1} |"));
        }
        text +=
            "\n| target: times as long in the LPM trie | reached in this run | |\n|---|---|---|\n";
        for Target { table, way, at_least, reached, met } in &self.targets {
            let met = if *met { "met" } else { "**missed**" };
            let reached = reached.shown();
            line(
                &mut text,
                &format!("| {table}, {way}: at least {at_least} | {reached} | {met} |"),
            );
        }
        text
    }
}

impl Table {
    fn of((name, measured): (String, Measured)) -> Self {
        let Measured { prefixes, bytes, addresses, nanoseconds } = measured;
        let ways = nanoseconds.into_iter().map(|(name, rounds)| Way::of(name, &rounds)).collect();
        Self { name, prefixes, bytes, addresses, ways }
    }
}

impl Way {
    fn of(name: String, rounds: &[[f64; 4]]) -> Self {
        let over = |figure: fn(&[f64; 4]) -> f64| rounds.iter().map(figure).collect::<Spread>();
        Self {
            name,
            loop_ns: over(|[nothing, ..]| *nothing),
            image_ns: over(|[nothing, image, ..]| image - nothing),
            trie_ns: over(|[nothing, _, trie, _]| trie - nothing),
            ratio: over(|[nothing, image, trie, _]| (trie - nothing) / (image - nothing)),
            verdict_ns: over(|[nothing, .., verdict]| verdict - nothing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_is_taken_from_both_and_targets_are_judged() {
        let rounds =
            vec![[2.0, 12.0, 202.0, 30.0], [3.0, 13.0, 103.0, 31.0], [2.0, 12.0, 152.0, 32.0]];
        let ways = ["cold", "hot"].map(|way| (way.to_owned(), rounds.clone()));
        let names = ["IPv4 threats", "IPv4 routes", "IPv6 routes"];
        let measured = names.map(|name| {
            let nanoseconds = ways.clone().into_iter().collect();
            let of = Measured { prefixes: 10, bytes: 640, addresses: 8, nanoseconds };
            (name.to_owned(), of)
        });
        let figures = Figures::of(measured.into_iter().collect(), 3).unwrap();
        let met: Vec<bool> = figures.targets.iter().map(|target| target.met).collect();
        assert_eq!(met, [true, false, true, true]);
        let table = figures.table();
        let way = "| IPv4 routes, cold | 2.0 [2.0 to 3.0] | 10.0 [10.0 to 10.0] | 150.0 [100.0 to 200.0] | 15.0 [10.0 to 20.0] | 28.0 [28.0 to 30.0] |";
        assert!(table.contains(way), "{table}");
        assert!(table.contains("| IPv4 threats | 10 | 640 | 64.0 |"), "{table}");
        assert!(
            table.contains("| IPv4 routes, cold: at least 40 | 15.0 [10.0 to 20.0] | **missed** |")
        );
    }
}
