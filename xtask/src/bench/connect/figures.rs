//! From trials to medians, tables and JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::contender::Contender;
use super::own_time::OwnTime;
use super::stage::Both;
use super::targets::{self, Judged};
use crate::bench::line;
use crate::bench::plot::{self, Bar};
use crate::bench::sample::{Sample, Spread};

/// What is known of one contender in one round.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Measured(Box<Trial>),
    /// It cannot be measured here, and why.
    Unavailable(String),
}

/// One contender, measured between two times of nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Trial {
    pub before: Both,
    pub with: Both,
    pub after: Both,
    /// Programs' own times: with connections to one address, and to many.
    pub own: OwnTimes,
}

/// Programs' own times by their names, in the order of [`WAYS`].
pub(super) type OwnTimes = [Vec<(String, OwnTime)>; 2];

/// Characters that the table has of a reason.
const WHY_MAX: usize = 160;

/// All contenders once.
pub(super) type Round = BTreeMap<Contender, Outcome>;

/// One way to connect: to one address, or to many.
pub(super) type Which = fn(&Both) -> Sample;

/// In the order of [`Trial::own`].
pub(super) const WAYS: [Which; 2] = [|both| both.one, |both| both.many];

impl Trial {
    /// Nothing attached, around this trial.
    pub(super) fn nothing(&self, which: Which) -> Sample {
        let (a, b) = (which(&self.before), which(&self.after));
        Sample {
            connect_ns: f64::midpoint(a.connect_ns, b.connect_ns),
            cycle_ns: f64::midpoint(a.cycle_ns, b.cycle_ns),
        }
    }
}

/// One contender in one way. Ratios are to nothing attached, measured just before and just after.
#[derive(Clone, Debug, Serialize)]
struct Compared {
    connect_ns: Spread,
    connect_ratio: Spread,
    connect_added_ns: Spread,
    cycle_ns: Spread,
    cycle_ratio: Spread,
}

/// One program's own time for each run of it, without the cost of counting.
#[derive(Clone, Debug, Serialize)]
struct Own {
    program: String,
    runs_per_cycle: f64,
    counted_ns: Spread,
    net_ns: f64,
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Row {
    key: String,
    name: String,
    ours: bool,
    unavailable: Option<String>,
    one_address: Option<Compared>,
    many_addresses: Option<Compared>,
    own_time_one_address: Vec<Own>,
    own_time_many_addresses: Vec<Own>,
}

/// How the measurement went.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Course {
    pub rounds: usize,
    pub cycles: u64,
    /// Measurements that were repeated because nothing attached changed meanwhile.
    pub repeated: u32,
    /// Measurements that count although it did.
    pub unsteady: u32,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    kernel: String,
    course: Course,
    nothing_one_address: Nothing,
    nothing_many_addresses: Nothing,
    contenders: Vec<Row>,
    /// What the kernel counts for a program that does nothing.
    counting_ns: Spread,
    targets: Vec<Judged>,
}

#[derive(Debug, Serialize)]
struct Nothing {
    connect_ns: Spread,
    cycle_ns: Spread,
}

