//! One set of policies in an analysis: which clauses speak where, and what they decide together.
//!
//! Where a flow starts or ends, the clauses that speak are those that mean the near end and the far end; with a service
//! and a process left, the first of them decides. Places that the same clauses mean share one number (a *mask*), and what
//! is decided between a near and a far mask is worked out once (a *row*: an outcome for every class of services).

use std::collections::BTreeMap;

use verdict::{Direction, Verdict};

use super::{
    answer::{AnalysisError, Effort},
    bits::{Bits, Numbered},
    clause::{Clause, Clauses, SelectorNumber, Whom},
    processes::{ProcessClasses, ProcessSet},
    services::ServiceClasses,
};

/// Number of a set of clauses.
pub(super) type MaskNumber = usize;
/// Number of what is decided between a near and a far mask.
pub(super) type RowNumber = usize;
/// Number of a clause: less is earlier in having its say.
pub(super) type ClauseNumber = usize;

/// What decides one class of services: a clause for each class of processes, or one for all of them.
type Outcome = Vec<ClauseNumber>;

/// One set of policies.
#[derive(Debug)]
pub(super) struct Side<'a> {
    pub(super) all: Clauses<'a>,
    /// For each class of services the clauses that hold it.
    services: Vec<Bits>,
    /// For each direction and class of the near processes the clauses that hold it.
    processes: [Vec<Bits>; 2],
    /// For each direction the clauses that ask for the near process.
    asking: [Bits; 2],
    masks: Numbered<Bits>,
    known: BTreeMap<(Direction, MaskNumber, MaskNumber), RowNumber>,
    rows: Numbered<Vec<usize>>,
    outcomes: Numbered<Outcome>,
}

/// Numbers of the lists and tests of each clause in the classes.
#[derive(Clone, Debug, Default)]
pub(super) struct ClauseNumbers {
    pub(super) services: Vec<usize>,
    pub(super) from: Vec<usize>,
    pub(super) to: Vec<usize>,
}

impl<'a> Side<'a> {
    pub(super) fn new(
        all: Clauses<'a>,
        numbers: &ClauseNumbers,
        services: &ServiceClasses,
        processes: [&ProcessClasses; 2],
    ) -> Self {
        let len = all.clauses.len();
        let number = |list: &[usize], clause: usize| list.get(clause).copied().unwrap_or(0);
        let services = (0..services.len())
            .map(|class| {
                Bits::of(len, |clause| services.holds(number(&numbers.services, clause), class))
            })
            .collect();
        let tests = [numbers.from.as_slice(), numbers.to.as_slice()];
        let [from, to] = processes;
        let by_class = |classes: &ProcessClasses, tests: &[usize]| -> Vec<Bits> {
            let one = |class| Bits::of(len, |clause| classes.passes(class, number(tests, clause)));
            (0..classes.len()).map(one).collect()
        };
        let [from_tests, to_tests] = tests;
        let processes = [by_class(from, from_tests), by_class(to, to_tests)];
        let asking = |own: &dyn Fn(&Clause) -> bool| {
            Bits::of(len, |clause| all.clauses.get(clause).is_some_and(own))
        };
        let asking = [
            asking(&|clause| clause.from_processes != image::SubjectTest::default()),
            asking(&|clause| clause.to_processes != image::SubjectTest::default()),
        ];
        // Number 0 is nobody.
        let mut masks = Numbered::new();
        masks.number(Bits::none(len));
        Self {
            all,
            services,
            processes,
            asking,
            masks,
            known: BTreeMap::new(),
            rows: Numbered::new(),
            outcomes: Numbered::new(),
        }
    }

    pub(super) fn clause(&self, number: ClauseNumber) -> &Clause {
        self.all.clauses.get(number).expect("outcomes hold numbers of clauses")
    }

    pub(super) fn len(&self) -> usize {
        self.all.clauses.len()
    }

    /// The clauses that mean the near end of flows in `direction`.
    pub(super) fn near(
        &mut self,
        direction: Direction,
        means: impl Fn(SelectorNumber) -> bool,
    ) -> MaskNumber {
        // Who has a loopback address at one end has one at the other, so the far one is looked at.
        self.mask(
            direction,
            |clause| match direction {
                Direction::Out => clause.from,
                Direction::In => clause.to,
            },
            true,
            means,
        )
    }

    /// The clauses that mean the far end of flows in `direction`.
    pub(super) fn far(
        &mut self,
        direction: Direction,
        loopback: bool,
        means: impl Fn(SelectorNumber) -> bool,
    ) -> MaskNumber {
        self.mask(
            direction,
            |clause| match direction {
                Direction::Out => clause.to,
                Direction::In => clause.from,
            },
            loopback,
            means,
        )
    }

