//! From what is to be in force by number to images.

use std::{net::SocketAddr, sync::Arc};

use ::agent::{
    edition::Edition,
    lists::{Fronts, Moment},
    lockdown::lockdown,
    machine::Law,
};
use anyhow::Context;
use jiff::Timestamp;
use kernel::Scheduled;

use crate::{
    orders::{Bare, InFront, Ready, Reason},
    place::Place,
    rules,
};

/// What is to be in force.
#[derive(Debug)]
pub(crate) struct Images {
    /// Now.
    pub(crate) now: Arc<Ready>,
    /// From a moment on, in nanoseconds of CLOCK_BOOTTIME, unless what is on trial now is confirmed before.
    pub(crate) then: Option<(u64, Arc<Ready>)>,
    /// In lockdown.
    pub(crate) lockdown: Arc<Ready>,
}

/// What is in force for good, as far as it may be made use of again.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Its image, of which the next one shares what it can.
    pub(crate) now: Arc<Ready>,
    /// In lockdown.
    pub(crate) lockdown: Arc<Ready>,
    /// Whether the rules of its edition are to stay as they are, and what these leave in lockdown.
    pub(crate) keep: bool,
}

impl Images {
    /// Whether they took little to make: their tables of addresses are those of the images before.
    pub(crate) fn share(&self) -> bool {
        self.now.shares && self.then.is_none()
    }

    /// The images, as the kernel is told them.
    pub(crate) fn scheduled(&self) -> Scheduled<'_> {
        let then = self.then.as_ref();
        Scheduled { image: &self.now.image, then: then.map(|(until, it)| (*until, &it.image)) }
    }
}

/// What images are made of.
pub(crate) struct Making<'a> {
    /// Where they are to be in force.
    pub(crate) place: &'a Place,
    /// Where controllers are: they are reached whatever is in force.
    pub(crate) controllers: &'a [SocketAddr],
    /// What stands in front of the policy.
    pub(crate) fronts: Fronts,
    /// What is in force.
    pub(crate) known: Option<Known>,
    /// When a rule was last seen to end, by the clock on the wall: what had ended by then does not come back where that
    /// is set back.
    pub(crate) ended_at: Timestamp,
    /// The edition of a number.
    pub(crate) edition: &'a dyn Fn(u64) -> Option<&'a Edition>,
}

impl Making<'_> {
    /// What is in force by `law` from `now` on. Rules that end do so in the images.
    ///
    /// # Errors
    /// Where the rules are no good, or do not fit.
    pub(crate) fn images(&self, law: Law, now: &Moment) -> anyhow::Result<Images> {
        let in_force = Arc::new(self.ready(law.now, now)?);
        let then = match law.then {
            Some((until_ns, version)) => Some((until_ns, Arc::new(self.ready(version, now)?))),
            None => None,
        };
        // What is confirmed says who must never be locked out, not what is on trial.
        let settled = then.as_ref().map_or(&in_force, |(_, settled)| settled);
        let lockdown = match self.kept(law.now) {
            Some(known) if law.then.is_none() => Arc::clone(&known.lockdown),
            Some(_) | None => {
                Arc::new(locked(settled).context("compile the failsafe set for lockdown")?)
            }
        };
        Ok(Images { now: in_force, then, lockdown })
    }

    /// One edition as it would be in force now, for good. The image of lockdown is made with it, and must fit too.
    ///
    /// # Errors
    /// As [`Making::images`].
    pub(crate) fn now_only(&self, version: u64, now: &Moment) -> anyhow::Result<Arc<Ready>> {
        Ok(self.images(Law { now: version, then: None }, now)?.now)
    }

    /// One edition as it is at a moment, behind what stands in front of it.
    fn ready(&self, version: u64, moment: &Moment) -> anyhow::Result<Ready> {
        let bare = self.kept(version).and_then(|known| known.now.bare.clone());
        let bare = match bare {
            Some(bare) => bare,
            None => Arc::new(self.bare(version, moment)?),
        };
        let (front, inbound) = (self.fronts.at(moment), self.place.inbound.into());
        let before = self.known.as_ref().map(|known| &known.now.image);
        let ready =
            bare.behind(InFront { front, inbound, controllers: self.controllers }, before)?;
        let lists = self.fronts.lists.iter();
        let lists = lists.map(|(list, addresses)| (list.name.clone(), addresses.clone()));
        Ok(Ready { lists: lists.collect(), ..ready })
    }

    fn bare(&self, version: u64, moment: &Moment) -> anyhow::Result<Bare> {
        let edition = (self.edition)(version)
            .with_context(|| format!("version {version} of the policy is gone"))?;
        let (inbound, addresses) = (self.place.inbound.into(), self.place.addresses()?);
        rules::bare(&edition.rules, inbound, &addresses, version, moment.wall.max(self.ended_at))
    }

    /// What is known of a version whose rules are to stay as they are.
    fn kept(&self, version: u64) -> Option<&Known> {
        self.known.as_ref().filter(|known| known.keep && known.now.rules.version == version)
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
        reasons: Arc::new(rules.rules.iter().map(reason).collect()),
        rules,
        summary: "the failsafe set only".to_owned(),
        notes: Vec::new(),
        meant: ready.meant.clone(),
        documents: None,
        shares: false,
        lists: Vec::new(),
        bare: None,
    })
}
