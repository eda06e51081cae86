//! Where a fleet's truth is kept: records in a file of one controller, or in etcd for any number of them.
//!
//! A record is a key (text) and a value (bytes). Everything that changes is one [`Batch`]: all of it happens or nothing,
//! and every batch that happened has a [`Revision`] higher than that of every batch before it. A controller begins with
//! [`Store::load`], goes on with [`Store::watch`] from the revision that it loaded, and learns of its own batches there
//! too: what it believes is made of records only.
//!
//! One process at a time leads, and only a [`Leadership`] can commit. A batch names the leadership that it was made
//! under and is refused once that has ended, however late it arrives; so a controller that was cut off for a while cannot
//! overwrite what its successor did. Who leads is the record [`LEADER`], which only campaigns write; whoever just began to
//! lead has to let its watch reach [`Leadership::since`] before it relies on what it knows.
//!
//! What is durable when: a batch is on the disk (embedded: fsync; etcd: on the disks of most members) before its
//! commit returns a revision. A commit that ends with [`CommitError::Unknown`] may or may not have happened, at most once;
//! the watch tells. Every other error means that nothing of it has happened, except that its pieces may be there.
//!
//! Limits are the same in both forms, so that a fleet can move from one to the other; see [`batch`].

pub mod batch;
pub mod embedded;
pub mod etcd;
pub mod location;

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use batch::{Batch, BatchError, Digest, digest};
pub use embedded::{BackupError, Embedded};
pub use etcd::Etcd;
pub use location::{Location, LocationError};

/// The key of the record that says who leads. No batch may touch it.
pub const LEADER: &str = "leader";

/// A moment in the history of a store. Later ones are higher; what lies between two is up to the store.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Revision(pub u64);

/// All records as they were at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// That moment: where a watch has to begin.
    pub revision: Revision,
    /// Key and value, in the order of the keys.
    pub records: Vec<(String, Vec<u8>)>,
}

/// What one batch, or a campaign, changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// When.
    pub revision: Revision,
    /// Each key with its new value, or with nothing where the record was removed. A key stands here once. None at all where
    /// a batch was carried out and changed nothing; such a batch may as well not be told.
    pub records: Vec<(String, Option<Vec<u8>>)>,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// The name of the controller.
    pub name: String,
    /// Where it takes orders: what a follower answers.
    pub endpoint: String,
}

/// Why a store cannot be used now.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It was closed, or its thread has ended.
    #[error("the store is closed")]
    Closed,
    /// The disk, or what is on it. After an error of the disk every commit fails until the store is opened anew.
    #[error("use the store {}", .path.display())]
    File {
        /// Its file.
        path: PathBuf,
        /// What the library says.
        #[source]
        source: Box<redb::Error>,
    },
    /// No member of the cluster has answered in time. It may answer later.
    #[error("no member of the etcd cluster answers: {0}")]
    Unreachable(String),
    /// The cluster answers, and says no: out of space, say, or out of rights.
    #[error("the etcd cluster refuses: {0}")]
    Refused(String),
    /// The cluster has something that this program did not put there.
    #[error("the etcd cluster's answer is not understood: {0}")]
    Answer(String),
    /// Another cluster is where the store was: what is known of the old one means nothing there.
    #[error("another etcd cluster answers than before")]
    OtherCluster,
    /// A record that this program has not written.
    #[error("the store's record {key} is not understood")]
    Record {
        /// Its key.
        key: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
}

/// Why a batch was not committed, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// It is beyond a limit, or contradicts itself. Nothing was sent.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A record is not what the batch expects. Nothing happened.
    #[error("the record {0} has changed meanwhile")]
    Conflict(String),
    /// The leadership has ended. Nothing happened.
    #[error("this controller does not lead any more")]
    Deposed,
    /// Nothing happened.
    #[error(transparent)]
    Trouble(Trouble),
    /// It may or may not have happened.
    #[error("nobody knows whether the batch was committed")]
    Unknown(#[source] Trouble),
}

