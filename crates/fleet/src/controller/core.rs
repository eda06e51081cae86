//! The one task that owns what a controller knows: what the store tells, what lines tell and what is asked, one after
//! the other.

use std::{sync::Arc, time::Duration};

use controller::{Change, Model, records::RecordError, trials::Trials};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use super::asking::Question;
use crate::{
    server::Told,
    store::{Changes, Loaded, Revision, Store, Trouble, Watch, WatchEnd},
};

/// How long to wait after the store could not be read.
const AGAIN: Duration = Duration::from_millis(500);
/// Things that are heard on lines before others have their turn.
const HEARD: usize = 512;

/// What a controller knows.
#[derive(Debug)]
pub(crate) struct Core {
    /// What the store holds.
    pub(crate) model: Model,
    /// Which tests of the policy fail.
    pub(crate) trials: Trials,
    seen: watch::Sender<Revision>,
}

/// What the core listens to.
#[derive(Debug)]
pub(crate) struct Ears {
    /// What others ask.
    pub(crate) asked: mpsc::Receiver<Question>,
    /// What happens on lines.
    pub(crate) told: mpsc::Receiver<Told>,
    /// The store.
    pub(crate) store: Store,
}

/// Why a controller cannot know what its store holds.
#[derive(Debug, thiserror::Error)]
pub enum KnowError {
    /// The store.
    #[error(transparent)]
    Trouble(#[from] Trouble),
    /// A record.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Core {
    /// Reads everything.
    pub(crate) async fn load(
        store: &Store,
        seen: watch::Sender<Revision>,
    ) -> Result<Self, KnowError> {
        let Loaded { revision, records } = store.load().await?;
        let model = Model::load(records)?;
        seen.send_replace(revision);
        let mut trials = Trials::default();
        trials.changed("the controller began".to_owned());
        Ok(Self { model, trials, seen })
    }

    /// Hears and answers until nobody asks any more.
    pub(crate) async fn attend(mut self, ears: Ears) {
        let Ears { mut asked, mut told, store } = ears;
        let mut watch = None;
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
                    for one in heard.drain(..) {
                        if let Told::Came { mailbox, .. } = one {
                            mailbox.end();
                        }
                    }
                }
            }
        }
    }

    /// Something changed in the store.
    fn changed(&mut self, changes: &Changes) {
        let records = changes.records.iter();
        let list = records.map(|(key, value)| Change { key: key.clone(), value: value.clone() });
        match self.model.apply(list.collect()) {
            Ok(_changed) => {}
            // What others wrote into the store is told, and what is known stays as good as it can be.
            Err(error) => eprintln!("fwnet: the store: {error}"),
        }
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
        match Model::load(loaded.records) {
            Ok(model) => {
                self.model = model;
                self.seen.send_replace(loaded.revision);
            }
            Err(error) => {
                eprintln!("fwnet: the store: {error}");
                sleep(AGAIN).await;
            }
        }
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
