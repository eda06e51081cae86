//! What to do next: from what stands on disk, what happened and the time, to the steps that follow, in their order.
//!
//! The disk says what is right, and the kernel follows it: [`Standing::law`]. A policy on trial is in force until its
//! deadline, which the kernel programs evaluate themselves; unless it is confirmed before, the current policy follows.
//! Steps are ordered so that an agent that dies between any two of them leaves a host that goes back by itself, or one
//! that its next agent sets right; an emergency ([`Event::Rollback`] of a trial, [`Event::Panic`]) reaches the kernel
//! before the disk, so that a disk that cannot be written delays neither.
//!
//! Time is what CLOCK_BOOTTIME says, in nanoseconds: nobody can set it back. It starts anew with every boot, so a boot
//! has a name, and a trial of another boot is over.

mod session;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use session::is_new_way_in;

use crate::store::{Stance, State};

/// The number of an edition.
pub type Version = u64;

/// How long an edition that is applied for good may be in force before it stands on disk; past it the kernel goes back
/// by itself. A disk that takes longer to write a policy is broken.
pub const COMMIT_WITHIN: Duration = Duration::from_secs(60);

/// A moment, in one boot of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment<'a> {
    /// Nanoseconds of CLOCK_BOOTTIME.
    pub boottime_ns: u64,
    /// Which boot (`/proc/sys/kernel/random/boot_id`).
    pub boot: &'a str,
}

/// What stands on disk, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The edition that is in force for good.
    pub current: Option<Version>,
    /// The one before it.
    pub previous: Option<Version>,
    /// The one that waits to be confirmed.
    pub trial: Option<Trial>,
    /// Policy, lockdown, or nothing at all.
    pub stance: Stance,
    /// The number of the next edition.
    pub next: Version,
}

/// An edition that waits to be confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Which.
    pub version: Version,
    /// Until when, in the boot `boot`.
    pub until_ns: u64,
    /// The boot in which that counts.
    pub boot: String,
    /// The session that applied it, if it was a remote one.
    pub session: Option<String>,
    /// It was ended, and the disk, which could not be written, does not know.
    pub ended: bool,
}

/// What is to be in force by the rules of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Law {
    /// Now.
    pub now: Version,
    /// From a moment on, in nanoseconds of CLOCK_BOOTTIME; without it, for good.
    pub then: Option<(u64, Version)>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An agent began: nobody knows what its predecessor had done last.
    Started,
    /// Time passed.
    Tick,
    /// The next edition is to be in force: on trial for a time, or for good.
    Apply {
        /// How long there is to confirm.
        confirm: Option<Duration>,
    },
    /// The trial is to be in force for good.
    Confirm {
        /// The session that says so, if it is a remote one.
        session: Option<String>,
    },
    /// The trial is to end; without one, the edition before the current one is to be in force again.
    Rollback,
    /// Only the failsafe set is to be allowed.
    Panic,
    /// The policy is to be in force again.
    Resume,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Have the kernel enforce this.
    Enforce(Law),
    /// Have the kernel enforce what the disk says by then: [`Standing::law`].
    Obey,
    /// Begin or end lockdown in the kernel.
    Lockdown(bool),
    /// Write the next edition as one on trial, with its deadline.
    Propose(u64),
    /// Write the next edition as the current one. With a version: the rules of that one, again.
    Commit(Option<Version>),
    /// Write the trial as the current edition.
    Settle,
    /// Remove the trial.
    Withdraw,
    /// Remember that the trial was ended, although the disk could not be written: it must not come back with the next
    /// look at the disk, and each [`Event::Tick`] tries to remove it again.
    End,
    /// Write the stance.
    Stance(Stance),
}

/// What follows from an event: steps in order, and those that are taken instead of the rest when one fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
    /// What puts things right after a step failed.
    pub otherwise: Vec<Step>,
}

/// Why nothing follows from an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing waits to be confirmed.
    #[error("nothing waits to be confirmed")]
    NoTrial,
    /// The trial is over.
    #[error(
        "it is too late: version {0} was not confirmed in time, and the policy before it is in force again"
    )]
    TooLate(Version),
    /// The session that applied it is no proof that one can still get in.
    #[error(
        "confirm over a new connection: this is the session that applied version {0}, which stays open whatever the policy says"
    )]
    SameSession(Version),
    /// There is only one edition.
    #[error("there is no policy to go back to")]
    NoPrevious,
    /// Another edition waits.
    #[error("version {0} waits to be confirmed: fwnet confirm or fwnet rollback first")]
    TrialRuns(Version),
    /// There is no current edition to fall back on.
    #[error("there is no policy in force to fall back on")]
    NoCurrent,
}

impl Standing {
    /// What a store says.
    pub fn of<P>(state: &State<P>, next: Version) -> Self {
        let version = |edition: &crate::edition::Edition| edition.version;
        Self {
            current: state.current.as_ref().map(version),
            previous: state.previous.as_ref().map(version),
            trial: state.pending.as_ref().map(|pending| Trial {
                version: pending.edition.version,
                until_ns: pending.until_boottime_ns,
                boot: pending.boot.clone(),
                session: pending.edition.applied.session.clone(),
                ended: false,
            }),
            stance: state.stance.as_ref().map_or(Stance::Policy, |taken| taken.stance),
            next,
        }
    }