/// Why a watch has ended.
#[derive(Debug, thiserror::Error)]
pub enum WatchEnd {
    /// The store does not remember that far back, or this watch was too slow: load again.
    #[error("the store no longer tells what happened since then")]
    Behind,
    /// The store.
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// A store. Copies are the same store.
#[derive(Clone, Debug)]
pub enum Store {
    /// One file, for one controller.
    Embedded(Embedded),
    /// A cluster, for any number of controllers.
    Etcd(Etcd),
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The embedded one.
    #[error(transparent)]
    Embedded(#[from] embedded::OpenError),
    /// The files of TLS.
    #[error(transparent)]
    Tls(#[from] etcd::TlsError),
    /// The password for the cluster.
    #[error(transparent)]
    Login(#[from] etcd::LoginError),
}

impl Store {
    /// Opens the store at a place. A file that is not there is made; the file of another process that still runs, a
    /// damaged one and one that is no store are refused by name. A cluster need not be reachable yet.
    ///
    /// # Errors
    /// Where it cannot be used.
    pub async fn open(location: &Location) -> Result<Self, OpenError> {
        match location {
            Location::Embedded(path) => Ok(Self::Embedded(Embedded::open(path).await?)),
            Location::Etcd { endpoints, prefix, tls, login } => {
                let (endpoints, prefix) = (endpoints.clone(), prefix.clone());
                Ok(Self::Etcd(Etcd::new(endpoints, prefix, tls.clone(), login.clone())?))
            }
        }
    }

    /// Every record, as of one moment. Large: all of it is in memory.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn load(&self) -> Result<Loaded, Trouble> {
        match self {
            Self::Embedded(store) => store.load().await,
            Self::Etcd(store) => store.load().await,
        }
    }

    /// What happens after `from`, a revision that was loaded or watched: every batch whole, in order, none left out.
    ///
    /// # Errors
    /// [`WatchEnd::Behind`] where the store does not remember that far back, or never was at that revision.
    pub async fn watch(&self, from: Revision) -> Result<Watch, WatchEnd> {
        match self {
            Self::Embedded(store) => store.watch(from).await,
            Self::Etcd(store) => store.watch(from).await,
        }
    }

    /// The revision of the newest batch, of which every member of the store knows: whoever has been told all up to this one
    /// knew, when it was asked for, all that there was to know. What only campaigns write is left aside.
    ///
    /// # Errors
    /// Where the store cannot be read; a member that is cut off from most of the others answers nothing.
    pub async fn newest(&self) -> Result<Revision, Trouble> {
        match self {
            Self::Embedded(store) => store.newest().await,
            Self::Etcd(store) => store.newest().await,
        }
    }

    /// Waits until nobody else leads, and leads. To stop waiting, drop the future.
    ///
    /// # Errors
    /// Where the store cannot be used; nobody leads by this then.
    pub async fn campaign(&self, leader: &Leader) -> Result<Leadership, Trouble> {
        let held = match self {
            Self::Embedded(store) => Held::Embedded(store.campaign(leader).await?),
            Self::Etcd(store) => Held::Etcd(Box::new(store.campaign(leader).await?)),
        };
        Ok(Leadership { held })
    }

    /// Who leads now. An embedded store is led by this process or by nobody.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn leader(&self) -> Result<Option<Leader>, Trouble> {
        match self {
            Self::Embedded(store) => store.leader().await,
            Self::Etcd(store) => store.leader().await,
        }
    }
}

/// An error with what is behind it, in one line.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(deeper) = source {
        text = format!("{text}: {deeper}");
        source = deeper.source();
    }
    text
}

/// What happens in a store, from some revision on.
#[derive(Debug)]
pub struct Watch {
    news: mpsc::Receiver<Result<Arc<Changes>, WatchEnd>>,
}

impl Watch {
    pub(crate) fn new(news: mpsc::Receiver<Result<Arc<Changes>, WatchEnd>>) -> Self {
        Self { news }
    }

    /// The next batch. Nothing is lost where the future is dropped before its end.
    ///
    /// # Errors
    /// The watch has ended then, and says so again when asked again.
    pub async fn next(&mut self) -> Result<Arc<Changes>, WatchEnd> {
        self.news.recv().await.unwrap_or(Err(WatchEnd::Behind))
    }
}

/// The right to commit, until it is lost, resigned or dropped.
#[derive(Debug)]
pub struct Leadership {
    held: Held,
}

#[derive(Debug)]
enum Held {
    Embedded(embedded::Reign),
    Etcd(Box<etcd::Reign>),
}

impl Leadership {
    /// When it began: what a leader knows is complete once it has loaded or watched up to here.
    pub fn since(&self) -> Revision {
        match &self.held {
            Held::Embedded(reign) => reign.since(),
            Held::Etcd(reign) => reign.since(),
        }
    }

    /// Does all of a batch or nothing of it, and returns when it is durable. Batches of one leadership happen one after
    /// the other. The revision is the one that a watch tells it with; for a batch that changes nothing, an earlier one.
    /// Where the future is dropped before its end, nobody knows whether the batch happens, as after
    /// [`CommitError::Unknown`].
    ///
    /// # Errors
    /// See [`CommitError`] for what has happened then.
    pub async fn commit(&self, batch: &Batch) -> Result<Revision, CommitError> {
        batch.check()?;
        match &self.held {
            Held::Embedded(reign) => reign.commit(batch).await,
            Held::Etcd(reign) => reign.commit(batch).await,
        }
    }

    /// Whether this process has reason to believe that it leads. A commit may be refused all the same.
    pub fn leads(&self) -> bool {
        match &self.held {
            Held::Embedded(reign) => reign.leads(),
            Held::Etcd(reign) => reign.leads(),
        }
    }

    /// Waits until the leadership has ended.
    pub async fn lost(&self) {
        match &self.held {
            Held::Embedded(reign) => reign.lost().await,
            Held::Etcd(reign) => reign.lost().await,
        }
    }

    /// Ends it, so that the next one can lead at once. Dropping it does the same without waiting for it.
    ///
    /// # Errors
    /// Where the store cannot be used. The leadership has ended in this process all the same.
    pub async fn resign(&self) -> Result<(), Trouble> {
        match &self.held {
            Held::Embedded(reign) => reign.resign().await,
            Held::Etcd(reign) => reign.resign().await,
        }
    }
}
