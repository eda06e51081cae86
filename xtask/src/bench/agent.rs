//! `cargo xtask bench agent`: what the agent costs while nothing happens and under load, and how fast it is when it has
//! something to do.
//!
//! Everything happens in a namespace and a cgroup of its own, with the programs that users get. Rounds are interleaved:
//! each one measures everything once, so that a change of the machine meets all of it.

mod figures;
mod host;

use anyhow::Result;
use std::process::ExitCode;
use std::time::Duration;

use super::publish;
use crate::packages::{self, Need, Package};
use crate::programs::Programs;
use crate::step::timed;
use crate::supervise::supervised;
use figures::{Figures, Round};
use host::Bench;

const NEEDS: &[Need] = &[
    Need {
        program: "ip",
        package: Package { name: "iproute2", why: "the namespace that is measured in" },
    },
    Need {
        program: "nsenter",
        package: Package { name: "util-linux", why: "running programs in that namespace" },
    },
];

/// Measure the agent: memory and processor time idle and at 10,000 connections a second, from apply to enforced, revoking
/// connections, and what telling of a connection costs it (as root)
#[derive(clap::Args)]
pub struct Agent {
    /// Rounds; each measures everything once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// For how long the agent is left alone, and for how long it is under load, in each round
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=600))]
    watch: u64,
    /// How many connections are revoked, in thousands (repeatable)
    #[arg(long, value_name = "THOUSANDS", default_values_t = [10, 100], value_parser = clap::value_parser!(u32).range(1..=200))]
    revoke: Vec<u32>,
}

impl Agent {
    /// Measures, prints the table and writes the figures as JSON.
    pub(super) fn run(&self) -> ExitCode {
        supervised(|| {
            timed("packages", || packages::provide(NEEDS))?;
            let programs = timed("programs", || Programs::release(&["fwnet", "doors"]))?;
            let figures = self.measure(&programs)?;
            publish("agent", &figures, &figures.table())
        })
    }

    fn measure(&self, programs: &Programs) -> Result<Figures> {
        let mut rounds = Vec::new();
        for number in 1..=self.rounds {
            let what = format!("round {number} of {}", self.rounds);
            rounds.push(timed(&what, || self.round(programs))?);
        }
        Ok(Figures::of(&rounds))
    }

    fn round(&self, programs: &Programs) -> Result<Round> {
        let bench = Bench::set(programs)?;
        let watch = Duration::from_secs(self.watch);
        let alone = bench.cost()?;
        let agent = bench.up()?;
        let started = bench.memory()?;
        let idle = bench.idle(watch)?;
        let watched = bench.cost()?;
        let load = bench.load(watch)?;
        let applied = bench.applied()?;
        let mut revoked = Vec::new();
        for &thousands in &self.revoke {
            revoked.push(bench.revoked(thousands)?);
        }
        drop(agent);
        Ok(Round { alone, watched, started, idle, load, applied, revoked })
    }
}
