//! `cargo xtask bench connect`: what a connection costs with nothing attached, with fwnet, with each of its hooks, and
//! with nftables holding the same rules.
//!
//! One process connects to itself all the time, in a namespace and a cgroup of its own; around it one contender after
//! the other is attached and taken away, and nothing is attached before and after each:
//!
//! ```text
//! round 1:  nothing  control  nothing  empty program  nothing  fwnet  nothing ...  nftables  nothing
//! ```
//!
//! A contender is compared with the mean of its two neighbours, so slow changes of the machine cancel out. What a
//! contender does to a probe of a denied address is checked each time: one that does not decide is not measured.

mod contender;
mod empty;
mod figures;
mod own_time;

use super::publish;
use super::sample::{Sample, middle};
use crate::packages::{self, Need, Package};
use crate::programs::Programs;
use crate::step::{announce, timed};
use crate::supervise::supervised;
use anyhow::{Result, bail, ensure};
use contender::{Bench, Contender};
use figures::{Figures, Round};
use std::process::ExitCode;

/// What is run besides our own programs.
const NEEDS: &[Need] = &[
    Need {
        program: "ip",
        package: Package { name: "iproute2", why: "the namespace that is measured in" },
    },
    Need {
        program: "nsenter",
        package: Package { name: "util-linux", why: "running programs in that namespace" },
    },
    Need {
        program: "nft",
        package: Package { name: "nftables", why: "what connect() is measured against" },
    },
    Need {
        program: "bpftool",
        package: Package { name: "bpftool", why: "taking single hooks away from a running fwnet" },
    },
];

/// By how much nothing attached may differ, inside a round and between rounds, before a round counts for nothing.
const DRIFT_MAX: f64 = 0.10;

/// Measure what a connection costs: nothing attached, fwnet, each of its hooks, nftables (as root)
#[derive(clap::Args)]
pub struct Connect {
    /// Rounds; each measures every contender once
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(7..=1_000))]
    rounds: u32,
    /// Connections in one measurement
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    cycles: u64,
    /// The processor that the measured process stays on
    #[arg(long, default_value_t = 1)]
    cpu: u16,
}

impl Connect {
    /// Measures, prints the table and writes the figures as JSON.
    pub(super) fn run(&self) -> ExitCode {
        supervised(|| {
            timed("packages", || packages::provide(NEEDS))?;
            let programs = timed("programs", || Programs::release(&["fwnet", "doors"]))?;
            let figures = self.measure(&programs)?;
            publish("connect", &figures, &figures.table())
        })
    }

    fn measure(&self, programs: &Programs) -> Result<Figures> {
        let mut bench = Bench::set(programs, self.cpu)?;
        let mut rounds: Vec<Round> = Vec::new();
        let mut retries = 0;
        while rounds.len() < usize::try_from(self.rounds)? {
            let what = format!("round {} of {}", rounds.len() + 1, self.rounds);
            let round = timed(&what, || self.round(&mut bench))?;
            match drift(&rounds, &round) {
                None => rounds.push(round),
                Some(complaint) if retries < self.rounds => {
                    retries += 1;
                    announce(&format!("{complaint}: the round is measured again"));
                }
                Some(complaint) => bail!(
                    "{complaint}, and {retries} rounds were thrown away for that: this machine is too busy to measure on"
                ),
            }
        }
        Ok(Figures::of(&rounds, retries, self.cycles))
    }

    fn round(&self, bench: &mut Bench) -> Result<Round> {
        let mut round = Round::default();
        round.nothing.push(bench.time(self.cycles)?);
        for contender in Contender::ALL {
            let attached = bench.attach(contender)?;
            let code = bench.probe()?;
            ensure!(
                code == contender.probe_code(),
                "{}: the probe of a denied address ended with {code}, not with {}",
                contender.name(),
                contender.probe_code()
            );
            let sample: Sample = bench.time(self.cycles)?;
            if contender.counted() {
                round.own.extend(attached.own_times(|| bench.time(self.cycles))?);
            }
            bench.detach(attached)?;
            ensure!(bench.probe()? == 0, "{} was not taken away", contender.name());
            round.contenders.push(sample);
            round.nothing.push(bench.time(self.cycles)?);
        }
        Ok(round)
    }
}

/// Says how the machine changed, if it did too much for the round to count.
fn drift(before: &[Round], round: &Round) -> Option<String> {
    let times: Vec<f64> = round.nothing.iter().map(|sample| sample.connect_ns).collect();
    let own = middle(&times)?;
    if let Some(worst) = times.iter().find(|time| (**time / own - 1.0).abs() > DRIFT_MAX) {
        return Some(format!(
            "connect() with nothing attached went from {own:.0} to {worst:.0} ns in one round"
        ));
    }
    let last = before.last()?;
    let last = middle(&last.nothing.iter().map(|it| it.connect_ns).collect::<Vec<_>>())?;
    ((own / last - 1.0).abs() > DRIFT_MAX).then(|| {
        format!("connect() with nothing attached went from {last:.0} to {own:.0} ns between rounds")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(times: &[f64]) -> Round {
        let sample = |time: &f64| Sample { connect_ns: *time, ..Sample::default() };
        Round { nothing: times.iter().map(sample).collect(), ..Round::default() }
    }

    #[test]
    fn drift_is_noticed_inside_a_round_and_between_rounds() {
        let calm = round(&[5000.0, 5100.0, 4900.0]);
        assert_eq!(drift(&[], &calm), None);
        assert_eq!(drift(&[round(&[5200.0])], &calm), None);
        assert!(drift(&[], &round(&[5000.0, 5000.0, 5600.0])).unwrap().contains("in one round"));
        let jump = drift(&[calm], &round(&[6000.0, 6010.0])).unwrap();
        assert!(jump.contains("between rounds"), "{jump}");
    }
}
