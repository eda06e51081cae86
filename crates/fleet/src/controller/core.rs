//! The one task that owns what a controller knows: what the store tells, what lines tell and what is asked, one after
//! the other.

use std::{sync::Arc, time::Duration};

use controller::{
    Batch, Change, Controller, LoadError, Settings,
    serving::{At, Effect, Told as News},
};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep},
};

use super::{asking::Question, leading::Lead};
use crate::{
    server::{
        Told,
        counted::Counted,
        line::Mailbox,
        lines::{Clock, Lines, Rest},
    },
    store::{Changes, Loaded, Revision, Store, Trouble, Watch, WatchEnd},
    uplink::Above,
};

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How long to wait after the store could not be read.
const AGAIN: Duration = Duration::from_millis(500);
/// Things that are heard on lines before others have their turn.
const HEARD: usize = 512;

/// What a controller knows.
#[derive(Debug)]
pub(crate) struct Core {
    /// Everything but sockets.
    pub(crate) controller: Controller,
    /// The time.
    pub(crate) clock: Clock,
    lines: Lines,
    /// The leader, where that is another one.
    above: Option<Arc<Mailbox>>,
    seen: watch::Sender<Revision>,
    duties: mpsc::Sender<Duty>,
    out: Vec<Effect>,
}

/// What others do for the core.
#[derive(Debug)]
pub(crate) enum Duty {
    /// Commits, if this controller leads.
    Commit(Batch),
    /// Runs the policy's tests.
    Test,
}

/// What the core listens to.
#[derive(Debug)]
pub(crate) struct Ears {
    /// What others ask.
    pub(crate) asked: mpsc::Receiver<Question>,
    /// What happens on lines.
    pub(crate) told: mpsc::Receiver<Told>,
    /// What the leader says.
    pub(crate) above: mpsc::Receiver<Above>,
    /// Who leads.
    pub(crate) lead: watch::Receiver<Lead>,
    /// The store.
    pub(crate) store: Store,
}

