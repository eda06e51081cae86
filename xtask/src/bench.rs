//! `cargo xtask bench`: measurements, each a subcommand in a file of its own.

pub mod agent;
pub mod connect;
pub mod policy;

use clap::{Args, Subcommand};
use std::process::ExitCode;

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
    Policy(policy::Policy),
}

impl Bench {
    /// Runs one measurement, which reports its own failure.
    pub fn run(self) -> ExitCode {
        match self.what {
            What::Agent(agent) => agent.run(),
            What::Connect(connect) => connect.run(),
            What::Policy(policy) => policy.run(),
        }
    }
}
