//! `cargo xtask bench`: measurements, each a subcommand in a file of its own.

pub mod agent;
pub mod change;
pub mod connect;
pub mod fleet;
pub mod image;
pub mod instructions;
pub mod lookup;
mod plot;
pub mod policy;
mod prefixes;
mod resident;
mod sample;
pub mod throughput;
mod tries;

use anyhow::{Context as _, Result};
use clap::{Args, Command, Subcommand};
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::step::{announce, output, run, timed};
use crate::workspace;

/// Measure, and print a table and the same as JSON. Without a subcommand: everything, one after the other
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    #[command(subcommand)]
    what: Option<What>,
    /// Rounds of each measurement; without it as many as each takes by itself, which is hours in all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
}

#[derive(Subcommand)]
enum What {
    Accept(connect::Accept),
    Agent(agent::Agent),
    Change(change::Changes),
    Connect(connect::Connect),
    Fleet(fleet::Fleet),
    Hooks(connect::Hooks),
    Image(image::Image),
    Instructions(instructions::Instructions),
    Lookup(lookup::Lookup),
    Policy(policy::Policy),
    Throughput(throughput::Throughput),
}

impl Bench {
    /// Runs one measurement, which reports its own failure.
    pub fn run(self) -> ExitCode {
        let Some(what) = self.what else { return everything(self.rounds) };
        match what {
            What::Accept(accept) => accept.run(),
            What::Agent(agent) => agent.run(),
            What::Change(change) => change.run(),
            What::Connect(connect) => connect.run(),
            What::Fleet(fleet) => fleet.run(),
            What::Hooks(hooks) => hooks.run(),
            What::Image(image) => image.run(),
            What::Instructions(instructions) => instructions.run(),
            What::Lookup(lookup) => lookup.run(),
            What::Policy(policy) => policy.run(),
            What::Throughput(throughput) => throughput.run(),
        }
    }
}

/// Runs each measurement as it runs by itself, in a process of its own, the others too where one does not work.
fn everything(rounds: Option<u32>) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for what in What::augment_subcommands(Command::new("bench")).get_subcommands() {
        let name = what.get_name();
        let has_rounds = what.get_arguments().any(|argument| argument.get_id() == "rounds");
        let rounds = rounds.filter(|_| has_rounds).map(|rounds| format!("--rounds={rounds}"));
        let measured = timed(&format!("bench {name}"), || {
            run(workspace::this_program().args(["bench", name]).args(rounds))
        });
        if let Err(error) = measured {
            eprintln!("error: {error:#}");
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// Says what went wrong, if anything did.
fn ended(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What an example of `package` measures and prints as JSON, built for release and run in a process of its own.
fn by_example(package: &str, example: &str, arguments: &[u32]) -> Result<Value> {
    let which = ["--quiet", "--release", "--package", package, "--example", example];
    timed("build", || run(workspace::cargo().arg("build").args(which)))?;
    let mut measure = workspace::cargo();
    measure.arg("run").args(which).arg("--").args(arguments.iter().map(u32::to_string));
    let report = timed("measure", || output(&mut measure))?;
    serde_json::from_str(&report).context("read what was measured")
}

/// Appends a line.
fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// Writes a drawing where [`publish`] writes figures.
fn draw(name: &str, drawing: &str) -> Result<()> {
    let path = workspace::scratch().join(format!("bench/{name}.svg"));
    fs::write(&path, drawing).with_context(|| format!("write {}", path.display()))?;
    announce(&format!("the same drawn: {}", workspace::relative(&path)));
    Ok(())
}

/// Prints the table of a measurement, and writes its figures where scripts find them.
fn publish(name: &str, figures: &impl Serialize, table: &str) -> Result<()> {
    let path = workspace::scratch().join(format!("bench/{name}.json"));
    fs::create_dir_all(path.parent().context("a directory for the figures")?)?;
    let json = serde_json::to_string_pretty(figures)?;
    fs::write(&path, json + "\n").with_context(|| format!("write {}", path.display()))?;
    io::stdout().write_all(table.as_bytes()).context("print the table")?;
    announce(&format!("the figures as JSON: {}", workspace::relative(&path)));
    Ok(())
}
