//! `cargo xtask bench`: measurements, each a subcommand in a file of its own.

pub mod agent;
pub mod connect;
pub mod fleet;
pub mod policy;
mod sample;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::step::announce;
use crate::workspace;

/// Measure, and print a table and the same as JSON.
#[derive(Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Agent(agent::Agent),
    Connect(connect::Connect),
    Fleet(fleet::Fleet),
    Policy(policy::Policy),
}

impl Bench {
    /// Runs one measurement, which reports its own failure.
    pub fn run(self) -> ExitCode {
        match self.what {
            What::Agent(agent) => agent.run(),
            What::Connect(connect) => connect.run(),
            What::Fleet(fleet) => fleet.run(),
            What::Policy(policy) => policy.run(),
        }
    }
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
