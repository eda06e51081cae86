//! What the line to the fleet asks of the core.

use std::net::SocketAddr;

use ::agent::{
    edition::{Applied, Edition},
    machine::Event,
    store::Stance,
    sync::{Digest, InForce, Pulse},
};
use wire::{Stale, sync};

use super::Fleet;
use crate::agent::{Core, Undone, counted};

/// Who locked this host down, where a controller did: it goes where the SSH session of a person would stand.
const QUARANTINE: &str = "quarantine by the fleet";

impl Core {
    /// What is in force, by the names of targets.
    pub(super) fn targets(&self) -> InForce {
        let (state, now) = (self.kept.store.state(), self.now());
        let running = self.standing().running(counted(&now)).is_some();
        let pending = state.pending.as_ref().filter(|_| running).map(|pending| &pending.edition);
        let snapshot = self.edition().and_then(|edition| edition.signed.as_ref());
        InForce {
            current: state.current.as_ref().and_then(named),
            trial: pending.and_then(named),
            snapshot: snapshot.map_or(0, |signed| signed.snapshot),
        }
    }

    /// How this host is.
    pub(super) fn pulse(&mut self) -> Pulse {
        self.force.settle(&mut self.seeing);
        let hits = self.force.firewall.hits();
        let judging = std::sync::Arc::clone(self.force.judging());
        let judged = self.seeing.judged(&judging, &hits);
        let signed = self.edition().and_then(|edition| edition.signed.as_ref());
        let stale = match (self.age(), signed) {
            (Stale::Fresh, _) | (_, None) => 0,
            (Stale::Stale | Stale::TooOld(_), Some(signed)) => {
                self.now().wall.duration_since(signed.freshness.until).as_secs().max(1)
            }
        };
        let locked = self.force.firewall.is_locked_down();
        Pulse {
            denied: judged.denied,
            allowed: judged.allowed,
            stance: if locked { sync::Stance::Lockdown } else { sync::Stance::Policy },
            stale_s: u64::try_from(stale).unwrap_or(0),
        }
    }

    /// Keeps what is on trial, and calls it by another name from now on. Without a trial nothing happens.
    ///
    /// # Errors
    /// Where it does not work: the trial goes on.
    pub(super) fn confirm_as(&mut self, name: &Digest) -> Result<(), Undone> {
        if self.targets().trial.is_none() {
            return Ok(());
        }
        let renamed = self.kept.store.rename_pending(spelled(name));
        renamed.map_err(|error| Undone::Failed(error.into()))?;
        self.happen(&Event::Confirm { session: None }, &self.itself())
    }

    /// Ends the trial of a target, if there is one.
    ///
    /// # Errors
    /// Where it does not work: the kernel ends it in time.
    pub(super) fn end_trial(&mut self) -> Result<(), Undone> {
        if self.targets().trial.is_none() {
            return Ok(());
        }
        self.happen(&Event::Rollback, &self.itself())
    }

    /// Allows only the failsafe set, or the policy again: unless somebody else has locked this host down.
    pub(super) fn quarantine(&mut self, on: bool) -> Result<(), Undone> {
        let taken = self.kept.store.state().stance.as_ref();
        let locked = taken.filter(|taken| taken.stance == Stance::Lockdown);
        let ours = locked.is_some_and(|it| it.by.session.as_deref() == Some(QUARANTINE));
        let by = Applied { session: Some(QUARANTINE.to_owned()), ..self.itself() };
        match (on, ours) {
            (true, _) if locked.is_none() => self.happen(&Event::Panic, &by),
            (false, true) if self.is_locked_for_age() => {
                self.keep_stance(Stance::Policy, &by);
                Ok(())
            }
            (false, true) => self.happen(&Event::Resume, &by),
            (true | false, _) => Ok(()),
        }
    }

    /// Lets these be reached, whatever is in force.
    pub(super) fn reach(&mut self, controllers: Vec<SocketAddr>) {
        if self.controllers != controllers {
            self.controllers = controllers;
            self.obey();
        }
    }

    /// Tells whoever watches what happened between this host and its fleet.
    pub(super) fn tell_of_fleet(&mut self, action: &'static str, text: String) {
        let version = self.edition().map_or(0, |edition| edition.version);
        self.seeing.notice(action, text, false, version);
    }

    /// What the status says.
    pub(super) fn show_fleet(&mut self, fleet: Option<Fleet>) {
        self.fleet = fleet;
    }
}

/// The target that an edition comes from.
pub(super) fn named(edition: &Edition) -> Option<Digest> {
    let name = blake3::Hash::from_hex(edition.target()?).ok()?;
    Some(*name.as_bytes())
}

/// As it stands in an edition, in messages and in names of files.
pub(super) fn spelled(name: &Digest) -> String {
    blake3::Hash::from_bytes(*name).to_hex().to_string()
}
