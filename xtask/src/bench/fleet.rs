//! `cargo xtask bench fleet`: what a fleet's server costs, beside what others pay for the same, on one machine.
//!
//! Four parts, of which `--only` picks some:
//!
//! - `rivals`: nats-server, one member of etcd and our controller, one after the other in each round. The same number of
//!   connections wait over TLS 1.3 with certificates on both sides, one update of 1 KiB is published, and the next one only
//!   when every connection has it. What is compared is the server's processor time for each delivery, as the kernel counts
//!   it in `/proc/PID/stat`. Ours is a policy signed anew each time, and counts only once each host has acknowledged it.
//! - `agents`: as many hosts as a real fleet's, each with a socket and a certificate of its own: how long a signed change
//!   takes until each has acknowledged it, and how long it takes after all connections were cut at once until all are
//!   served again. One process may have 20,000 descriptors here, so that beyond some thousands the controller has relays
//!   before it, each at an address of its own.
//! - `stores`: what a change writes into the store, with few hosts and with all, in a file and in etcd.
//! - `virtual`: a million hosts through the same serving code without sockets.
//!
//! The crowd that waits is a program of its own (`crates/fleet/examples/crowd`), one thread of each process, and shares
//! the processors with the server: times include its work, and say less than processor time does.

mod agents;
mod crowd;
mod figures;
mod own;
mod processes;
mod rivals;
mod stores;
mod virtual_agents;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::publish;
use crate::packages::{self, Need, Package};
use crate::programs::Programs;
use crate::step::{self, timed};
use crate::supervise::supervised;
use crate::workspace;
use figures::Figures;

/// Connections of one server at most: the crowd and the server each have a descriptor for every one, and some.
const CONNECTIONS_MAX: i64 = 18_000;

/// What the test of this measurement measures: each part but the one of a million hosts, which is a program of its own that
/// is built for release.
const FEW: &[&str] = &[
    "--only=rivals",
    "--rounds=1",
    "--subscribers=50",
    "--updates=2",
    "--only=agents",
    "--agents=200",
    "--changes=1",
    "--storms=1",
    "--only=stores",
];

const NEEDS: &[Need] = &[
    Need {
        program: "ip",
        package: Package { name: "iproute2", why: "the namespace that is measured in" },
    },
    Need {
        program: "nats-server",
        package: Package { name: "nats-server", why: "a rival: publish and subscribe" },
    },
    Need { program: "etcd", package: Package { name: "etcd-server", why: "a rival, and a store" } },
];

/// Measure what a fleet's server costs, and what nats-server and etcd pay for the same (as root)
#[derive(clap::Args)]
pub struct Fleet {
    /// Rounds with the rivals; each measures every server once
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Connections of each of the servers that are compared
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    subscribers: u32,
    /// Updates that each of them is told
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    updates: u32,
    /// Hosts of the fleet
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    agents: u32,
    /// Signed changes that all of them take
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    changes: u32,
    /// Times that all connections are cut
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=100))]
    storms: u32,
    /// Hosts without sockets
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    virtual_agents: u32,
    /// Only this part (repeatable)
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// A directory with fwnet and examples/crowd, built before (default: they are built)
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// nats-server, etcd and our controller, compared
    Rivals,
    /// A fleet with real sockets
    Agents,
    /// What is written into stores
    Stores,
    /// A million hosts without sockets
    Virtual,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table
    Text,
    /// What is also written into a file
    Json,
}

/// What is measured and what measures.
struct Tools {
    fwnet: PathBuf,
    crowd: PathBuf,
}

impl Fleet {
    /// Measures, prints the table and writes the figures as JSON.
    pub(super) fn run(&self) -> ExitCode {
        supervised(|| {
            timed("packages", || packages::provide(NEEDS))?;
            let tools = match &self.programs {
                Some(beside) => Tools::of(beside),
                None => timed("build", Tools::build)?,
            };
            more_descriptors()?;
            let figures = self.measure(&tools)?;
            let printed = match self.output {
                Output::Text => figures.table(),
                Output::Json => serde_json::to_string_pretty(&figures)? + "\n",
            };
            publish("fleet", &figures, &printed)?;
            let wrong = figures.wrong();
            if wrong.is_empty() { Ok(()) } else { bail!("not exact: {}", wrong.join("; ")) }
        })
    }

    fn measure(&self, tools: &Tools) -> Result<Figures> {
        let wants = |part| self.only.is_empty() || self.only.contains(&part);
        let mut figures = Figures::default();
        if wants(Part::Rivals) {
            rivals::measure(tools, self.rounds, self.subscribers, self.updates, &mut figures)?;
        }
        if wants(Part::Agents) {
            agents::measure(tools, self.agents, self.changes, self.storms, &mut figures)?;
        }
        if wants(Part::Stores) {
            stores::measure(tools, self.agents, &mut figures)?;
        }
        if wants(Part::Virtual) {
            virtual_agents::measure(self.virtual_agents, &mut figures)?;
        }
        Ok(figures)
    }
}

impl Tools {
    fn build() -> Result<Self> {
        let fwnet = Programs::release(&["fwnet"])?.path("fwnet")?.to_owned();
        let mut example = workspace::cargo();
        example.args(["build", "--quiet", "--release", "--package", "fleet", "--example", "crowd"]);
        step::run(&mut example)?;
        let beside = fwnet.parent().context("programs are in a directory")?;
        Ok(Self::of(beside))
    }

    fn of(beside: &Path) -> Self {
        Self { crowd: beside.join("examples/crowd"), fwnet: beside.join("fwnet") }
    }
}

/// The step of `cargo xtask test`: that it measures, and that what must be exact is, with few hosts and with the programs that
/// the tests have built already.
///
/// # Errors
/// If it does not.
pub fn step() -> Result<()> {
    timed("the fleet's measurement with few hosts", || {
        Programs::example("crowd")?;
        let fwnet = Programs::development(&["fwnet"])?.path("fwnet")?.to_owned();
        let beside = fwnet.parent().context("programs are in a directory")?;
        let mut bench = workspace::this_program();
        step::run(bench.args(["bench", "fleet"]).args(FEW).arg("--programs").arg(beside))
    })
}

/// As many descriptors as this process may have, for itself and what it starts.
fn more_descriptors() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raise the limit of descriptors")
}
