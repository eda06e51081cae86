//! Events, and the steps that the machine says follow.

use ::agent::{
    edition::{Applied, Edition},
    lists::Moment,
    machine::{Event, Law, Refusal, Step},
    store::{Pending, Stance, Taken},
};
use anyhow::Context;

use super::{
    clock,
    core::{Core, edition_of},
    making::{Images, Making},
    revoking::Wish,
};
use crate::seeing::Back;

/// Why something did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Undone {
    /// It is against the rules.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It did not work; what could be put right was.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

impl Core {
    /// Has `event` happen, which `by` asked for.
    ///
    /// # Errors
    /// Where it is refused, or a step does not work.
    pub(crate) fn happen(&mut self, event: &Event, by: &Applied) -> Result<(), Undone> {
        let now = self.now();
        let plan = self.standing().plan(event, clock::counted(&now))?;
        for step in &plan.steps {
            let Err(error) = self.take(step, by) else {
                self.tell_of(step, by);
                continue;
            };
            for step in &plan.otherwise {
                if let Err(error) = self.take(step, by) {
                    eprintln!("fwnet: {error:#}");
                    self.behind = true;
                }
            }
            self.revoking.wish = Wish::default();
            return Err(Undone::Failed(error));
        }
        self.count(event, &plan.steps);
        self.hold_existing();
        Ok(())
    }

    /// Applies an edition, whose version becomes the next one.
    ///
    /// # Errors
    /// As [`Core::happen`].
    pub(crate) fn apply(&mut self, edition: Edition, event: &Event) -> Result<u64, Undone> {
        let version = self.kept.store.next_version();
        let by = edition.applied.clone();
        self.proposed = Some(Edition { version, ..edition });
        let done = self.happen(event, &by);
        (self.proposed, self.proposed_trust) = (None, None);
        done.map(|()| version)
    }

    /// Ends a trial, or goes back to the edition before the current one.
    ///
    /// # Errors
    /// As [`Core::happen`].
    pub(crate) fn roll_back(&mut self, by: Applied) -> Result<(), Undone> {
        self.revoking.wish = Wish::default();
        let state = self.kept.store.state();
        match (&state.pending, &state.previous) {
            (None, Some(previous)) => {
                let again = Edition { applied: by, ..previous.clone() };
                self.apply(again, &Event::Rollback).map(|_version| ())
            }
            _ => self.happen(&Event::Rollback, &by),
        }
    }

    /// Counts what an event did to a trial.
    fn count(&self, event: &Event, steps: &[Step]) {
        let deeds = &self.seeing.deeds;
        match event {
            Event::Confirm { .. } => deeds.confirmed(),
            Event::Rollback => deeds.rolled_back(Back::Asked),
            // A trial that is over is cleared away.
            Event::Started | Event::Tick if steps.contains(&Step::Withdraw) => {
                deeds.rolled_back(Back::Unconfirmed);
            }
            Event::Started | Event::Tick | Event::Apply { .. } | Event::Panic | Event::Resume => {}
        }
    }

    /// Tells whoever watches that a bundle was not taken: what is in force stays.
    pub(crate) fn tell_of_refusal(&mut self, text: String) {
        let version = self.edition().map_or(0, |edition| edition.version);
        self.seeing.notice("policy-refused", text, false, version);
    }

    /// Tells whoever watches that a step was taken which changes what is in force.
    fn tell_of(&mut self, step: &Step, by: &Applied) {
        let state = self.kept.store.state();
        let current = state.current.as_ref().map_or(0, |edition| edition.version);
        let pending = state.pending.as_ref().map_or(current, |pending| pending.edition.version);
        let uid = by.uid;
        let (action, version, what) = match step {
            Step::Propose(_) => {
                ("policy-on-trial", pending, format!("version {pending} is on trial"))
            }
            Step::Commit(_) => {
                ("policy-applied", current, format!("version {current} is in force"))
            }
            Step::Settle => {
                ("policy-confirmed", current, format!("version {current} stays in force"))
            }
            Step::Withdraw => {
                ("policy-rolled-back", current, format!("version {current} is in force again"))
            }
            Step::Lockdown(true) => {
                ("lockdown", current, "only the failsafe set is allowed".into())
            }
            Step::Lockdown(false) => ("resumed", current, format!("version {current} is in force")),
            Step::Enforce(_) | Step::Obey | Step::End | Step::Stance(_) => return,
        };
        self.seeing.notice(action, format!("{what} (by user {uid})"), false, version);
    }