/// Why a controller cannot know what its store holds.
#[derive(Debug, thiserror::Error)]
pub enum KnowError {
    /// The store.
    #[error(transparent)]
    Trouble(#[from] Trouble),
    /// What it holds.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Core {
    /// Reads everything.
    pub(crate) async fn load(
        store: &Store,
        settings: Settings,
        seen: watch::Sender<Revision>,
        duties: mpsc::Sender<Duty>,
        counted: Counted,
    ) -> Result<Self, KnowError> {
        let clock = Clock::start();
        let before = clock.now();
        let Loaded { revision, records } = store.load().await?;
        let mut controller = Controller::load(records, settings, clock.now())?;
        seen.send_replace(revision);
        let (lines, mut out) = (Lines::new(counted), Vec::new());
        // Nobody is connected yet: from here on each host that comes waits for the next time that this is shown.
        controller.proven(before.ms, clock.now(), &mut out);
        Ok(Self { controller, clock, lines, above: None, seen, duties, out })
    }

    /// Hears and answers until nobody asks any more.
    pub(crate) async fn attend(mut self, ears: Ears) {
        let Ears { mut asked, mut told, mut above, mut lead, store } = ears;
        let mut watch = None;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Vec::with_capacity(HEARD);
        loop {
            let from = *self.seen.borrow();
            tokio::select! {
                changes = next(&store, &mut watch, from) => match changes {
                    Ok(changes) => self.changed(&changes),
                    Err(end) => {
                        watch = None;
                        self.again(&store, &end).await;
                    }
                },
                question = asked.recv() => match question {
                    Some(question) => question(&mut self),
                    None => return,
                },
                count = told.recv_many(&mut heard, HEARD) => {
                    if count == 0 {
                        return;
                    }
                    let now = self.clock.now();
                    for one in heard.drain(..) {
                        self.hear(one, now);
                    }
                }
                Some(one) = above.recv() => self.hear_above(one),
                _ = tick.tick() => self.controller.tick(self.clock.now(), &mut self.out),
            }
            self.lead(&lead.borrow_and_update().clone());
            self.carry_out();
        }
    }

    /// Whoever leads relies on what it knows once that reaches up to when it began to.
    fn lead(&mut self, lead: &Lead) {
        let seen = *self.seen.borrow();
        let leads = lead.own.as_ref().is_some_and(|own| own.leads() && own.since() <= seen);
        if leads != self.controller.leads() {
            self.controller.lead(leads);
        }
    }

    /// Something changed in the store.
    fn changed(&mut self, changes: &Changes) {
        let records = changes.records.iter();
        let list = records.map(|(key, value)| Change { key: key.clone(), value: value.clone() });
        let now = self.clock.now();
        // What others wrote into the store is told, and what is known stays as good as it can be.
        if let Err(error) = self.controller.changed(list.collect(), now, &mut self.out) {
            eprintln!("fwnet: the store: {error}");
        }
        self.carry_out();
        self.seen.send_replace(changes.revision);
    }

    /// The watch has ended: everything is read again.
    async fn again(&mut self, store: &Store, end: &WatchEnd) {
        if let WatchEnd::Trouble(trouble) = end {
            eprintln!("fwnet: the store: {trouble}");
            sleep(AGAIN).await;
        }
        let loaded = match store.load().await {
            Ok(loaded) => loaded,
            Err(trouble) => {
                eprintln!("fwnet: the store: {trouble}");
                return sleep(AGAIN).await;
            }
        };
        match self.controller.reload(loaded.records, self.clock.now(), &mut self.out) {
            Ok(()) => {
                self.seen.send_replace(loaded.revision);
            }
            Err(error) => {
                eprintln!("fwnet: the store: {error}");
                sleep(AGAIN).await;
            }
        }
    }

    /// Something happened on a line.
    fn hear(&mut self, told: Told, now: At) {
        self.lines.hear(told, &mut self.controller, now, &mut self.out);
        self.carry_out();
    }

    /// Something happened between this controller and the leader, which has nothing to say to it.
    fn hear_above(&mut self, above: Above) {
        match above {
            Above::Opened(mailbox) => {
                self.above = Some(mailbox);
                self.controller.upstream_opened();
            }
            Above::Heard(_) => {}
            Above::Closed => {
                self.above = None;
                self.controller.upstream_closed();
            }
        }
    }

    /// Does what follows.
    pub(crate) fn carry_out(&mut self) {
        for effect in self.out.drain(..) {
            match self.lines.carry_out(effect, self.above.as_ref()) {
                None => {}
                // What does not fit is asked for again.
                Some(Rest::Commit(batch)) => {
                    let _full = self.duties.try_send(Duty::Commit(batch));
                }
                Some(Rest::Tell(News::TestsDue)) => {
                    let _full = self.duties.try_send(Duty::Test);
                }
                Some(Rest::Tell(News::Halting(why))) => {
                    eprintln!("fwnet: the version that is tried is halted: {why}");
                }
                Some(Rest::Tell(News::Lost(what))) => eprintln!("fwnet: the store: {what}"),
                Some(Rest::Tell(News::Stamp(why))) => {
                    eprintln!("fwnet: the timestamp is not renewed: {why}");
                }
            }
        }
    }

    /// What is known here is all that the store held at `as_of_ms` by the clock.
    pub(crate) fn proven(&mut self, as_of_ms: u64) {
        self.controller.proven(as_of_ms, self.clock.now(), &mut self.out);
    }

    /// The policy's tests were run.
    pub(crate) fn tried(&mut self, outcome: controller::trials::Outcome) {
        self.controller.tried(outcome, &mut self.out);
    }
}

/// The next changes; begins to watch where nobody does.
async fn next(
    store: &Store,
    watch: &mut Option<Watch>,
    from: Revision,
) -> Result<Arc<Changes>, WatchEnd> {
    let watching = match watch {
        Some(watching) => watching,
        None => watch.insert(store.watch(from).await?),
    };
    watching.next().await
}
