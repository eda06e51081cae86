//! From what is to be in force by number to images: now, and after each next end.

use std::sync::Arc;

use ::agent::{
    edition::Edition,
    lists::{Front, Fronts, Moment, plan},
    lockdown::lockdown,
    machine::Law,
};
use anyhow::Context;
use kernel::Room;
use verdict::Address;

use super::force::Stage;
use crate::{
    orders::{Ready, Reason},
    place::Place,
    rules,
};

/// What images are made of.
pub(crate) struct Making<'a> {
    /// Where they are to be in force.
    pub(crate) place: &'a Place,
    /// What stands in front of the policy.
    pub(crate) fronts: Fronts,
    /// The edition of a number.
    pub(crate) edition: &'a dyn Fn(u64) -> Option<&'a Edition>,
}

impl Making<'_> {
    /// What is in force by `law`, as far ahead as there is `room` for, and the image of lockdown.
    ///
    /// While a policy is on trial, no more than what comes into force in one store: an agent that dies cannot leave the
    /// trial without its end. Rules that end during the trial and find no place there are ended by the agent.
    ///
    /// # Errors
    /// Where the rules are no good, or do not fit.
    pub(crate) fn stages(
        &self,
        law: Law,
        now: &Moment,
        room: Room,
    ) -> anyhow::Result<(Vec<Stage>, Arc<Ready>)> {
        let deadline = law.then.map(|(until, _)| until);
        let most = if deadline.is_some() { room.at_once } else { room.all };
        let addresses = self.place.addresses()?;
        let stages = plan(now, most, deadline, |moment| {
            let version = match law.then {
                Some((until, then)) if moment.boottime_ns >= until => then,
                Some(_) | None => law.now,
            };
            let front = self.fronts.at(moment);
            let ends = front.next_end();
            let ready = self.ready(version, &addresses, front, moment)?;
            let next = ready.next.map(|end| moment.boottime_of(end));
            let next = next.into_iter().chain(ends).min();
            anyhow::Ok((Arc::new(ready), next))
        })?;
        // What is confirmed says who must never be locked out, not what is on trial.
        let settled = stages.last().expect("a plan has a stage");
        let lockdown = locked(&settled.what).context("compile the failsafe set for lockdown")?;
        Ok((stages, Arc::new(lockdown)))
    }

    /// One edition as it would be in force now, for good. The image of lockdown is made with it, and must fit too.
    ///
    /// # Errors
    /// As [`Making::stages`].
    pub(crate) fn now_only(&self, version: u64, now: &Moment) -> anyhow::Result<Arc<Ready>> {
        let law = Law { now: version, then: None };
        let (stages, _lockdown) = self.stages(law, now, Room { all: 1, at_once: 1 })?;
        Ok(stages.into_iter().next().expect("a plan has a stage").what)
    }

    /// One edition as it is at a moment, behind what stands in front of it then.
    fn ready(
        &self,
        version: u64,
        addresses: &[Address],
        front: Front,
        moment: &Moment,
    ) -> anyhow::Result<Ready> {
        let edition = (self.edition)(version)
            .with_context(|| format!("version {version} of the policy is gone"))?;
        let inbound = self.place.inbound.into();
        rules::compile(&edition.rules, inbound, addresses, version, moment.wall)?
            .behind(front, inbound)
    }
}

/// What lockdown leaves of a policy.
fn locked(ready: &Ready) -> anyhow::Result<Ready> {
    let rules = lockdown(&ready.rules);
    let known = |id: &str| ready.reasons.iter().find(|reason| reason.id == id).cloned();
    let reason = |rule: &image::Rule| {
        known(&rule.id).unwrap_or_else(|| Reason { id: rule.id.clone(), ..Reason::default() })
    };
    Ok(Ready {
        image: image::compile(&rules)?,
        reasons: rules.rules.iter().map(reason).collect(),
        rules,
        summary: "the failsafe set only".to_owned(),
        notes: Vec::new(),
        next: None,
        meant: ready.meant.clone(),
        documents: None,
    })
}