    fn take(&mut self, step: &Step, by: &Applied) -> anyhow::Result<()> {
        match step {
            Step::Enforce(law) => self.enforce(*law).context("put the policy in force"),
            Step::Obey => {
                let now = self.now();
                let law = self.standing().law(clock::counted(&now));
                law.map_or(Ok(()), |law| self.enforce(law))
            }
            Step::Lockdown(on) => self.lock_down(*on),
            Step::Propose(until_boottime_ns) => {
                let edition = self.proposed.clone().context("no policy is proposed")?;
                let (until_boottime_ns, boot) = (*until_boottime_ns, self.boot.clone());
                let trusted = self.proposed_trust.clone();
                let pending = Pending { edition, until_boottime_ns, boot, trusted };
                self.kept.store.propose(pending).context("keep the policy on trial")
            }
            Step::Commit(_) => {
                let edition = self.proposed.clone().context("no policy is proposed")?;
                self.kept.store.commit(edition).context("keep the policy")
            }
            Step::Settle => self.kept.store.confirm().context("keep the policy"),
            Step::Withdraw => {
                self.kept.store.withdraw().context("forget the policy that was on trial")
            }
            Step::End => {
                self.ended = self.standing().trial.map(|trial| trial.version);
                Ok(())
            }
            Step::Stance(stance) => {
                let taken = Taken { stance: *stance, by: by.clone() };
                self.kept.store.set_stance(taken).context("keep the stance for the next boot")
            }
        }
    }

    /// Has the kernel enforce `law`.
    fn enforce(&mut self, law: Law) -> anyhow::Result<()> {
        self.basis += 1;
        let now = self.now();
        let fronts = self.kept.store.fronts()?;
        let (state, proposed) = (self.kept.store.state(), self.proposed.as_ref());
        let edition = |version| edition_of(state, proposed, version);
        let (place, ended_at) = (&self.settled.place, self.ended_at);
        let (controllers, known) = (&self.controllers, Some(self.force.known(false)));
        let making = Making { place, controllers, fronts, known, ended_at, edition: &edition };
        let images = making.images(law, &now)?;
        self.enforce_made(&images, now)
    }

    /// Has the kernel enforce images that were made at `now`.
    pub(super) fn enforce_made(&mut self, images: &Images, now: Moment) -> anyhow::Result<()> {
        self.basis += 1;
        // Whatever the images before have to tell is told while their rules are known.
        self.drain();
        self.force.enforce(images, &mut self.seeing)?;
        (self.made, self.behind) = (now, false);
        if !images.share() {
            // What was asked is in force; the next small change finds a slot that differs little.
            self.force.settle(&mut self.seeing);
            self.force.prepare();
            // A compilation takes many times what the agent needs until the next one.
            kernel::give_back();
        }
        Ok(())
    }

    /// Puts in force what the disk says, as it is now: after a rule ended, a list changed, or a clock was set.
    ///
    /// # Errors
    /// What was in force stays, and it is tried again with the next look around.
    pub(crate) fn follow_disk(&mut self) -> anyhow::Result<()> {
        let done = self.take(&Step::Obey, &self.itself());
        self.behind = done.is_err();
        if done.is_ok() {
            self.hold_existing();
        }
        done
    }

    /// The same where nobody asked.
    pub(super) fn obey(&mut self) {
        let told = self.behind;
        if let Err(error) = self.follow_disk()
            && !told
        {
            eprintln!("fwnet: what is in force stays: {error:#}");
        }
    }

    fn lock_down(&mut self, on: bool) -> anyhow::Result<()> {
        if on {
            return Ok(self.force.firewall.lock_down()?);
        }
        self.force.firewall.resume();
        // The failsafe set may have changed meanwhile.
        self.follow_disk()
    }

    /// Keeps a stance; a disk that does not take it is told, and holds nothing up.
    pub(super) fn keep_stance(&mut self, stance: Stance, by: &Applied) {
        let taken = Taken { stance, by: by.clone() };
        if let Err(error) = self.kept.store.set_stance(taken) {
            eprintln!("fwnet: the next boot will not know: {:#}", anyhow::Error::from(error));
        }
    }
}
