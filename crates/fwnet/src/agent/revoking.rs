//! Existing connections after a change of what is in force: held against it once the change is for good.
//!
//! A policy on trial ends nothing, because the policy before may follow; neither does lockdown. The core does this itself
//! and does nothing else meanwhile; where no rule revokes and nobody asked for it, there is nothing to do.

use std::sync::Arc;

use ::agent::revoke::Existing;
use kernel::{Cgroup, Netns};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{clock::counted, core::Core};
use crate::{
    connections::everywhere,
    lockout::ends,
    orders::Ready,
    revoke::{Judged, Sweep},
};

/// What a person asks for existing connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Besides what rules say.
    pub(crate) existing: Existing,
    /// The session that applies may end too.
    pub(crate) unprotected: bool,
    /// A session that asks and is not the one that applied the policy.
    pub(crate) session: Option<String>,
}

/// Existing connections that were ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Revoked {
    /// Connections, those that waited to be accepted among them.
    pub(crate) connections: u64,
    /// Listeners.
    pub(crate) listeners: u64,
    /// What could not be ended or looked at.
    pub(crate) failures: u64,
}

impl Revoked {
    /// For people, with ends of lines; nothing where nothing was ended.
    pub(crate) fn text(&self) -> String {
        let Self { connections, listeners, failures } = self;
        let mut text = String::new();
        if connections + listeners > 0 {
            text.push_str(&format!(
                "revoked {connections} connections and {listeners} listeners\n"
            ));
        }
        if *failures > 0 {
            text.push_str(&format!(
                "{failures} things could not be revoked: see the agent's log\n"
            ));
        }
        text
    }
}

/// What existing connections were last held against.
#[derive(Debug, Default)]
pub(crate) struct Revoking {
    /// The rules; none where nothing was in force.
    pub(super) held: Option<Arc<Ready>>,
    /// For the change that is under way or on trial.
    pub(crate) wish: Wish,
    /// By the last change.
    pub(crate) last: Revoked,
    /// Since the agent began.
    pub(crate) total: Revoked,
}

impl Core {
    /// Ends the existing connections that what is in force now revokes, unless it is on trial.
    pub(super) fn hold_existing(&mut self) {
        let now = self.now();
        if self.standing().running(counted(&now)).is_some() || self.force.firewall.is_locked_down()
        {
            return;
        }
        let new = Arc::clone(&self.force.ready);
        let held = self.revoking.held.replace(Arc::clone(&new));
        let wish = std::mem::take(&mut self.revoking.wish);
        if held.as_ref().is_some_and(|held| held.image.digest() == new.image.digest()) {
            return;
        }
        let mut sweep = Sweep {
            old: held.as_ref().map(|held| &held.image),
            new: &new.image,
            existing: wish.existing,
            judged: Judged::default(),
            protected: Vec::new(),
        };
        if !sweep.may_revoke() {
            return;
        }
        let namespaces = everywhere();
        sweep.judged = self.judged(&namespaces);
        if !wish.unprotected {
            let session = self.edition().and_then(|edition| edition.applied.session.clone());
            let sessions = session.into_iter().chain(wish.session);
            sweep.protected.extend(sessions.filter_map(|session| ends(&session)));
        }
        let swept = sweep.run(&namespaces);
        let generation = Some(self.force.firewall.generation());
        let listeners = swept.ended.iter().filter(|ended| ended.listened).count();
        let revoked = Revoked {
            connections: (swept.ended.len() - listeners) as u64,
            listeners: listeners as u64,
            failures: swept.failed.len() as u64,
        };
        for mut ended in swept.ended {
            ended.event.generation = generation;
            self.seeing.event(&ended.event, None, &new);
        }
        for failure in swept.failed {
            eprintln!("fwnet: revoke: {failure}");
            self.seeing.notice("revoke-failed", failure, false, new.rules.version);
        }
        self.seeing.deeds.revoked(revoked);
        self.revoking.last = revoked;
        let total = &mut self.revoking.total;
        total.connections += revoked.connections;
        total.listeners += revoked.listeners;
        total.failures += revoked.failures;
        if revoked != Revoked::default() {
            let Revoked { connections, listeners, failures } = revoked;
            eprintln!(
                "fwnet: revoked {connections} connections and {listeners} listeners, {failures} failures"
            );
        }
    }

    /// Which sockets the firewall judges, of those in `namespaces`.
    pub(crate) fn judged(&self, namespaces: &[Netns]) -> Judged {
        let inodes = namespaces.iter().map(Netns::inode);
        // No cgroup has id 0: one that is gone judges nobody, which must not be taken for everybody.
        let id = |path: &std::path::PathBuf| Cgroup::open(path).map_or(0, |cgroup| cgroup.id());
        Judged {
            cgroup: self.settled.place.cgroup.as_ref().map(id),
            namespaces: inodes.filter(|&inode| self.force.firewall.judges(inode)).collect(),
        }
    }
}
