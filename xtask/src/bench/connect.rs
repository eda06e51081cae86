//! `cargo xtask bench connect`, `bench hooks` and `bench accept`: what a connection costs with nothing attached, with fwnet,
//! and with what others use; what each hook of fwnet has of that; and what it costs where only its listener's end is judged.
//!
//! Two processes connect to themselves, one to one address all the time and one to many, in a namespace and a cgroup of
//! their own; around them one contender after the other is attached and taken away, and nothing is attached before and
//! after each:
//!
//! ```text
//! round 1:  nothing  control  nothing  empty program  nothing  fwnet  nothing ...  nftables  nothing
//! ```
//!
//! A contender is compared with the mean of its two neighbours, so slow changes of the machine cancel out. What a
//! contender does to a probe of a denied address is checked each time: one that does not decide is not measured. A rival
//! that cannot run here is named in the table with the reason.

mod attached;
mod contender;
mod deciders;
mod empty;
mod figures;
mod files;
mod own_time;
mod stage;
mod targets;
mod tries;

use super::{draw, publish};
use crate::packages::{self, Need, Package};
use crate::programs::Programs;
use crate::step::{announce, timed};
use crate::supervise::supervised;
use anyhow::{Result, ensure};
use attached::Attached;
use contender::Contender;
use figures::{Course, Figures, Outcome, OwnTimes, Round, Trial, WAYS};
use stage::{Both, Stage};
use std::path::PathBuf;
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
/// What the rivals are besides.
const RIVALS: &[Need] = &[
    Need {
        program: "iptables-legacy",
        package: Package { name: "iptables", why: "what connect() is measured against" },
    },
    Need {
        program: "ipset",
        package: Package { name: "ipset", why: "what connect() is measured against" },
    },
    Need {
        program: "/usr/lib/x86_64-linux-gnu/libnetfilter_queue.so.1",
        package: Package { name: "libnetfilter-queue1", why: "OpenSnitch links it" },
    },
    Need {
        program: "/usr/lib/x86_64-linux-gnu/libauparse.so.0",
        package: Package { name: "libauparse0", why: "auditd links it" },
    },
    Need {
        program: "/usr/lib/x86_64-linux-gnu/libwrap.so.0",
        package: Package { name: "libwrap0", why: "auditd links it" },
    },
];

/// By how much nothing attached may differ around a measurement before that is repeated.
const DRIFT_MAX: f64 = 0.10;
/// How often a measurement is repeated for that before it counts as it is.
const REPEATS_MAX: u32 = 3;

/// Measure what a connection costs: nothing attached, fwnet with a million prefixes, and what others use (as root)
#[derive(clap::Args)]
pub struct Connect {
    #[command(flatten)]
    plan: Plan,
}

/// Measure what a connection costs with each hook of fwnet (as root)
#[derive(clap::Args)]
pub struct Hooks {
    #[command(flatten)]
    plan: Plan,
}

/// Measure what a connection costs whose listener's end alone is judged, by a million prefixes and by others (as root)
#[derive(clap::Args)]
pub struct Accept {
    #[command(flatten)]
    plan: Plan,
}

#[derive(clap::Args)]
struct Plan {
    /// Rounds; each measures every contender once
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Connections in one measurement, fewer where they are slow
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    cycles: u64,
    /// The processor that the measured processes stay on
    #[arg(long, default_value_t = 1)]
    cpu: u16,
    /// Take all programs from this directory instead of building them
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<PathBuf>,
    /// Only contenders whose key contains this (repeatable); keys are in the JSON
    #[arg(long, value_name = "KEY")]
    only: Vec<String>,
}

impl Connect {
    /// Measures, prints the table and writes the figures as JSON.
    pub(super) fn run(&self) -> ExitCode {
        supervised(|| {
            timed("packages", || packages::provide(&[NEEDS, RIVALS].concat()))?;
            let built = self.plan.programs.as_deref();
            let rivals = Programs::built_or(built, "rivals' programs", Programs::rivals)?;
            self.plan.run("connect", Contender::RIVALS, Some(rivals))
        })
    }
}

impl Hooks {
    /// Measures, prints the table and writes the figures as JSON.
    pub(super) fn run(&self) -> ExitCode {
        supervised(|| {
            timed("packages", || packages::provide(NEEDS))?;
            self.plan.run("hooks", Contender::HOOKS, None)
        })
    }
}

impl Accept {
    /// Measures, prints the table and writes the figures as JSON. The kernel judges what comes over the loopback inside
    /// the connect() that sent it, so that is where its cost shows; the cycle says how many are accepted in a time.
    pub(super) fn run(&self) -> ExitCode {
        supervised(|| {
            timed("packages", || packages::provide(NEEDS))?;
            self.plan.run("accept", Contender::INBOUND, None)
        })
    }
}

impl Plan {
    fn run(&self, name: &str, all: &[Contender], rivals: Option<Programs>) -> Result<()> {
        let programs = Programs::built_or(self.programs.as_deref(), "programs", || {
            Programs::release(&["fwnet", "doors"])
        })?;
        let asked = |it: &Contender| {
            self.only.is_empty() || self.only.iter().any(|part| it.key().contains(part.as_str()))
        };
        let contenders: Vec<_> = all.iter().copied().filter(asked).collect();
        ensure!(!contenders.is_empty(), "no contender has a key with {}", self.only.join(" or "));
        let figures = self.measure(&programs, rivals, &contenders)?;
        publish(name, &figures, &figures.table())?;
        draw(name, &figures.drawing())
    }