impl Figures {
    pub(super) fn of(contenders: &[Contender], rounds: &[Round], course: Course) -> Self {
        let counting_ns = counting(rounds);
        let [one, many] = WAYS.map(|which| {
            let all = || rounds.iter().flat_map(Round::values).filter_map(measured);
            Nothing {
                connect_ns: all().map(|trial| trial.nothing(which).connect_ns).collect(),
                cycle_ns: all().map(|trial| trial.nothing(which).cycle_ns).collect(),
            }
        });
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            course,
            nothing_one_address: one,
            nothing_many_addresses: many,
            contenders: contenders.iter().map(|it| Row::of(rounds, *it, counting_ns)).collect(),
            counting_ns,
            targets: targets::judge(contenders, rounds),
        }
    }

    /// For people; Markdown, so that it can be pasted.
    pub(super) fn table(&self) -> String {
        let Course { rounds, cycles, repeated, unsteady } = self.course;
        let mut text = format!(
            "Linux {}, {rounds} rounds of up to {cycles} connections each; median [min to max] over the rounds; \
             {repeated} measurements repeated, {unsteady} of the rest unsteady\n\n",
            self.kernel
        );
        text += "| attached | connect(), ns | added, ns | connect(), x | cycle, x | random addresses: connect(), ns | connect(), x | cycle, x |\n";
        text += "|---|---|---|---|---|---|---|---|\n";
        line(
            &mut text,
            &format!(
                "| nothing | {} | | | {} ns | {} | | {} ns |",
                whole(self.nothing_one_address.connect_ns),
                whole(self.nothing_one_address.cycle_ns),
                whole(self.nothing_many_addresses.connect_ns),
                whole(self.nothing_many_addresses.cycle_ns)
            ),
        );
        for row in &self.contenders {
            line(&mut text, &row.shown());
        }
        self.own_times(&mut text);
        if !self.targets.is_empty() {
            text += "\n| target | reached in this run | |\n|---|---|---|\n";
            for target in &self.targets {
                line(&mut text, &target.shown());
            }
        }
        text
    }

    /// connect() to one address as a multiple of nothing attached, drawn.
    pub(super) fn drawing(&self) -> String {
        let bar = |row: &Row| {
            let times = row.one_address.as_ref()?.connect_ratio;
            Some(Bar { name: row.name.clone(), times, ours: row.ours })
        };
        let bars: Vec<_> = self.contenders.iter().filter_map(bar).collect();
        plot::bars("connect() as a multiple of nothing attached, one address (logarithmic)", &bars)
    }

    fn own_times(&self, text: &mut String) {
        *text += "\n| program of fwnet | runs in a cycle | own time of a run, ns | less the counting, ns | random addresses: less the counting, ns |\n|---|---|---|---|---|\n";
        line(text, &format!("| (empty) | 1 | {} | 0 | 0 |", whole(self.counting_ns)));
        for row in &self.contenders {
            for own in &row.own_time_one_address {
                let many = row.own_time_many_addresses.iter().find(|it| it.program == own.program);
                let many = many.map_or_else(String::new, |it| format!("{:.0}", it.net_ns));
                line(
                    text,
                    &format!(
                        "| {}: {} | {:.0} | {} | {:.0} | {many} |",
                        row.name,
                        own.program,
                        own.runs_per_cycle,
                        whole(own.counted_ns),
                        own.net_ns
                    ),
                );
            }
        }
    }
}

/// The trial, if there is one.
pub(super) fn measured(outcome: &Outcome) -> Option<&Trial> {
    match outcome {
        Outcome::Measured(trial) => Some(trial),
        Outcome::Unavailable(_) => None,
    }
}

impl Row {
    fn of(rounds: &[Round], contender: Contender, counting_ns: Spread) -> Self {
        let outcomes: Vec<_> = rounds.iter().filter_map(|round| round.get(&contender)).collect();
        let trials: Vec<_> = outcomes.iter().copied().filter_map(measured).collect();
        let unavailable = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Unavailable(why) => Some(why.clone()),
            Outcome::Measured(_) => None,
        });
        let [one, many] = WAYS.map(|which| Compared::of(&trials, which));
        // Those of the empty program are what counting costs.
        let shown = contender != Contender::Empty;
        let own = |way: usize| {
            let counted = trials.iter().filter(|_| shown).filter_map(|it| it.own.get(way));
            own_times(counted, counting_ns)
        };
        Self {
            key: contender.key(),
            name: contender.name(),
            ours: contender.name().starts_with("fwnet"),
            unavailable,
            one_address: one,
            many_addresses: many,
            own_time_one_address: own(0),
            own_time_many_addresses: own(1),
        }
    }

    fn shown(&self) -> String {
        let (Some(one), Some(many)) = (&self.one_address, &self.many_addresses) else {
            // A verifier's log is long; JSON has all of it.
            let why = self.unavailable.as_deref().unwrap_or("not measured");
            let why: String = why.chars().take(WHY_MAX).collect();
            return format!(
                "| {} | not measured: {} | | | | | | |",
                self.name,
                why.replace('\n', " ")
            );
        };
        format!(
            "| {} | {} | {:+.0} | {} | {} | {} | {} | {} |",
            self.name,
            whole(one.connect_ns),
            one.connect_added_ns.median,
            ratio(one.connect_ratio),
            ratio(one.cycle_ratio),
            whole(many.connect_ns),
            ratio(many.connect_ratio),
            ratio(many.cycle_ratio)
        )
    }
}

impl Compared {
    fn of(trials: &[&Trial], which: Which) -> Option<Self> {
        if trials.is_empty() {
            return None;
        }
        let pairs = || trials.iter().map(|trial| (which(&trial.with), trial.nothing(which)));
        let over = |figure: fn((Sample, Sample)) -> f64| pairs().map(figure).collect::<Spread>();
        Some(Self {
            connect_ns: over(|(it, _)| it.connect_ns),
            connect_ratio: over(|(it, nothing)| it.connect_ns / nothing.connect_ns),
            connect_added_ns: over(|(it, nothing)| it.connect_ns - nothing.connect_ns),
            cycle_ns: over(|(it, _)| it.cycle_ns),
            cycle_ratio: over(|(it, nothing)| it.cycle_ns / nothing.cycle_ns),
        })
    }
}

