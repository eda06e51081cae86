//! A controller: the model of its store, what concerns whom, and the hosts and relays that are connected to it.
//!
//! Any number of them serve; one leads, and asks for commits: what is due (a rollout that nobody confirmed, a timestamp
//! that is to be renewed) it works out from the model and asks for until it sees it done, so nothing is lost when it stops
//! leading in between.

mod collection;
mod health;
mod sources;
mod status;

use std::sync::Arc;

use wire::sync::Upward;

pub use health::Limits;
pub use status::{FailingHost, Laggard, Lagging, Reached, RolloutStatus, Status};

use self::{collection::Collection, health::Health, sources::Sources};
use crate::{
    digest::Digest,
    model::{Change, Changed, HostChange, Model},
    orders::{self, Refusal, Stamping},
    records::RecordError,
    serving::{At, Counts, Desk, Effect, Link, Peer, Serve, Told},
    trials::{Outcome, Trial, Trials},
    views::{Touched, Views},
};

/// How a controller works.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How it serves.
    pub serve: Serve,
    /// Makes timestamps, if it has the key.
    pub stamping: Option<Stamping>,
    /// What halts a rollout.
    pub limits: Limits,
    /// Which documents are kept.
    pub keep: orders::Keep,
}

/// Why a controller cannot begin, or go on.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store holds something that cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It lacks something.
    #[error(transparent)]
    Lost(#[from] Refusal),
}

/// A controller.
#[derive(Debug)]
pub struct Controller {
    settings: Settings,
    model: Model,
    views: Views,
    desk: Desk,
    trials: Trials,
    health: Health,
    collection: Collection,
    leads: bool,
    /// When a commit was last asked for; another one waits for a while.
    asked_ms: Option<u64>,
    told_due: bool,
    retargets: u64,
}

/// After how many milliseconds a commit is asked for again, unless something came of it.
const ASK_MS: u64 = 2_000;

impl Controller {
    /// Of what a store holds.
    ///
    /// # Errors
    /// If it holds what cannot be read, or lacks what hosts are to have.
    pub fn load(
        records: impl IntoIterator<Item = (String, Vec<u8>)>,
        settings: Settings,
        now: At,
    ) -> Result<Self, LoadError> {
        let model = Model::load(records)?;
        let views = Views::of(&model)?;
        let mut controller = Self {
            desk: Desk::new(settings.serve.clone(), now.ms),
            health: Health::new(settings.limits),
            collection: Collection::new(settings.keep),
            settings,
            model,
            views,
            trials: Trials::default(),
            leads: false,
            asked_ms: None,
            told_due: false,
            retargets: 0,
        };
        controller.trials.changed("the controller began".to_owned());
        controller.health.rollout(&controller.model, &controller.views, &controller.desk, now.ms);
        Ok(controller)
    }

    /// Begins anew with what a store holds now, after a watch that had gaps. Connections stay.
    ///
    /// # Errors
    /// See [`Controller::load`]; everything is as it was then.
    pub fn reload(
        &mut self,
        records: impl IntoIterator<Item = (String, Vec<u8>)>,
        now: At,
        out: &mut Vec<Effect>,
    ) -> Result<(), LoadError> {
        let model = Model::load(records)?;
        let views = Views::of(&model)?;
        (self.model, self.views) = (model, views);
        self.trials.changed("the store was read anew".to_owned());
        self.health.rollout(&self.model, &self.views, &self.desk, now.ms);
        self.retarget(&Touched::All, now, out);
        self.tell_due(out);
        Ok(())
    }

    /// What the store holds.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The key for timestamps, if it has one: orders need it.
    pub fn stamping(&self) -> Option<&Stamping> {
        self.settings.stamping.as_ref()
    }

    /// This controller leads from now on, or not any more. One that does not tells the leader of its hosts, once there is
    /// a connection ([`Controller::upstream_opened`]).
    pub fn lead(&mut self, leads: bool) {
        self.leads = leads;
        self.asked_ms = None;
        self.collection = Collection::new(self.settings.keep);
    }

    /// Whether it leads.
    pub fn leads(&self) -> bool {
        self.leads
    }