    fn mask(
        &mut self,
        direction: Direction,
        whom: impl Fn(&Clause) -> Whom,
        loopback: bool,
        means: impl Fn(SelectorNumber) -> bool,
    ) -> MaskNumber {
        let clauses = &self.all.clauses;
        let bits = Bits::of(clauses.len(), |at| {
            clauses.get(at).is_some_and(|clause| {
                clause.speaks(direction)
                    && match whom(clause) {
                        Whom::Any => true,
                        Whom::Loopback => loopback,
                        Whom::These(selector) => means(selector),
                    }
            })
        });
        self.masks.number(bits)
    }

    /// Whether the clauses of a mask hold this one.
    pub(super) fn mask_holds(&self, mask: MaskNumber, clause: ClauseNumber) -> bool {
        self.masks.values().get(mask).is_some_and(|mask| mask.contains(clause))
    }

    /// Whether a clause holds a class of services.
    pub(super) fn holds(&self, service: usize, clause: ClauseNumber) -> bool {
        self.services.get(service).is_some_and(|held| held.contains(clause))
    }

    /// The clauses that speak between a near and a far mask.
    pub(super) fn speaking(&self, near: MaskNumber, far: MaskNumber) -> Bits {
        let mask =
            |number| self.masks.values().get(number).expect("numbers of masks are given here");
        mask(near).and(mask(far))
    }

    /// Of `speaking` clauses those that hold a service and a process.
    pub(super) fn matching(
        &self,
        direction: Direction,
        speaking: &Bits,
        service: usize,
        class: usize,
    ) -> Bits {
        let of = |sets: &[Bits], at: usize| sets.get(at).map(|set| speaking.and(set));
        let own = of(&self.services, service).unwrap_or_default();
        let [from, to] = &self.processes;
        let processes = match direction {
            Direction::Out => from,
            Direction::In => to,
        };
        processes.get(class).map(|set| own.and(set)).unwrap_or_default()
    }

    /// What is decided between a near and a far mask.
    pub(super) fn row(
        &mut self,
        direction: Direction,
        near: MaskNumber,
        far: MaskNumber,
        effort: &mut Effort,
    ) -> Result<RowNumber, AnalysisError> {
        effort.spend(1)?;
        if let Some(&row) = self.known.get(&(direction, near, far)) {
            return Ok(row);
        }
        let speaking = self.speaking(near, far);
        let [from, to] = &self.processes;
        let [from_asking, to_asking] = &self.asking;
        let (processes, asking) = match direction {
            Direction::Out => (from, from_asking),
            Direction::In => (to, to_asking),
        };
        // Mostly a few of many clauses speak: then it is quicker to ask these than to compare sets.
        let words = speaking.words();
        effort.spend(words)?;
        let few: Vec<ClauseNumber> = speaking.iter().take(words + 1).collect();
        let mut row = Vec::with_capacity(self.services.len());
        for service in &self.services {
            effort.spend(few.len().min(words))?;
            let first = if few.len() <= words {
                few.iter().copied().find(|&clause| service.contains(clause))
            } else {
                speaking.first_common(service)
            };
            let first = first.expect("a default always speaks");
            let outcome = if asking.contains(first) {
                effort.spend(speaking.words() * (processes.len() + 1))?;
                let matching = speaking.and(service);
                let decide = |class: &Bits| {
                    matching.first_common(class).expect("a default asks for no process")
                };
                let mut outcome: Outcome = processes.iter().map(decide).collect();
                if outcome.iter().all(|&clause| clause == first) {
                    outcome.truncate(1);
                }
                outcome
            } else {
                vec![first]
            };
            row.push(self.outcomes.number(outcome));
        }
        let row = self.rows.number(row);
        self.known.insert((direction, near, far), row);
        Ok(row)
    }

    /// What decides a class of services in a row, for each class of processes of `classes`.
    pub(super) fn deciders<'s>(
        &'s self,
        row: RowNumber,
        service: usize,
        classes: &'s ProcessClasses,
    ) -> impl Iterator<Item = ClauseNumber> + 's {
        let outcome = self.rows.values().get(row).and_then(|row| row.get(service));
        let outcome = outcome.and_then(|&at| self.outcomes.values().get(at));
        let outcome = outcome.expect("rows have an outcome for every class of services");
        (0..classes.len()).map(|class| match outcome.as_slice() {
            [one] => *one,
            each => *each.get(class).expect("outcomes have a clause for every class of processes"),
        })
    }

    /// The number of what decides a class of services: equal numbers are equal outcomes.
    pub(super) fn outcome(&self, row: RowNumber, service: usize) -> usize {
        let outcome = self.rows.values().get(row).and_then(|row| row.get(service));
        outcome.copied().expect("rows have an outcome for every class of services")
    }

    /// The processes that are allowed a class of services.
    pub(super) fn allowed(
        &self,
        row: RowNumber,
        service: usize,
        classes: &ProcessClasses,
    ) -> ProcessSet {
        let mut allowed = Bits::none(classes.len());
        for (class, clause) in self.deciders(row, service, classes).enumerate() {
            if self.clause(clause).verdict == Verdict::Allow {
                allowed.insert(class);
            }
        }
        allowed
    }
}
