//! Where orders are taken: worked out from what is known, committed by who leads, and done once the store has told it
//! back.

use std::{sync::Arc, time::Duration};

use controller::{Batch, Model, Refusal};
use jiff::Timestamp;
use tokio::{sync::watch, time::timeout};

use super::{
    asking::{Asking, Gone},
    leading::Lead,
    metrics::Figures,
};
use crate::{
    authority::Authority,
    store::{self, CommitError, Leadership, Revision, Store},
};

/// How often an order is worked out again because something changed meanwhile.
const ATTEMPTS: usize = 8;
/// How long an order waits for somebody to lead, and for the store to tell it back.
const PATIENCE: Duration = Duration::from_secs(10);

/// What routes have at hand. Copies are the same desk.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    /// Asks the core.
    pub(crate) asking: Asking,
    /// Who leads.
    pub(crate) lead: watch::Receiver<Lead>,
    /// The store.
    pub(crate) store: Store,
    /// How far the core knows the store.
    pub(crate) seen: watch::Receiver<Revision>,
    /// What does not change.
    pub(crate) fixed: Arc<Fixed>,
    /// What is counted.
    pub(crate) figures: Figures,
}

/// What does not change while a controller runs.
#[derive(Debug)]
pub(crate) struct Fixed {
    /// Who says who is who.
    pub(crate) authority: Authority,
    /// The envelope of the root that hosts begin with.
    pub(crate) root: Vec<u8>,
    /// Where hosts find controllers.
    pub(crate) endpoints: Vec<String>,
    /// How long a certificate is good.
    pub(crate) lifetime: Duration,
}

/// Why an order was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Another controller leads, at this endpoint.
    #[error("{0} leads")]
    Elsewhere(String),
    /// Nobody leads.
    #[error("no controller leads at the moment: try again")]
    Nobody,
    /// Too much changes at the same time.
    #[error("other orders came in between again and again: try again")]
    Busy,
    /// The core has ended.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The store.
    #[error("commit the order")]
    Commit(#[source] CommitError),
}

impl Desk {
    /// Works an order out and has it done. `make` is asked again where something changed meanwhile. What it gives besides
    /// the batch is given back, once whoever asks the core sees the order done.
    pub(crate) async fn order<T, F>(&self, make: F) -> Result<T, OrderError>
    where
        T: Send + 'static,
        F: Fn(&Model, Timestamp) -> Result<(Batch, T), Refusal> + Clone + Send + 'static,
    {
        for _ in 0..ATTEMPTS {
            let leadership = self.leading().await?;
            let make = make.clone();
            let (batch, given) =
                self.asking.ask(move |core| make(core.controller.model(), now())).await??;
            if batch == Batch::default() {
                return Ok(given);
            }
            match self.committed(&leadership, batch).await {
                Ok(revision) => {
                    self.reached(revision).await;
                    return Ok(given);
                }
                // Somebody else's order came first, or we are told that we do not lead: look again.
                Err(CommitError::Conflict(_) | CommitError::Deposed) => {}
                Err(error) => return Err(OrderError::Commit(error)),
            }
        }
        Err(OrderError::Busy)
    }

    /// Ours, once the core knows what the store held when it began. Only then is anything here judged that is not known:
    /// a controller that does not lead may not have heard of it.
    ///
    /// # Errors
    /// Where another controller leads, or nobody.
    pub(crate) async fn leading(&self) -> Result<Arc<Leadership>, OrderError> {
        let leadership = self.leadership().await?;
        self.reached(leadership.since()).await;
        Ok(leadership)
    }

    /// Commits, and counts how long that takes.
    pub(crate) async fn committed(
        &self,
        leadership: &Leadership,
        batch: Batch,
    ) -> Result<Revision, CommitError> {
        let began = std::time::Instant::now();
        let committed = leadership.commit(&stored(batch)).await;
        self.figures.commits.observe(began.elapsed().as_secs_f64());
        committed
    }

    /// Ours, after a while if it must be.
    async fn leadership(&self) -> Result<Arc<Leadership>, OrderError> {
        let mut lead = self.lead.clone();
        let settled = |lead: &Lead| {
            lead.own.as_ref().is_some_and(|own| own.leads())
                || (lead.own.is_none() && lead.leader.is_some())
        };
        let Ok(Ok(lead)) = timeout(PATIENCE, lead.wait_for(settled)).await else {
            return Err(OrderError::Nobody);
        };
        match (&lead.own, &lead.leader) {
            (Some(own), _) => Ok(Arc::clone(own)),
            (None, Some(leader)) => Err(OrderError::Elsewhere(leader.endpoint.clone())),
            (None, None) => Err(OrderError::Nobody),
        }
    }

    /// Where the leader is, if that is another controller.
    pub(crate) fn elsewhere(&self) -> Option<String> {
        let lead = self.lead.borrow();
        let other = lead.leader.as_ref().filter(|_| lead.own.is_none());
        other.map(|leader| leader.endpoint.clone())
    }

    /// Waits until the core knows the store up to `revision`; whether it does. Where it does not within some seconds, the
    /// store has trouble, and what is asked next says so.
    pub(crate) async fn reached(&self, revision: Revision) -> bool {
        let mut seen = self.seen.clone();
        let reached = timeout(PATIENCE, seen.wait_for(|seen| revision <= *seen)).await;
        matches!(reached, Ok(Ok(_)))
    }
}

/// Whole seconds, as people read them: records have their times from here.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

fn stored(batch: Batch) -> store::Batch {
    let Batch { pieces, expect, put, remove } = batch;
    let expect = expect.into_iter().map(|(key, digest)| (key, digest.map(|it| it.0))).collect();
    store::Batch { pieces, expect, put, remove }
}
