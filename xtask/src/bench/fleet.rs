//! `cargo xtask bench fleet`: what it costs a server to tell one change to everybody who waits for it, on one machine.
//!
//! Ten thousand connections over loopback wait, one small update is published, and the next one only when every
//! connection has read it. What is compared is the server's processor time for each delivery, as the kernel counts it: the
//! crowd that reads is ours and shares the machine, so the times until everybody knows include its work and tell less.
//!
//! The rivals are spoken to in their own protocols by programs as small as possible, so that none pays for a library:
//! NATS is text; a watch of etcd is a stream of gRPC, which is so little HTTP/2 that it is written here by hand (`h2`).
//! Its JSON gateway would have been easier and is not what a client of that size would use: it makes text of what the
//! server has in binary, in the server's time. Each subscriber has a connection of its own, as each host of a fleet has.

mod crowd;
mod figures;
mod h2;
mod nats;
mod rival;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::process::ExitCode;
use testbed::Host;

use super::publish;
use crate::packages::{self, Need, Package};
use crate::step::timed;
use crate::supervise::supervised;
use figures::{Figures, Round};
use rival::Rival;

/// Connections at most: the crowd and the server each have a descriptor for every one, and some.
const SUBSCRIBERS_MAX: i64 = 18_000;

const NEEDS: &[Need] = &[
    Need {
        program: "ip",
        package: Package { name: "iproute2", why: "the namespace that is measured in" },
    },
    Need {
        program: "nats-server",
        package: Package { name: "nats-server", why: "a rival: publish and subscribe" },
    },
    Need {
        program: "etcd",
        package: Package { name: "etcd-server", why: "a rival: watches of one key" },
    },
];

/// Measure what a server pays for telling everybody of one change: processor time for each delivery, and memory for each
/// subscriber (as root)
#[derive(clap::Args)]
pub struct Fleet {
    /// Rounds; each measures every server once
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Connections that wait for an update
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=SUBSCRIBERS_MAX))]
    subscribers: u32,
    /// Updates that each of them is told
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    updates: u32,
    /// Only this server (repeatable)
    #[arg(long, value_name = "NAME")]
    only: Vec<Rival>,
}

impl Fleet {
    /// Measures, prints the table and writes the figures as JSON.
    pub(super) fn run(&self) -> ExitCode {
        supervised(|| {
            timed("packages", || packages::provide(NEEDS))?;
            more_descriptors()?;
            let figures = self.measure()?;
            publish("fleet", &figures, &figures.table())
        })
    }

    fn measure(&self) -> Result<Figures> {
        let rivals: Vec<Rival> =
            if self.only.is_empty() { Rival::value_variants().to_vec() } else { self.only.clone() };
        let mut rounds: Vec<(&str, Vec<Round>)> =
            rivals.iter().map(|rival| (rival.name(), Vec::new())).collect();
        for number in 1..=self.rounds {
            for (rival, (name, measured)) in rivals.iter().zip(&mut rounds) {
                let what = format!("round {number} of {}, {name}", self.rounds);
                let host = Host::new();
                measured
                    .push(timed(&what, || rival.measure(&host, self.subscribers, self.updates))?);
            }
        }
        Ok(Figures::of(self.subscribers, self.updates, &rounds))
    }
}

/// As many descriptors as this process may have, for itself and what it starts.
fn more_descriptors() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raise the limit of descriptors")
}
