//! `cargo xtask bench instructions`: how many instructions the hot paths of user space take, counted by callgrind and held
//! to a budget.
//!
//! Times say little on a busy machine; a count is the same in every run, and a path that got slower by a twentieth shows.
//! The work is done by the example `hot_paths` of crate `policy`, as tests are built: nothing more is compiled than they
//! have compiled already, and overflow is checked as in a release. valgrind runs it without the environment, whose size
//! would move the stack.

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use super::{ended, publish};
use crate::packages::{self, Need, Package};
use crate::programs::Programs;
use crate::step::{announce, output, timed};
use crate::workspace;

/// Count the instructions of parse, check, compile, image build and decide, and compare them with the budget
#[derive(clap::Args)]
pub struct Instructions {
    /// Write what was counted into the budget file
    #[arg(long)]
    write: bool,
}

const EXAMPLE: &str = "hot_paths";
/// The function of the example inside of which instructions are counted; each of its calls is one path.
const COUNTED: &str = "hot_paths::counted";
const BUDGET: &str = "xtask/src/bench/instructions.toml";

const NEEDS: &[Need] = &[Need {
    program: "valgrind",
    package: Package { name: "valgrind", why: "counting instructions" },
}];

/// The file of budgets.
#[derive(Debug, Deserialize)]
struct Budget {
    /// By how many percent a count may be beyond its budget.
    tolerance: u64,
    instructions: BTreeMap<String, u64>,
}

/// A path, what it took and what it may take.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Path {
    name: String,
    instructions: u64,
    budget: Option<u64>,
}

impl Instructions {
    /// Counts, prints the table and writes the figures as JSON. Fails where a path is beyond its budget.
    pub(super) fn run(&self) -> ExitCode {
        ended(self.compare())
    }

    fn compare(&self) -> Result<()> {
        let counts = count()?;
        if self.write {
            write(&counts)?;
        }
        let budget = budget()?;
        let paths = paths(counts, &budget);
        publish("instructions", &paths, &table(&paths))?;
        hold(&paths, &budget)
    }
}

/// The step of `cargo xtask test`.
///
/// # Errors
/// If nothing can be counted, or a path is beyond its budget.
pub fn step() -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        announce("instructions are not counted: the budget is that of x86-64");
        return Ok(());
    }
    timed("instructions of the hot paths", || Instructions { write: false }.compare())
}

/// Names and counts, in the order in which the example goes through them.
fn count() -> Result<Vec<(String, u64)>> {
    packages::provide(NEEDS)?;
    let programs = Programs::example(EXAMPLE)?;
    let directory = workspace::scratch().join("instructions");
    if directory.exists() {
        fs::remove_dir_all(&directory).context("remove the counts of before")?;
    }
    fs::create_dir_all(&directory).context("a directory for the counts")?;
    let valgrind = workspace::find_program("valgrind").context("valgrind is not in PATH")?;
    let file = directory.join("counts");
    let mut command = Command::new(valgrind);
    command
        .env_clear()
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--dump-after={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(programs.path(EXAMPLE)?);
    let names = output(&mut command)?;
    // One file for each call, numbered from 1.
    let counts = (1..).zip(names.lines()).map(|(number, name)| {
        let path = PathBuf::from(format!("{}.{number}", file.display()));
        let text = fs::read_to_string(&path).with_context(|| format!("the counts of {name}"))?;
        Ok((name.to_owned(), total(&text).with_context(|| format!("no total of {name}"))?))
    });
    counts.collect()
}

/// The total of a profile (valgrind's manual, "Callgrind Format Specification").
fn total(profile: &str) -> Option<u64> {
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: "))?;
    total.trim().parse().ok().filter(|&total| total > 0)
}

fn budget() -> Result<Budget> {
    let text = fs::read_to_string(workspace::root().join(BUDGET)).context(BUDGET)?;
    toml::from_str(&text).context(BUDGET)
}

/// Replaces the counts of the budget file; what stands before them stays.
fn write(counts: &[(String, u64)]) -> Result<()> {
    let path = workspace::root().join(BUDGET);
    let text = fs::read_to_string(&path).context(BUDGET)?;
    let section = "[instructions]\n";
    let (head, _) =
        text.split_once(section).with_context(|| format!("no {section} in {BUDGET}"))?;
    let lines: String = counts.iter().map(|(name, count)| format!("{name} = {count}\n")).collect();
    fs::write(&path, format!("{head}{section}{lines}")).context(BUDGET)
}

fn paths(counts: Vec<(String, u64)>, budget: &Budget) -> Vec<Path> {
    let path = |(name, instructions)| {
        let budget = budget.instructions.get(&name).copied();
        Path { name, instructions, budget }
    };
    counts.into_iter().map(path).collect()
}

fn table(paths: &[Path]) -> String {
    let mut table = format!("{:<14} {:>14} {:>14}\n", "instructions", "counted", "budget");
    for Path { name, instructions, budget } in paths {
        let budget = budget.map_or_else(|| "none".to_owned(), |budget| budget.to_string());
        table.push_str(&format!("{name:<14} {instructions:>14} {budget:>14}\n"));
    }
    table
}

/// Every path has a budget and keeps it, and every budget has a path.
fn hold(paths: &[Path], budget: &Budget) -> Result<()> {
    let mut faults = Vec::new();
    for Path { name, instructions, budget: own } in paths {
        match own {
            None => faults.push(format!("{name} has no budget")),
            Some(own) if instructions * 100 > own * (100 + budget.tolerance) => {
                faults.push(format!("{name} took {instructions}, and {own} is its budget"));
            }
            Some(_) => {}
        }
    }
    for name in budget.instructions.keys() {
        if !paths.iter().any(|path| path.name == *name) {
            faults.push(format!("{name} has a budget and was not counted"));
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    bail!(
        "{}; where that is as it should be: cargo xtask bench instructions --write",
        faults.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(counts: &[(&str, u64)]) -> Result<(), String> {
        let budget = Budget {
            tolerance: 5,
            instructions: [("parse".to_owned(), 1_000), ("check".to_owned(), 2_000)].into(),
        };
        let counts = counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
        hold(&paths(counts, &budget), &budget).map_err(|error| error.to_string())
    }

    #[test]
    fn a_budget_is_kept_within_its_tolerance() {
        assert_eq!(held(&[("parse", 1_050), ("check", 1)]), Ok(()));
        let beyond = held(&[("parse", 1_051), ("check", 2_000)]).expect_err("beyond");
        assert!(beyond.starts_with("parse took 1051, and 1000 is its budget;"), "{beyond}");
    }

    #[test]
    fn a_path_without_budget_and_a_budget_without_path_are_faults() {
        let faults = held(&[("parse", 1_000), ("decide", 1)]).expect_err("neither fits");
        let said = ["decide has no budget", "check has a budget and was not counted"];
        assert!(said.iter().all(|said| faults.contains(said)), "{faults}");
    }

    #[test]
    fn a_profile_without_instructions_counts_for_nothing() {
        assert_eq!(total("desc: x\ntotals: 123\n"), Some(123));
        assert_eq!(total("totals: 0\n"), None);
        assert_eq!(total("summary: 5\n"), None);
    }
}
