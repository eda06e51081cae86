//! From samples to medians, a table and JSON.

use super::contender::Contender;
use super::own_time::OwnTime;
use crate::bench::sample::{Sample, Spread};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One round: nothing attached, then a contender and nothing attached again, and so on.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    /// One more than contenders.
    pub nothing: Vec<Sample>,
    /// In the order of [`Contender::ALL`].
    pub contenders: Vec<Sample>,
    /// Programs' own times: the empty program's, and those of the whole firewall's.
    pub own: Vec<(String, OwnTime)>,
}

/// One line of the table. Ratios are to nothing attached, measured just before and just after.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    connect_ns: Spread,
    connect_ratio: Spread,
    connect_added_ns: Spread,
    cycle_ns: Spread,
    cycle_ratio: Spread,
}

/// One program's own time for each run of it, without the cost of counting.
#[derive(Debug, Serialize)]
struct Own {
    program: String,
    runs_per_cycle: f64,
    counted_ns: Spread,
    net_ns: f64,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    kernel: String,
    rounds: usize,
    rounds_thrown_away: u32,
    cycles: u64,
    nothing_connect_ns: Spread,
    nothing_cycle_ns: Spread,
    contenders: Vec<Row>,
    /// What the kernel counts for a program that does nothing.
    counting_ns: Spread,
    own_time: Vec<Own>,
}

impl Figures {
    pub(super) fn of(rounds: &[Round], rounds_thrown_away: u32, cycles: u64) -> Self {
        let nothing = |step: fn(&Sample) -> f64| {
            rounds.iter().flat_map(|round| round.nothing.iter().map(step)).collect::<Spread>()
        };
        let (counting_ns, own_time) = own_times(rounds, cycles);
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            rounds: rounds.len(),
            rounds_thrown_away,
            cycles,
            nothing_connect_ns: nothing(|sample| sample.connect_ns),
            nothing_cycle_ns: nothing(|sample| sample.cycle_ns),
            contenders: (0..).zip(Contender::ALL).map(|(at, it)| Row::of(rounds, at, it)).collect(),
            counting_ns,
            own_time,
        }
    }

    /// For people; Markdown, so that it can be pasted.
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "Linux {}, {} rounds of {} connections each; median [min to max] over the rounds; {} rounds thrown away\n\n",
            self.kernel, self.rounds, self.cycles, self.rounds_thrown_away
        );
        text += "| attached | connect(), ns | added, ns | connect(), x | whole cycle, ns | cycle, x |\n";
        text += "|---|---|---|---|---|---|\n";
        let line = format!(
            "| nothing | {} | | | {} | |\n",
            whole(self.nothing_connect_ns),
            whole(self.nothing_cycle_ns)
        );
        text += &line;
        for row in &self.contenders {
            let written = writeln!(
                text,
                "| {} | {} | {:+.0} | {} | {} | {} |",
                row.name,
                whole(row.connect_ns),
                row.connect_added_ns.median,
                ratio(row.connect_ratio),
                whole(row.cycle_ns),
                ratio(row.cycle_ratio)
            );
            written.expect("a String takes every write");
        }
        text += "\n| program of fwnet | runs in a cycle | own time of a run, ns | less the counting, ns |\n|---|---|---|---|\n";
        let counting = format!("| (empty) | 1 | {} | 0 |\n", whole(self.counting_ns));
        text += &counting;
        for own in &self.own_time {
            let written = writeln!(
                text,
                "| {} | {:.0} | {} | {:.0} |",
                own.program,
                own.runs_per_cycle,
                whole(own.counted_ns),
                own.net_ns
            );
            written.expect("a String takes every write");
        }
        text
    }
}