    /// Takes over what changed in the store, in its order.
    ///
    /// # Errors
    /// If it cannot be read: the controller is to be loaded anew, by a person most likely.
    pub fn changed(
        &mut self,
        changes: Vec<Change>,
        now: At,
        out: &mut Vec<Effect>,
    ) -> Result<(), RecordError> {
        let changed = self.model.apply(changes)?;
        self.asked_ms = None;
        let touched = match self.views.change(&self.model, &changed) {
            Ok(touched) => touched,
            Err(lost) => {
                out.push(Effect::Tell(Told::Lost(lost.to_string())));
                let hosts = changed.hosts.iter().filter_map(|it| self.views.number(&it.id));
                Touched::Some(hosts.collect())
            }
        };
        if changed.rollout || changed.current {
            self.health.rollout(&self.model, &self.views, &self.desk, now.ms);
        }
        self.expel(&changed, now, out);
        self.retarget(&touched, now, out);
        self.note(&changed);
        self.tell_due(out);
        Ok(())
    }

    /// Hosts and relays whose certificates are worth nothing any more go.
    fn expel(&mut self, changed: &Changed, now: At, out: &mut Vec<Effect>) {
        for HostChange { id, before, after } in &changed.hosts {
            if before.is_none() {
                continue;
            }
            let good = after.as_ref().is_some_and(|after| match after.previous {
                Some(previous) => self.desk.shows(id, &[after.certificate, previous]),
                None => self.desk.shows(id, &[after.certificate]),
            });
            if !good {
                self.desk.expel(id, "its certificate is worth nothing any more", now.ms, out);
            }
        }
        for name in &changed.relays {
            let relay = self.model.relay(name);
            let good = relay.map(|it| [Some(it.certificate), it.previous]).into_iter().flatten();
            let good: Vec<Digest> = good.flatten().collect();
            self.desk.expel_relay(name, &good, now.ms, out);
        }
    }

    fn retarget(&mut self, touched: &Touched, now: At, out: &mut Vec<Effect>) {
        let Self { model, views, desk, .. } = self;
        let before = desk.counts.targets_sent;
        match touched {
            Touched::All => desk.retarget_all(now.ms, &mut Sources { model, views }, out),
            Touched::Some(hosts) => {
                let ids: Vec<Arc<str>> =
                    hosts.iter().filter_map(|host| views.id(*host)).cloned().collect();
                let ids = ids.iter().map(|id| &**id);
                desk.retarget(ids, now.ms, &mut Sources { model, views }, out);
            }
        }
        self.retargets += self.desk.counts.targets_sent - before;
    }

    fn note(&mut self, changed: &Changed) {
        for HostChange { id, before, after } in &changed.hosts {
            let what = match (before, after) {
                (None, Some(_)) => format!("{id} was enrolled"),
                (Some(_), None) => format!("{id} was removed"),
                (Some(a), Some(b)) if a.labels != b.labels => {
                    format!("{id} was labelled {}", status::labels(&b.labels))
                }
                (Some(a), Some(b)) if a.addresses != b.addresses => {
                    format!("{id} got other addresses")
                }
                (Some(a), Some(b)) if a.quarantined != b.quarantined => {
                    let how = if b.quarantined { "shut off" } else { "released" };
                    format!("{id} was {how}")
                }
                _ => continue,
            };
            self.trials.changed(what);
        }
        if let Some(current) = self.model.current().filter(|_| changed.current) {
            self.trials.changed(format!("version {} became current", current.version()));
        }
    }

    fn tell_due(&mut self, out: &mut Vec<Effect>) {
        if self.trials.due() && !self.told_due {
            self.told_due = true;
            out.push(Effect::Tell(Told::TestsDue));
        }
    }

    /// The policy's tests, if they are to be run: on a thread that may take its time. Told by [`Told::TestsDue`].
    ///
    /// # Errors
    /// If the store lacks a part of the version.
    pub fn trial(&mut self) -> Result<Option<Trial>, Refusal> {
        self.told_due = false;
        self.trials.begin(&self.model)
    }

    /// How they came out.
    pub fn tried(&mut self, outcome: Outcome, out: &mut Vec<Effect>) {
        self.trials.ran(outcome);
        self.tell_due(out);
    }

