//! The rules under kills, failing disks, reboots and passing time: a simulated host takes the steps, and after any
//! sequence what is in force is what the rules of confirm and rollback say.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

/// What may happen to a host.
#[derive(Clone, Debug)]
enum Happens {
    /// An event, of which only so many steps are taken before the agent is killed (`None`: all), or one step fails.
    Event(Event, Option<usize>, Option<usize>),
    Kill,
    Start,
    Reboot,
    Passes(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let session = || proptest::option::of((0u16..3).prop_map(|port| format!("::1 {port} ::1 22")));
    let event = prop_oneof![
        3 => (1u64..100).prop_map(|s| Event::Apply { confirm: Some(Duration::from_secs(s)) }),
        2 => Just(Event::Apply { confirm: None }),
        3 => session().prop_map(|session| Event::Confirm { session }),
        2 => Just(Event::Rollback),
        1 => Just(Event::Panic),
        1 => Just(Event::Resume),
    ];
    let cut = || proptest::option::weighted(0.3, 0usize..4);
    prop_oneof![
        6 => (event, cut(), cut()).prop_map(|(event, kill, fail)| Happens::Event(event, kill, fail)),
        1 => Just(Happens::Kill),
        2 => Just(Happens::Start),
        1 => Just(Happens::Reboot),
        3 => (1..80 * SECOND).prop_map(Happens::Passes),
    ]
}

/// A host: its disk, its kernel, its clock, and what the test remembers.
struct World {
    disk: Standing,
    /// What the kernel has: a schedule, and whether it is in lockdown. A reboot takes it.
    kernel: Option<(Law, bool)>,
    now_ns: u64,
    boot: u32,
    alive: bool,
    /// Every edition that was current at some time.
    once_current: BTreeSet<Version>,
    /// Deadlines of trials and of commits, by version: in force before them is all right.
    deadlines: Vec<(Version, u32, u64)>,
}

impl World {
    fn new() -> Self {
        let disk = Standing {
            current: Some(1),
            previous: None,
            trial: None,
            stance: Stance::Policy,
            next: 2,
        };
        let mut world = Self {
            disk,
            kernel: None,
            now_ns: 5 * SECOND,
            boot: 0,
            alive: false,
            once_current: BTreeSet::from([1]),
            deadlines: Vec::new(),
        };
        world.start();
        world
    }

    fn happen(&mut self, happens: &Happens) -> Result<(), TestCaseError> {
        match happens {
            Happens::Event(event, kill, fail) if self.alive => self.event(event, *kill, *fail)?,
            Happens::Event(..) => {}
            Happens::Kill => self.alive = false,
            Happens::Start => self.start(),
            Happens::Reboot => {
                self.kernel = None;
                self.boot += 1;
                self.now_ns = SECOND;
                self.start();
            }
            Happens::Passes(time) => self.now_ns += time,
        }
        if self.alive {
            // A disk that fails goes on failing for a while: what it does not take is tried again with the next tick.
            let disk_fails = matches!(happens, Happens::Event(_, _, Some(_)));
            self.event(&Event::Tick, None, disk_fails.then_some(1))?;
        }
        self.check()
    }

    fn start(&mut self) {
        self.alive = true;
        // What stands in memory only is gone with the agent before.
        self.disk.trial.iter_mut().for_each(|trial| trial.ended = false);
        let (boot, plan) = (self.boot.to_string(), Event::Started);
        let moment = Moment { boottime_ns: self.now_ns, boot: &boot };
        let plan = self.disk.plan(&plan, moment).expect("beginning is never refused");
        for step in &plan.steps {
            self.take(step, None);
        }
    }

    fn event(
        &mut self,
        event: &Event,
        kill: Option<usize>,
        fail: Option<usize>,
    ) -> Result<(), TestCaseError> {
        let boot = self.boot.to_string();
        let moment = Moment { boottime_ns: self.now_ns, boot: &boot };
        let before = (self.disk.clone(), self.kernel);
        let plan = match self.disk.plan(event, moment) {
            Ok(plan) => plan,
            Err(refusal) => return self.refused(event, &refusal),
        };
        for (count, step) in plan.steps.iter().enumerate() {
            if kill == Some(count) {
                self.alive = false;
                return Ok(());
            }
            if fail == Some(count) {
                for step in &plan.otherwise {
                    self.take(step, None);
                }
                // What failed before the disk had it has changed nothing.
                let after = self.kernel.map(|kernel| kernel.0);
                if matches!(event, Event::Apply { .. }) && self.disk.current == before.0.current {
                    prop_assert_eq!(after, before.1.map(|it| it.0));
                }
                return Ok(());
            }
            let session = Some("::1 1 ::1 22".to_owned());
            self.take(step, session);
        }
        self.done(event, &before.0);
        Ok(())
    }

    /// What was done must hold at once.
    fn done(&self, event: &Event, before: &Standing) {
        let (law, lockdown) = self.kernel.expect("an agent that is alive enforces");
        match event {
            Event::Apply { .. } => assert_eq!(law.now, before.next),
            Event::Confirm { .. } => {
                let trial = before.trial.as_ref().expect("there was a trial");
                assert_eq!((law.now, law.then), (trial.version, None));
                assert_eq!(self.disk.current, Some(trial.version));
            }
            Event::Rollback if before.trial.is_some() => {
                assert_eq!((Some(law.now), law.then), (before.current, None));
            }
            Event::Rollback => assert_eq!(law.now, before.next),
            Event::Panic => assert!(lockdown),
            Event::Resume => assert!(!lockdown),
            Event::Started | Event::Tick => {}
        }
    }