    fn measure(
        &self,
        programs: &Programs,
        rivals: Option<Programs>,
        contenders: &[Contender],
    ) -> Result<Figures> {
        let mut stage = timed("addresses and rules", || Stage::set(programs, rivals, self.cpu))?;
        let mut rounds: Vec<Round> = Vec::new();
        let mut course = Course { cycles: self.cycles, ..Course::default() };
        while rounds.len() < usize::try_from(self.rounds)? {
            let what = format!("round {} of {}", rounds.len() + 1, self.rounds);
            let before = rounds.first();
            let round = timed(&what, || self.round(&mut stage, contenders, before, &mut course))?;
            rounds.push(round);
        }
        course.rounds = rounds.len();
        Ok(Figures::of(contenders, &rounds, course))
    }

    /// Who could not be measured in the round `before` is not tried again.
    fn round(
        &self,
        stage: &mut Stage,
        contenders: &[Contender],
        before: Option<&Round>,
        course: &mut Course,
    ) -> Result<Round> {
        let mut round = Round::new();
        let mut nothing = stage.time_calm(self.cycles)?;
        for &contender in contenders {
            let outcome = match before.and_then(|round| round.get(&contender)) {
                Some(Outcome::Unavailable(why)) => Outcome::Unavailable(why.clone()),
                Some(Outcome::Measured(_)) | None => {
                    self.outcome(stage, contender, nothing, course)?
                }
            };
            if let Outcome::Measured(trial) = &outcome {
                nothing = trial.after;
            }
            round.insert(contender, outcome);
        }
        Ok(round)
    }

    /// Ours must work; why a rival does not is what is told of it.
    fn outcome(
        &self,
        stage: &mut Stage,
        contender: Contender,
        before: Both,
        course: &mut Course,
    ) -> Result<Outcome> {
        let mut before = before;
        for attempt in 0.. {
            let trial = match self.trial(stage, contender, before) {
                Ok(trial) => trial,
                Err(error) if contender.is_ours() => {
                    return Err(error.context(contender.name()));
                }
                Err(error) => {
                    ensure!(stage.probe()? == 0, "{} was not taken away", contender.name());
                    announce(&format!("{} is not measured: {error:#}", contender.name()));
                    return Ok(Outcome::Unavailable(format!("{error:#}")));
                }
            };
            if let Some(complaint) = drift(&trial) {
                announce(&format!("{}: {complaint}", contender.name()));
                if attempt < REPEATS_MAX {
                    course.repeated += 1;
                    before = trial.after;
                    continue;
                }
                course.unsteady += 1;
            }
            return Ok(Outcome::Measured(Box::new(trial)));
        }
        unreachable!("the loop has no end but those inside it")
    }

    fn trial(&self, stage: &mut Stage, contender: Contender, before: Both) -> Result<Trial> {
        let mut attached = Attached::attach(contender, stage)?;
        let measured = self.with(stage, contender, &mut attached);
        attached.detach(stage)?;
        let (with, own) = measured?;
        ensure!(stage.probe()? == 0, "{} was not taken away", contender.name());
        Ok(Trial { before, with, after: stage.time_calm(self.cycles)?, own })
    }

    /// Measures with a contender that is attached, and that decides.
    fn with(
        &self,
        stage: &mut Stage,
        contender: Contender,
        attached: &mut Attached,
    ) -> Result<(Both, OwnTimes)> {
        let with = attached.time(stage, self.cycles)?;
        let code = attached.probe(stage)?;
        ensure!(
            code == contender.probe_code(),
            "the probe of a denied address ended with {code}, not with {}",
            contender.probe_code()
        );
        let mut own = OwnTimes::default();
        if contender.counted() {
            for (way, own) in own.iter_mut().enumerate() {
                *own = attached.own_times(|| stage.connect(way, self.cycles))?;
            }
        }
        Ok((with, own))
    }
}

/// Says how the machine changed, if it did too much for the trial to count.
fn drift(trial: &Trial) -> Option<String> {
    WAYS.iter().find_map(|which| {
        let (before, after) = (which(&trial.before).connect_ns, which(&trial.after).connect_ns);
        ((after / before - 1.0).abs() > DRIFT_MAX).then(|| {
            format!("connect() with nothing attached went from {before:.0} to {after:.0} ns")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample::Sample;

    #[test]
    fn drift_is_noticed_in_either_way() {
        let both = |one, many| {
            let sample = |connect_ns| Sample { connect_ns, cycle_ns: connect_ns };
            Both { one: sample(one), many: sample(many) }
        };
        let trial = |before, after| Trial { before, after, ..Trial::default() };
        assert_eq!(drift(&trial(both(5000.0, 6000.0), both(5400.0, 5800.0))), None);
        for after in [both(5600.0, 6000.0), both(5000.0, 5000.0)] {
            let complaint = drift(&trial(both(5000.0, 6000.0), after)).unwrap();
            assert!(complaint.contains("went from"), "{complaint}");
        }
    }
}
