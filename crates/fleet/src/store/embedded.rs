//! The embedded store: one file of redb, for one controller.
//!
//! One thread owns the file and does one thing after the other; everybody else sends it orders. What it tells its watches
//! it remembers for a while, in memory: a watch begins where a load of the same process ended. The file is the process's
//! alone as long as any handle, watch or leadership of it lives.

mod file;
mod history;
mod owner;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use tokio::sync::{oneshot, watch};

pub use file::{BackupError, OpenError};

use super::{Batch, CommitError, Leader, Loaded, Revision, Trouble, Watch, WatchEnd};
use owner::{Campaign, Order, Owner};

/// An open store in one file.
#[derive(Clone, Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
}

/// The way to the thread that owns the file; its end waits for the thread's, so that the file is free then.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    orders: mpsc::Sender<Order>,
    owner: Option<JoinHandle<()>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ended = self.orders.send(Order::End);
        if let Some(owner) = self.owner.take() {
            // A thread that panicked has said so already.
            let _ended = owner.join();
        }
    }
}

impl Shared {
    fn order(&self, order: Order) -> Result<(), Trouble> {
        self.orders.send(order).map_err(|_closed| Trouble::Closed)
    }

    /// Sends an order that is answered.
    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, Trouble> {
        let (answer, answered) = oneshot::channel();
        self.order(order(answer))?;
        answered.await.map_err(|_dropped| Trouble::Closed)
    }
}

impl Embedded {
    /// Opens the store in a file, of mode 0600, and makes it where there is none. Nobody leads at first, whoever led when
    /// the file was closed. The whole file is read and its checksums compared.
    ///
    /// # Errors
    /// See [`OpenError`]. A file that is refused is left as it is.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        let (orders, taken) = mpsc::channel();
        let (opened, outcome) = oneshot::channel();
        let own = path.to_owned();
        let start = move || match file::open(&own).and_then(|database| {
            Owner::new(&own, database).map_err(|error| file::named(&own, error))
        }) {
            Ok(mut owner) => {
                let _gone = opened.send(Ok(()));
                owner.run(&taken);
            }
            Err(error) => {
                let _gone = opened.send(Err(error));
            }
        };
        let owner = thread::Builder::new()
            .name("fwnet-store".to_owned())
            .spawn(start)
            .map_err(|source| OpenError::File { path: path.to_owned(), source })?;
        let shared = Shared { path: path.to_owned(), orders, owner: Some(owner) };
        outcome.await.unwrap_or_else(|_ended| Err(OpenError::Ended(path.to_owned())))?;
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Every record.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn load(&self) -> Result<Loaded, Trouble> {
        self.shared.ask(|answer| Order::Load { answer }).await?
    }

    /// What happens after `from`.
    ///
    /// # Errors
    /// [`WatchEnd::Behind`] where that is longer ago than is remembered.
    pub async fn watch(&self, from: Revision) -> Result<Watch, WatchEnd> {
        let news = self.shared.ask(|answer| Order::Watch { from, answer }).await?;
        Ok(Watch::new(news.ok_or(WatchEnd::Behind)?))
    }

    /// The revision of the newest change.
    ///
    /// # Errors
    /// Where the store is closed.
    pub async fn newest(&self) -> Result<Revision, Trouble> {
        self.shared.ask(|answer| Order::Newest { answer }).await
    }

    /// Waits for the other handles of this process to stop leading, and leads.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub async fn campaign(&self, leader: &Leader) -> Result<Reign, Trouble> {
        let (leader, back) = (leader.clone(), self.shared.orders.clone());
        let won =
            self.shared.ask(|answer| Order::Campaign(Campaign { leader, back, answer })).await??;
        let (since, ended) = won.take();
        Ok(Reign { shared: Arc::clone(&self.shared), since, ended })
    }

    /// Who leads.
    ///
    /// # Errors
    /// Where the store is closed.
    pub async fn leader(&self) -> Result<Option<Leader>, Trouble> {
        self.shared.ask(|answer| Order::Leader { answer }).await
    }

    /// Writes a copy of everything as it is now to a new file of mode 0600, while the store goes on. The copy is a store:
    /// a controller can be started on it.
    ///
    /// # Errors
    /// See [`BackupError`]. There is no file then, or the one that was there before.
    pub async fn backup(&self, target: &Path) -> Result<Revision, BackupError> {
        let target = target.to_owned();
        self.shared
            .ask(|answer| Order::Backup { target, answer })
            .await
            .map_err(BackupError::Store)?
    }
}

/// A leadership of an embedded store.
#[derive(Debug)]
pub struct Reign {
    shared: Arc<Shared>,
    since: Revision,
    ended: watch::Receiver<bool>,
}

impl Reign {
    pub(super) fn since(&self) -> Revision {
        self.since
    }

    pub(super) async fn commit(&self, batch: &Batch) -> Result<Revision, CommitError> {
        let (reign, batch) = (self.since, Box::new(batch.clone()));
        self.shared
            .ask(|answer| Order::Commit { reign, batch, answer })
            .await
            .map_err(CommitError::Unknown)?
    }

    pub(super) fn leads(&self) -> bool {
        // The thread has gone with its side.
        !*self.ended.borrow() && self.ended.has_changed().is_ok()
    }

    pub(super) async fn lost(&self) {
        let mut ended = self.ended.clone();
        let _closed = ended.wait_for(|ended| *ended).await;
    }

    pub(super) async fn resign(&self) -> Result<(), Trouble> {
        let reign = self.since;
        self.shared.ask(|answer| Order::Resign { reign, answer: Some(answer) }).await?
    }
}

impl Drop for Reign {
    fn drop(&mut self) {
        let _closed = self.shared.order(Order::Resign { reign: self.since, answer: None });
    }
}