/// What counting costs: the empty program's time with connections to one address.
pub(super) fn counting(rounds: &[Round]) -> Spread {
    let empty = rounds.iter().filter_map(|round| measured(round.get(&Contender::Empty)?));
    let own = empty.flat_map(|trial| trial.own.first().into_iter().flatten());
    own.filter_map(|(_, own)| own.each_ns()).collect()
}

/// Each program's own time; programs that did not run have none.
fn own_times<'a>(
    trials: impl Iterator<Item = &'a Vec<(String, OwnTime)>>,
    counting_ns: Spread,
) -> Vec<Own> {
    let mut times: BTreeMap<&str, Vec<OwnTime>> = BTreeMap::new();
    for (name, own) in trials.flatten() {
        if own.runs > 0 {
            times.entry(name).or_default().push(*own);
        }
    }
    let programs = times.into_iter().map(|(program, own)| {
        let counted_ns: Spread = own.iter().filter_map(|it| it.each_ns()).collect();
        Own {
            program: program.to_owned(),
            runs_per_cycle: own.iter().map(|it| it.runs_per_cycle()).collect::<Spread>().median,
            counted_ns,
            net_ns: counted_ns.median - counting_ns.median,
        }
    });
    programs.collect()
}

fn whole(spread: Spread) -> String {
    format!("{:.0} [{:.0} to {:.0}]", spread.median, spread.min, spread.max)
}

/// A ratio for people.
pub(super) fn ratio(spread: Spread) -> String {
    format!("{:.3} [{:.3} to {:.3}]", spread.median, spread.min, spread.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(time: f64) -> Both {
        let sample = Sample { connect_ns: time, cycle_ns: 2.0 * time };
        Both { one: sample, many: sample }
    }

    #[test]
    fn a_contender_is_compared_with_its_two_neighbours() {
        // A machine that becomes slower all the time: every contender is as fast as nothing attached.
        let trial = |at: f64| Trial {
            before: both(1000.0 + at),
            with: both(1010.0 + at),
            after: both(1020.0 + at),
            ..Trial::default()
        };
        let round =
            |at| Round::from([(Contender::Control, Outcome::Measured(Box::new(trial(at))))]);
        let course = Course { rounds: 2, cycles: 100, ..Course::default() };
        let figures = Figures::of(&[Contender::Control], &[round(0.0), round(40.0)], course);
        let row = figures.contenders.first().unwrap();
        let one = row.one_address.as_ref().unwrap();
        assert_eq!(one.connect_ratio, Spread { median: 1.0, min: 1.0, max: 1.0 });
        assert_eq!(one.cycle_ratio.median, 1.0);
        assert!(
            figures.table().contains("nothing attached, again (control) | 1030 [1010 to 1050]")
        );
    }

    #[test]
    fn who_cannot_be_measured_is_named_with_the_reason() {
        let round =
            Round::from([(Contender::Nftables, Outcome::Unavailable("no\nnft".to_owned()))]);
        let table = Figures::of(&[Contender::Nftables], &[round], Course::default()).table();
        assert!(table.contains("| nftables, the same 3 rules | not measured: no nft |"), "{table}");
    }

    #[test]
    fn own_time_is_less_what_counting_costs() {
        let own =
            |name: &str, runs, time_ns| (name.to_owned(), OwnTime { runs, time_ns, cycles: 10 });
        let trial =
            |own| Outcome::Measured(Box::new(Trial { own: [own, Vec::new()], ..Trial::default() }));
        let round = Round::from([
            (Contender::Empty, trial(vec![own("empty", 10, 400)])),
            (Contender::Fwnet, trial(vec![own("connect4", 10, 900), own("post_bind4", 0, 0)])),
        ]);
        let contenders = [Contender::Empty, Contender::Fwnet];
        let figures = Figures::of(&contenders, &[round], Course::default());
        assert_eq!(figures.counting_ns.median, 40.0);
        let programs = &figures.contenders.last().unwrap().own_time_one_address;
        assert_eq!(programs.len(), 1);
        assert_eq!((programs[0].net_ns, programs[0].runs_per_cycle), (50.0, 1.0));
    }
}