    /// What the store held at `as_of_ms` (the time before it was asked for its revision, by all of its members) has been
    /// taken over since. From the first time on that this is said, a host that connects is told what it should have once
    /// it was said again of a later time: whatever it was told elsewhere before, it is told nothing older here, and who is
    /// shut off is not released by a controller that has not heard of it. To be called a few times a second.
    pub fn proven(&mut self, as_of_ms: u64, now: At, out: &mut Vec<Effect>) {
        let Self { model, views, desk, .. } = self;
        desk.proven(as_of_ms, now.ms, &mut Sources { model, views }, out);
    }

    /// Somebody has connected, and the handshake is done.
    pub fn opened(&mut self, peer: &Peer, now: At, out: &mut Vec<Effect>) -> Link {
        let Self { model, views, desk, .. } = self;
        desk.opened(peer, now.ms, &Sources { model, views }, out)
    }

    /// They said something.
    pub fn said(&mut self, link: Link, message: Upward, now: At, out: &mut Vec<Effect>) {
        let Self { model, views, desk, .. } = self;
        desk.said(link, message, now.ms, &mut Sources { model, views }, out);
    }

    /// All that was to be written for them has been.
    pub fn written(&mut self, link: Link, now: At, out: &mut Vec<Effect>) {
        let Self { model, views, desk, .. } = self;
        desk.written(link, now.ms, &mut Sources { model, views }, out);
    }

    /// They are gone.
    pub fn closed(&mut self, link: Link) {
        self.desk.closed(link);
    }

    /// There is a connection to the leader, to which it speaks as a controller.
    pub fn upstream_opened(&mut self) {
        self.desk.report();
    }

    /// There is none any more.
    pub fn upstream_closed(&mut self) {
        self.desk.reporter.closed();
    }

    /// Time passed. To be called a few times a second.
    pub fn tick(&mut self, now: At, out: &mut Vec<Effect>) {
        let Self { model, views, desk, .. } = self;
        desk.tick(now.ms, &mut Sources { model, views }, out);
        out.extend(self.desk.news().into_iter().map(Effect::Upstream));
        let ill = self.health.look(&self.desk, now.ms);
        if !self.leads || self.asked_ms.is_some_and(|asked| now.ms < asked + ASK_MS) {
            return;
        }
        let batch = match self.due(now, ill, out) {
            Ok(batch) => batch,
            Err(refusal) => {
                out.push(Effect::Tell(Told::Stamp(refusal.to_string())));
                self.asked_ms = Some(now.ms + 30 * ASK_MS);
                return;
            }
        };
        if let Some(batch) = batch {
            self.asked_ms = Some(now.ms);
            out.push(Effect::Commit(batch));
        }
    }

    /// What is to be committed because time passed.
    fn due(
        &mut self,
        now: At,
        ill: Option<String>,
        out: &mut Vec<Effect>,
    ) -> Result<Option<orders::Batch>, Refusal> {
        if let Some(open) = self.model.rollout().filter(|rollout| rollout.is_open()) {
            let late = open.confirm_until <= now.wall;
            let late = late.then(|| "nobody confirmed it in time".to_owned());
            if let Some(why) = ill.or(late) {
                let batch = orders::halt(&self.model, &why)?;
                out.push(Effect::Tell(Told::Halting(why)));
                return Ok(Some(batch));
            }
        }
        if let Some(stamping) = &self.settings.stamping
            && orders::timestamp_due(&self.model, stamping.lifetime)
                .is_some_and(|due| due <= now.wall)
        {
            return orders::renew_timestamp(&self.model, stamping, now.wall).map(Some);
        }
        let raised = orders::raise(&self.model, now.wall);
        Ok(raised.or_else(|| self.collection.due(&self.model, now.ms)))
    }

    /// How the fleet is.
    pub fn status(&self, now: At) -> Status {
        Status::of(&self.model, &self.views, &self.desk, &self.trials, now)
    }

    /// Counts since the controller began.
    pub fn counts(&self) -> Counts {
        self.desk.counts
    }

    /// Targets that were sent because something changed, and not because somebody connected.
    pub fn retargets(&self) -> u64 {
        self.retargets
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.desk.open()
    }

    /// Bytes that are kept for connections and connected hosts.
    pub fn serving_bytes(&self) -> usize {
        self.desk.bytes()
    }
}