    /// The trial, if it is not over.
    pub fn running(&self, moment: Moment<'_>) -> Option<&Trial> {
        let in_time = |it: &&Trial| it.boot == moment.boot && moment.boottime_ns < it.until_ns;
        self.trial.as_ref().filter(|it| !it.ended).filter(in_time)
    }

    /// What is to be in force, leaving lockdown aside; nothing where no edition ever was.
    pub fn law(&self, moment: Moment<'_>) -> Option<Law> {
        let current = self.current?;
        Some(match self.running(moment) {
            Some(trial) => Law { now: trial.version, then: Some((trial.until_ns, current)) },
            None => Law { now: current, then: None },
        })
    }

    /// What follows from `event` at `moment`.
    ///
    /// # Errors
    /// Where it is not to be done: nothing changes.
    pub fn plan(&self, event: &Event, moment: Moment<'_>) -> Result<Plan, Refusal> {
        match event {
            Event::Started => Ok(self.begin(moment)),
            Event::Tick if self.trial.is_some() && self.running(moment).is_none() => {
                Ok(self.begin(moment))
            }
            Event::Tick => Ok(Plan::default()),
            Event::Apply { confirm } => self.apply(*confirm, moment),
            Event::Confirm { session } => self.confirm(session.as_deref(), moment),
            Event::Rollback => self.rollback(moment),
            Event::Panic => Ok(steps([Step::Lockdown(true), Step::Stance(Stance::Lockdown)])),
            Event::Resume => Ok(steps([Step::Stance(Stance::Policy), Step::Lockdown(false)])),
        }
    }

    /// Has the kernel do what the disk says, and clears away a trial that is over.
    fn begin(&self, moment: Moment<'_>) -> Plan {
        let mut plan = Plan::default();
        plan.steps.extend(self.law(moment).map(Step::Enforce));
        if self.stance == Stance::Lockdown {
            plan.steps.push(Step::Lockdown(true));
        }
        if self.trial.is_some() && self.running(moment).is_none() {
            plan.steps.push(Step::Withdraw);
        }
        plan
    }

    fn apply(&self, confirm: Option<Duration>, moment: Moment<'_>) -> Result<Plan, Refusal> {
        if let Some(trial) = self.running(moment) {
            return Err(Refusal::TrialRuns(trial.version));
        }
        let current = self.current.ok_or(Refusal::NoCurrent)?;
        let Some(confirm) = confirm else { return Ok(self.for_good(None, current, moment)) };
        let until_ns = after(moment, confirm);
        let law = Law { now: self.next, then: Some((until_ns, current)) };
        Ok(Plan {
            // On disk first: an agent that begins between the two has it run its time.
            steps: vec![Step::Propose(until_ns), Step::Enforce(law)],
            otherwise: vec![Step::Withdraw, Step::Obey],
        })
    }

    /// Applies the next edition for good: in force with an end until it stands on disk.
    fn for_good(&self, again: Option<Version>, current: Version, moment: Moment<'_>) -> Plan {
        let within = Law { now: self.next, then: Some((after(moment, COMMIT_WITHIN), current)) };
        Plan {
            steps: vec![
                Step::Enforce(within),
                Step::Commit(again),
                Step::Enforce(Law { now: self.next, then: None }),
            ],
            otherwise: vec![Step::Obey],
        }
    }

    fn confirm(&self, session: Option<&str>, moment: Moment<'_>) -> Result<Plan, Refusal> {
        let known = self.trial.as_ref().filter(|it| !it.ended).ok_or(Refusal::NoTrial)?;
        let trial = self.running(moment).ok_or(Refusal::TooLate(known.version))?;
        if !is_new_way_in(trial.session.as_deref(), session) {
            return Err(Refusal::SameSession(trial.version));
        }
        // An agent that dies between the two has the kernel go back, until the next agent reads the disk.
        let law = Law { now: trial.version, then: None };
        Ok(Plan { steps: vec![Step::Settle, Step::Enforce(law)], otherwise: vec![Step::Obey] })
    }

    fn rollback(&self, moment: Moment<'_>) -> Result<Plan, Refusal> {
        let current = self.current.ok_or(Refusal::NoPrevious)?;
        if self.trial.is_some() {
            let law = Law { now: current, then: None };
            return Ok(Plan {
                steps: vec![Step::Enforce(law), Step::Withdraw],
                otherwise: vec![Step::End],
            });
        }
        let previous = self.previous.ok_or(Refusal::NoPrevious)?;
        Ok(self.for_good(Some(previous), current, moment))
    }
}

fn steps<const N: usize>(steps: [Step; N]) -> Plan {
    Plan { steps: steps.to_vec(), otherwise: Vec::new() }
}

fn after(moment: Moment<'_>, time: Duration) -> u64 {
    moment.boottime_ns.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
