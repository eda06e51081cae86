//! What was aimed at, as ratios within a round, and whether it was reached.

use serde::Serialize;

use super::contender::{Contender, Decider, Filter, Tries, Ways};
use super::figures::{Round, Trial, WAYS, measured, ratio};
use crate::bench::sample::{Sample, Spread};

/// What holds the million where ours is compared with others: as theirs, a rule about what is connected to.
const OURS: Contender = Contender::Million(Ways::Out);

/// How a ratio may be.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// One aim.
struct Target {
    what: &'static str,
    bound: Bound,
    of: Contender,
    /// Beside whom; none is nothing attached.
    beside: Option<Contender>,
    figure: Figure,
}

/// What is compared.
#[derive(Clone, Copy)]
enum Figure {
    /// connect() with the one, as a multiple of nothing attached; to one address (0) or to many (1).
    OfNothing(usize),
    /// The whole cycle in the same way.
    CycleOfNothing(usize),
    /// connect() with the other as a multiple of connect() with the one.
    Faster,
    /// The other's program's own time as a multiple of the one's, with connections to one address (0) or to many (1).
    OwnTime(usize),
    /// connect() with the one as a multiple of connect() with the other.
    Share,
    /// What the one adds to connect() as a multiple of what the other adds.
    AddedShare,
}

const TARGETS: &[Target] = &[
    of_nothing("connect() with 1,000,000 prefixes, one address", 1.05, OURS, Figure::OfNothing(0)),
    of_nothing(
        "connect() with 1,000,000 prefixes, random addresses",
        1.07,
        OURS,
        Figure::OfNothing(1),
    ),
    of_nothing(
        "whole cycle with 1,000,000 prefixes, one address",
        1.03,
        OURS,
        Figure::CycleOfNothing(0),
    ),
    of_nothing(
        "whole cycle with 1,000,000 prefixes, random addresses",
        1.04,
        OURS,
        Figure::CycleOfNothing(1),
    ),
    of_nothing(
        "connect() with an event per connection",
        1.07,
        Contender::Told,
        Figure::OfNothing(0),
    ),
    faster("nftables, 10,000 rules: times slower than ours", 25.0, Filter::Linear(10_000)),
    faster("nftables, 1,000 rules: times slower than ours", 3.5, Filter::Linear(1_000)),
    faster(
        "nftables, 10,000 rules behind ct: times slower than ours",
        10.0,
        Filter::LinearEstablished(10_000),
    ),
    decider("OpenSnitch: times slower than ours", 50.0, Decider::OpenSnitch),
    decider("NFQUEUE, the smallest decider: times slower than ours", 10.0, Decider::Queue),
    decider("seccomp, the smallest decider: times slower than ours", 10.0, Decider::Notify),
    Target {
        what: "added by an audit rule, as a multiple of what an event per connection adds",
        bound: Bound::AtLeast(15.0),
        of: Contender::Decider(Decider::Audit),
        beside: Some(Contender::Told),
        figure: Figure::AddedShare,
    },
    Target {
        what: "own time in the kernel, one address: three look-ups in LPM tries, as a multiple of ours",
        bound: Bound::AtLeast(4.0),
        of: OURS,
        beside: Some(Contender::Tries(Tries::Policies)),
        figure: Figure::OwnTime(0),
    },
    Target {
        what: "own time in the kernel, random addresses: three look-ups in LPM tries, as a multiple of ours",
        bound: Bound::AtLeast(6.0),
        of: OURS,
        beside: Some(Contender::Tries(Tries::Policies)),
        figure: Figure::OwnTime(1),
    },
    Target {
        what: "added by ours, of what an nftables interval set of 100,000 adds",
        bound: Bound::AtMost(0.25),
        of: OURS,
        beside: Some(Contender::Filter(Filter::Intervals(100_000))),
        figure: Figure::AddedShare,
    },
    Target {
        what: "connect() with ours, of that with an nftables interval set of 100,000",
        bound: Bound::AtMost(0.87),
        of: OURS,
        beside: Some(Contender::Filter(Filter::Intervals(100_000))),
        figure: Figure::Share,
    },
];

const fn of_nothing(what: &'static str, most: f64, of: Contender, figure: Figure) -> Target {
    Target { what, bound: Bound::AtMost(most), of, beside: None, figure }
}

const fn faster(what: &'static str, least: f64, filter: Filter) -> Target {
    Target {
        what,
        bound: Bound::AtLeast(least),
        of: OURS,
        beside: Some(Contender::Filter(filter)),
        figure: Figure::Faster,
    }
}

const fn decider(what: &'static str, least: f64, decider: Decider) -> Target {
    Target {
        what,
        bound: Bound::AtLeast(least),
        of: OURS,
        beside: Some(Contender::Decider(decider)),
        figure: Figure::Faster,
    }
}

/// A target and what became of it.
#[derive(Debug, Serialize)]
pub(super) struct Judged {
    what: &'static str,
    at_most: Option<f64>,
    at_least: Option<f64>,
    /// None where somebody could not be measured.
    reached: Option<Spread>,
    met: bool,
}