impl Row {
    fn of(rounds: &[Round], at: usize, contender: Contender) -> Self {
        let pairs: Vec<(Sample, Sample)> = rounds
            .iter()
            .filter_map(|round| {
                let (before, after) = (round.nothing.get(at)?, round.nothing.get(at + 1)?);
                Some((*round.contenders.get(at)?, mean(*before, *after)))
            })
            .collect();
        let over =
            |figure: fn(&(Sample, Sample)) -> f64| pairs.iter().map(figure).collect::<Spread>();
        Self {
            name: contender.name(),
            connect_ns: over(|(it, _)| it.connect_ns),
            connect_ratio: over(|(it, nothing)| it.connect_ns / nothing.connect_ns),
            connect_added_ns: over(|(it, nothing)| it.connect_ns - nothing.connect_ns),
            cycle_ns: over(|(it, _)| it.cycle_ns),
            cycle_ratio: over(|(it, nothing)| it.cycle_ns / nothing.cycle_ns),
        }
    }
}

fn mean(a: Sample, b: Sample) -> Sample {
    Sample {
        connect_ns: f64::midpoint(a.connect_ns, b.connect_ns),
        cycle_ns: f64::midpoint(a.cycle_ns, b.cycle_ns),
    }
}

/// The cost of counting, and each program's own time; programs that did not run have none.
#[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
fn own_times(rounds: &[Round], cycles: u64) -> (Spread, Vec<Own>) {
    let mut times: BTreeMap<&str, Vec<OwnTime>> = BTreeMap::new();
    for (name, own) in rounds.iter().flat_map(|round| &round.own) {
        if own.runs > 0 {
            times.entry(name).or_default().push(*own);
        }
    }
    let each = |own: &[OwnTime]| {
        own.iter().map(|it| it.time_ns as f64 / it.runs as f64).collect::<Spread>()
    };
    let counting = times.remove("empty").map_or_else(Spread::default, |own| each(&own));
    let programs = times.into_iter().map(|(program, own)| {
        let counted_ns = each(&own);
        Own {
            program: program.to_owned(),
            runs_per_cycle: own
                .iter()
                .map(|it| it.runs as f64 / cycles as f64)
                .collect::<Spread>()
                .median,
            counted_ns,
            net_ns: counted_ns.median - counting.median,
        }
    });
    (counting, programs.collect())
}

fn whole(spread: Spread) -> String {
    format!("{:.0} [{:.0} to {:.0}]", spread.median, spread.min, spread.max)
}

fn ratio(spread: Spread) -> String {
    format!("{:.3} [{:.3} to {:.3}]", spread.median, spread.min, spread.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(time: f64) -> Sample {
        Sample { connect_ns: time, cycle_ns: 2.0 * time }
    }

    #[test]
    fn a_contender_is_compared_with_its_two_neighbours() {
        // A machine that becomes slower all the time: every contender is as fast as nothing attached.
        let times = |first: usize, count: usize| {
            (0..count).map(|at| sample(1000.0 + 10.0 * (first + 2 * at) as f64)).collect::<Vec<_>>()
        };
        let count = Contender::ALL.len();
        let round =
            Round { nothing: times(0, count + 1), contenders: times(1, count), own: Vec::new() };
        let figures = Figures::of(&[round.clone(), round], 0, 100);
        assert_eq!(figures.contenders.len(), count);
        for row in &figures.contenders {
            assert_eq!(row.connect_ratio, Spread { median: 1.0, min: 1.0, max: 1.0 });
            assert_eq!(row.cycle_ratio.median, 1.0);
        }
    }

    #[test]
    fn own_time_is_less_what_counting_costs() {
        let own = |name: &str, runs, time_ns| (name.to_owned(), OwnTime { runs, time_ns });
        let own = vec![own("empty", 10, 400), own("connect4", 10, 900), own("post_bind4", 0, 0)];
        let (counting, programs) = own_times(&[Round { own, ..Round::default() }], 10);
        assert_eq!(counting.median, 40.0);
        assert_eq!(programs.len(), 1);
        assert_eq!((programs[0].net_ns, programs[0].runs_per_cycle), (50.0, 1.0));
    }
}