    fn refused(&self, event: &Event, refusal: &Refusal) -> Result<(), TestCaseError> {
        let running = self.disk.trial.as_ref().is_some_and(|trial| !trial.ended);
        let right = match refusal {
            Refusal::TrialRuns(_) => running && matches!(event, Event::Apply { .. }),
            Refusal::SameSession(_) => {
                running && *event == Event::Confirm { session: Some("::1 1 ::1 22".into()) }
            }
            Refusal::NoTrial => !running,
            Refusal::NoPrevious => self.disk.previous.is_none(),
            // The tick before has cleared it away.
            Refusal::TooLate(_) | Refusal::NoCurrent => false,
        };
        prop_assert!(right, "{event:?}: {refusal:?} with {:?}", self.disk);
        Ok(())
    }

    fn take(&mut self, step: &Step, session: Option<String>) {
        let lockdown = self.kernel.is_some_and(|kernel| kernel.1);
        match step {
            Step::Enforce(law) => {
                self.kernel = Some((*law, lockdown));
                if let Some((until, _)) = law.then {
                    self.deadlines.push((law.now, self.boot, until));
                }
            }
            Step::Obey => {
                let boot = self.boot.to_string();
                let moment = Moment { boottime_ns: self.now_ns, boot: &boot };
                let law = self.disk.law(moment).expect("there always is a current edition");
                self.kernel = Some((law, lockdown));
            }
            Step::Lockdown(on) => {
                let (law, _) = self.kernel.expect("lockdown needs programs");
                self.kernel = Some((law, *on));
            }
            Step::Propose(until_ns) => {
                let boot = self.boot.to_string();
                let (version, until_ns) = (self.disk.next, *until_ns);
                let trial = Trial { version, until_ns, boot, session, ended: false };
                self.disk.trial = Some(trial);
                self.disk.next += 1;
            }
            Step::Commit(_) => {
                let version = self.disk.next;
                self.become_current(version);
                self.disk.next += 1;
            }
            Step::Settle => {
                let trial = self.disk.trial.take().expect("only a trial is confirmed");
                self.become_current(trial.version);
            }
            Step::Withdraw => self.disk.trial = None,
            Step::End => self.disk.trial.iter_mut().for_each(|trial| trial.ended = true),
            Step::Stance(stance) => self.disk.stance = *stance,
        }
    }

    fn become_current(&mut self, version: Version) {
        self.disk.previous = self.disk.current;
        self.disk.current = Some(version);
        self.disk.trial = None;
        self.once_current.insert(version);
    }

    /// The kernel by itself: nobody helps it over a deadline.
    fn in_force(&self) -> Option<Version> {
        let (law, _) = self.kernel?;
        Some(match law.then {
            Some((until, then)) if self.now_ns >= until => then,
            Some(_) | None => law.now,
        })
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let boot = self.boot.to_string();
        let moment = Moment { boottime_ns: self.now_ns, boot: &boot };
        let Some(version) = self.in_force() else { return Ok(()) };
        let in_time = |(of, boot, until): &(Version, u32, u64)| {
            *of == version && *boot == self.boot && self.now_ns < *until
        };
        prop_assert!(
            self.once_current.contains(&version) || self.deadlines.iter().any(in_time),
            "version {version} is in force although nobody confirmed it: {:?}",
            self.disk
        );
        if self.alive {
            let law = self.disk.law(moment).expect("there always is a current edition");
            prop_assert_eq!(version, law.now);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_in_force_is_what_the_rules_say(all in proptest::collection::vec(happens(), 1..40)) {
        let mut world = World::new();
        for happens in &all {
            world.happen(happens)?;
        }
        // An agent that dies for good leaves what was confirmed: once every deadline has passed.
        world.alive = false;
        world.now_ns += 1_000 * SECOND;
        if let Some(version) = world.in_force() {
            prop_assert!(world.once_current.contains(&version));
        }
        // And the next one puts in force what the disk says, lockdown included.
        world.start();
        prop_assert_eq!(world.in_force(), world.disk.current);
        let lockdown = world.kernel.is_some_and(|kernel| kernel.1);
        prop_assert!(lockdown || world.disk.stance != Stance::Lockdown);
    }
}

#[test]
fn a_trial_of_another_boot_is_over() {
    let trial = Trial { version: 2, until_ns: 50, boot: "a".into(), session: None, ended: false };
    let standing = Standing {
        current: Some(1),
        previous: None,
        trial: Some(trial),
        stance: Stance::Policy,
        next: 3,
    };
    let law = |boot| standing.law(Moment { boottime_ns: 10, boot }).unwrap();
    assert_eq!(law("a"), Law { now: 2, then: Some((50, 1)) });
    assert_eq!(law("b"), Law { now: 1, then: None });
    let begun = standing.plan(&Event::Started, Moment { boottime_ns: 10, boot: "b" }).unwrap();
    assert_eq!(begun.steps, [Step::Enforce(law("b")), Step::Withdraw]);
}