impl Judged {
    /// A line of a table.
    pub(super) fn shown(&self) -> String {
        let bound = match (self.at_most, self.at_least) {
            (Some(most), _) => format!("at most {most}"),
            (None, Some(least)) => format!("at least {least}"),
            (None, None) => String::new(),
        };
        let reached = self.reached.map_or_else(|| "not measured".to_owned(), ratio);
        let met = if self.met { "met" } else { "**missed**" };
        format!("| {}: {bound} | {reached} | {met} |", self.what)
    }
}

/// Judges every target whose contenders took part. The median over the rounds counts.
pub(super) fn judge(contenders: &[Contender], rounds: &[Round]) -> Vec<Judged> {
    let takes_part = |target: &&Target| {
        contenders.contains(&target.of)
            && target.beside.is_none_or(|beside| contenders.contains(&beside))
    };
    TARGETS.iter().filter(takes_part).map(|target| target.judge(rounds)).collect()
}

impl Target {
    fn judge(&self, rounds: &[Round]) -> Judged {
        let ratios: Vec<f64> = rounds.iter().filter_map(|round| self.ratio(round)).collect();
        let reached = (!ratios.is_empty()).then(|| ratios.into_iter().collect::<Spread>());
        let met = reached.is_some_and(|spread| match self.bound {
            Bound::AtMost(most) => spread.median <= most,
            Bound::AtLeast(least) => spread.median >= least,
        });
        let (at_most, at_least) = match self.bound {
            Bound::AtMost(most) => (Some(most), None),
            Bound::AtLeast(least) => (None, Some(least)),
        };
        Judged { what: self.what, at_most, at_least, reached, met }
    }

    fn ratio(&self, round: &Round) -> Option<f64> {
        let of = measured(round.get(&self.of)?)?;
        let beside = || measured(round.get(&self.beside?)?);
        let [one, _] = WAYS;
        let connect = |trial: &Trial| one(&trial.with).connect_ns;
        // What drifts between the two is taken out by the nothing beside each.
        let relative = |trial: &Trial| connect(trial) / trial.nothing(one).connect_ns;
        match self.figure {
            Figure::OfNothing(way) => of_nothing_attached(of, way, |it| it.connect_ns),
            Figure::CycleOfNothing(way) => of_nothing_attached(of, way, |it| it.cycle_ns),
            Figure::Faster => Some(relative(beside()?) / relative(of)),
            Figure::OwnTime(way) => {
                let counting = own_ns(measured(round.get(&Contender::Empty)?)?, 0)?;
                Some((own_ns(beside()?, way)? - counting) / (own_ns(of, way)? - counting))
            }
            Figure::Share => Some(relative(of) / relative(beside()?)),
            Figure::AddedShare => Some((relative(of) - 1.0) / (relative(beside()?) - 1.0)),
        }
    }
}

/// Own time of what runs at connect(): the programs that run at the other end are not part of a decision about it.
fn own_ns(trial: &Trial, way: usize) -> Option<f64> {
    let decides = |name: &str| matches!(name, "empty" | "tries" | "connect4");
    let own = trial.own.get(way)?.iter().find(|(name, _)| decides(name))?;
    own.1.each_ns()
}

fn of_nothing_attached(trial: &Trial, way: usize, step: fn(Sample) -> f64) -> Option<f64> {
    let which = WAYS.get(way)?;
    Some(step(which(&trial.with)) / step(trial.nothing(*which)))
}

#[cfg(test)]
mod tests {
    use super::super::figures::Outcome;
    use super::super::stage::Both;
    use super::*;

    fn outcome(nothing: f64, with: f64) -> Outcome {
        let both = |connect_ns| {
            let sample = Sample { connect_ns, cycle_ns: connect_ns };
            Both { one: sample, many: sample }
        };
        let (before, with) = (both(nothing), both(with));
        Outcome::Measured(Box::new(Trial { before, with, after: before, ..Trial::default() }))
    }

    #[test]
    fn targets_are_judged_by_ratios_to_nothing_attached() {
        let intervals = Contender::Filter(Filter::Intervals(100_000));
        let linear = Contender::Filter(Filter::Linear(10_000));
        let contenders = [OURS, intervals, linear];
        // The machine is twice as slow when the second is measured.
        let round = Round::from([
            (OURS, outcome(1_000.0, 1_100.0)),
            (intervals, outcome(2_000.0, 4_000.0)),
            (linear, Outcome::Unavailable(String::new())),
        ]);
        let judged = judge(&contenders, &[round]);
        let find = |words: &str| judged.iter().find(|it| it.what.contains(words)).unwrap();
        let added = find("added by ours");
        assert!(added.met && (added.reached.unwrap().median - 0.1).abs() < 1e-9);
        let one = find("prefixes, one address");
        assert!(!one.met && (one.reached.unwrap().median - 1.1).abs() < 1e-9);
        let missing = find("nftables, 10,000 rules: times");
        assert!(!missing.met && missing.reached.is_none());
        assert!(missing.shown().contains("not measured"));
        assert!(!judged.iter().any(|it| it.what.contains("event per connection")));
    }
}
