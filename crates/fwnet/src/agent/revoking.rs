//! Existing connections after a change of what is in force: held against it once the change is for good.
//!
//! A policy on trial ends nothing, because the policy before may follow; neither does lockdown. Sweeps run one after the
//! other on a thread of their own, so that the core has time for others meanwhile; where no rule revokes and nobody asked
//! for it, there is nothing to do.

mod sweeper;

use std::{collections::VecDeque, sync::Arc};

use ::agent::revoke::Existing;
use kernel::{Cgroup, Netns, Stamps};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::{bell::Asking, clock::counted, core::Core};
use crate::{
    connections::everywhere,
    lockout::ends,
    orders::Ready,
    revoke::{Judged, Swept, may_revoke},
};
use sweeper::{Order, Sweeper};

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

    fn of(swept: &Swept) -> Self {
        let listeners = swept.ended.iter().filter(|ended| ended.listened).count();
        Self {
            connections: (swept.ended.len() - listeners) as u64,
            listeners: listeners as u64,
            failures: swept.failed.len() as u64,
        }
    }
}

/// A sweep that a change began; nothing where it began none.
#[derive(Debug, Default)]
#[must_use = "whoever asked for the change is told what it ended"]
pub(crate) struct Sweeping(Option<oneshot::Receiver<Revoked>>);

impl Sweeping {
    /// Waits for its end. An agent that ends meanwhile still ends what it has to, and tells nobody here.
    pub(crate) async fn ended(self) -> Revoked {
        match self.0 {
            Some(ended) => ended.await.unwrap_or_default(),
            None => Revoked::default(),
        }
    }
}

/// What existing connections were last held against.
#[derive(Debug, Default)]
pub(crate) struct Revoking {
    /// The rules, and when they were, by CLOCK_BOOTTIME in nanoseconds; none where nothing was in force.
    pub(super) held: Option<(Arc<Ready>, u64)>,
    /// For the change that is under way or on trial.
    pub(crate) wish: Wish,
    /// By the last change.
    began: Sweeping,
    /// Since the agent began.
    pub(crate) total: Revoked,
    /// Who is told of the sweeps that have not ended, in their order.
    waiting: VecDeque<oneshot::Sender<Revoked>>,
    sweeper: Sweeper,
}

impl Revoking {
    /// Nothing was in force, or `held`. The end of a sweep rings `bell`.
    pub(super) fn new(held: Option<(Arc<Ready>, u64)>, bell: Option<Asking>) -> Self {
        Self { held, sweeper: Sweeper::new(bell), ..Self::default() }
    }

    /// Whether existing connections are being ended just now.
    pub(crate) fn is_under_way(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The sweep that the change began which was just made.
    pub(crate) fn began(&mut self) -> Sweeping {
        std::mem::take(&mut self.began)
    }
}

impl Core {
    /// Has the existing connections ended that what is in force now revokes, unless it is on trial.
    pub(super) fn hold_existing(&mut self) {
        let now = self.now();
        self.revoking.began = Sweeping::default();
        self.revoking.sweeper.in_force(&self.force.ready);
        if self.standing().running(counted(&now)).is_some() || self.force.firewall.is_locked_down()
        {
            return;
        }
        let new = Arc::clone(&self.force.ready);
        let held = self.revoking.held.replace((Arc::clone(&new), now.boottime_ns));
        let wish = std::mem::take(&mut self.revoking.wish);
        if held.as_ref().is_some_and(|(held, _)| held.image.digest() == new.image.digest())
            || !may_revoke(wish.existing, &new.image)
        {
            return;
        }
        let namespaces = everywhere();
        let mut protected = Vec::new();
        if !wish.unprotected {
            let session = self.edition().and_then(|edition| edition.applied.session.clone());
            let sessions = session.into_iter().chain(wish.session);
            protected.extend(sessions.filter_map(|session| ends(&session)));
        }
        let order = Order {
            old: held,
            new,
            now_ns: now.boottime_ns,
            generation: self.force.firewall.generation(),
            existing: wish.existing,
            judged: self.judged(&namespaces),
            stamps: self.stamps(),
            protected,
            namespaces,
        };
        let (ended, hears) = oneshot::channel();
        self.revoking.waiting.push_back(ended);
        self.revoking.began = Sweeping(Some(hears));
        self.revoking.sweeper.sweep(order);
        self.take_swept();
    }

    /// Tells what sweeps did that have ended.
    pub(super) fn take_swept(&mut self) {
        while let Some((order, swept)) = self.revoking.sweeper.next() {
            self.count_swept(&order, swept);
        }
    }

    /// Waits for the sweeps that are under way, the last thing before the agent ends.
    pub(super) fn finish_sweeps(&mut self) {
        for (order, swept) in self.revoking.sweeper.finish() {
            self.count_swept(&order, swept);
        }
    }

    fn count_swept(&mut self, order: &Order, swept: Swept) {
        let revoked = Revoked::of(&swept);
        for mut ended in swept.ended {
            ended.event.generation = Some(order.generation);
            self.seeing.event(&ended.event, None, &order.new.account());
        }
        for failure in swept.failed {
            eprintln!("fwnet: revoke: {failure}");
            self.seeing.notice("revoke-failed", failure, false, order.new.rules.version);
        }
        self.seeing.deeds.revoked(revoked);
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
        if let Some(waits) = self.revoking.waiting.pop_front() {
            // Whoever asked may have gone meanwhile.
            let _heard = waits.send(revoked);
        }
    }

    /// Who made which socket, for whoever looks at them on a thread of its own. Where that cannot be read, who holds them
    /// has to do.
    pub(crate) fn stamps(&self) -> Option<Stamps> {
        self.force.firewall.stamps().unwrap_or_else(|error| {
            eprintln!("fwnet: stamps of sockets: {:#}", anyhow::Error::from(error));
            None
        })
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
