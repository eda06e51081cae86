//! The thread that owns the file: one order after the other.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use redb::{Database, ReadTransaction, ReadableDatabase};
use tokio::sync::{mpsc::Receiver, oneshot, watch};

use super::file::{self, ABOUT, BackupError, RECORDS, REVISION};
use super::history::{History, News};
use crate::store::{
    Batch, Changes, CommitError, LEADER, Leader, Loaded, Revision, Trouble, digest,
};

/// What is asked of the owner.
pub(super) enum Order {
    Load {
        answer: oneshot::Sender<Result<Loaded, Trouble>>,
    },
    Watch {
        from: Revision,
        answer: oneshot::Sender<Option<Receiver<News>>>,
    },
    Newest {
        answer: oneshot::Sender<Revision>,
    },
    Commit {
        reign: Revision,
        batch: Box<Batch>,
        answer: oneshot::Sender<Result<Revision, CommitError>>,
    },
    Campaign(Campaign),
    Leader {
        answer: oneshot::Sender<Option<Leader>>,
    },
    Resign {
        reign: Revision,
        answer: Option<oneshot::Sender<Result<(), Trouble>>>,
    },
    Backup {
        target: PathBuf,
        answer: oneshot::Sender<Result<Revision, BackupError>>,
    },
    /// Nobody is left to ask for anything.
    End,
}

/// Somebody who wants to lead.
pub(super) struct Campaign {
    pub(super) leader: Leader,
    /// The way back to the owner, for who does not wait for the answer.
    pub(super) back: mpsc::Sender<Order>,
    pub(super) answer: oneshot::Sender<Result<Won, Trouble>>,
}

/// A reign on its way to who asked for it: it ends where nobody takes it.
pub(super) struct Won {
    pub(super) since: Revision,
    pub(super) ended: watch::Receiver<bool>,
    back: Option<mpsc::Sender<Order>>,
}

impl Won {
    /// Now it is somebody's.
    pub(super) fn take(mut self) -> (Revision, watch::Receiver<bool>) {
        self.back = None;
        (self.since, self.ended.clone())
    }
}

impl Drop for Won {
    fn drop(&mut self) {
        if let Some(back) = self.back.take() {
            let _closed = back.send(Order::Resign { reign: self.since, answer: None });
        }
    }
}

/// Who leads, and since when: the revision is what a commit has to name.
struct Ruling {
    leader: Leader,
    since: Revision,
    ended: watch::Sender<bool>,
}

/// A key with its new value, or with nothing where it goes.
type Change = (String, Option<Vec<u8>>);

/// The file and everything that depends on it.
pub(super) struct Owner {
    path: PathBuf,
    database: Database,
    history: History,
    ruling: Option<Ruling>,
    waiting: VecDeque<Campaign>,
}

impl Owner {
    /// Begins with nobody leading: who led this file is gone.
    pub(super) fn new(path: &Path, database: Database) -> Result<Self, redb::Error> {
        let revision = file::revision(&database.begin_read()?)?;
        let mut owner = Self {
            path: path.to_owned(),
            database,
            history: History::new(revision),
            ruling: None,
            waiting: VecDeque::new(),
        };
        let read = owner.database.begin_read()?;
        if read.open_table(RECORDS)?.get(LEADER)?.is_some() {
            owner.write(vec![(LEADER.to_owned(), None)])?;
        }
        Ok(owner)
    }

    /// Follows orders until the end.
    pub(super) fn run(&mut self, orders: &mpsc::Receiver<Order>) {
        // Whoever does not wait for an answer any more has dropped its end: nothing is lost with it.
        while let Ok(order) = orders.recv() {
            match order {
                Order::Load { answer } => self.load(answer),
                Order::Watch { from, answer } => drop(answer.send(self.history.watch(from))),
                Order::Newest { answer } => drop(answer.send(self.history.last())),
                Order::Commit { reign, batch, answer } => {
                    drop(answer.send(self.commit(reign, *batch)));
                }
                Order::Campaign(campaign) => {
                    self.waiting.push_back(campaign);
                    self.elect();
                }
                Order::Leader { answer } => {
                    let leader = self.ruling.as_ref().map(|ruling| ruling.leader.clone());
                    drop(answer.send(leader));
                }
                Order::Resign { reign, answer } => {
                    let resigned = self.resign(reign);
                    if let Some(answer) = answer {
                        drop(answer.send(resigned));
                    }
                    self.elect();
                }
                Order::Backup { target, answer } => self.backup(target, answer),
                Order::End => return,
            }
        }
    }

    fn trouble(&self, error: redb::Error) -> Trouble {
        trouble(&self.path, error)
    }

    fn commit(&mut self, reign: Revision, batch: Batch) -> Result<Revision, CommitError> {
        if self.ruling.as_ref().is_none_or(|ruling| ruling.since != reign) {
            return Err(CommitError::Deposed);
        }
        let odd = self.unexpected(&batch);
        if let Some(key) = odd.map_err(|error| CommitError::Trouble(self.trouble(error)))? {
            return Err(CommitError::Conflict(key));
        }
        let put = batch.pieces.into_iter().chain(batch.put);
        let put = put.map(|(key, value)| (key, Some(value)));
        let changes: Vec<Change> =
            put.chain(batch.remove.into_iter().map(|key| (key, None))).collect();
        self.write(changes).map_err(|error| CommitError::Unknown(self.trouble(error)))
    }

    /// The first key whose record is not as a batch expects.
    fn unexpected(&self, batch: &Batch) -> Result<Option<String>, redb::Error> {
        let records = self.database.begin_read()?.open_table(RECORDS)?;
        for (key, expected) in &batch.expect {
            let found = records.get(key.as_str())?.map(|value| digest(value.value()));
            if found != *expected {
                return Ok(Some(key.clone()));
            }
        }
        Ok(None)
    }

    /// Writes, waits for the disk, and tells. What changes nothing has no revision of its own.
    fn write(&mut self, mut changes: Vec<Change>) -> Result<Revision, redb::Error> {
        let revision = Revision(self.history.last().0 + 1);
        let write = self.database.begin_write()?;
        {
            let mut records = write.open_table(RECORDS)?;
            let mut gone = Vec::new();
            for (key, value) in &changes {
                if let Some(value) = value {
                    records.insert(key.as_str(), value.as_slice())?;
                } else if records.remove(key.as_str())?.is_none() {
                    gone.push(key.clone());
                }
            }
            changes.retain(|(key, value)| value.is_some() || !gone.contains(key));
            write.open_table(ABOUT)?.insert(REVISION, revision.0)?;
        }
        if changes.is_empty() {
            write.abort()?;
            return Ok(self.history.last());
        }
        // Durability::Immediate is the default: it returns after fsync.
        write.commit()?;
        self.history.tell(Changes { revision, records: changes });
        Ok(revision)
    }

    /// Lets the next one lead, if nobody does.
    fn elect(&mut self) {
        while self.ruling.is_none()
            && let Some(Campaign { leader, back, answer }) = self.waiting.pop_front()
        {
            if answer.is_closed() {
                continue;
            }
            let record = serde_json::to_vec(&leader).expect("two texts are JSON");
            let outcome = match self.write(vec![(LEADER.to_owned(), Some(record))]) {
                Err(error) => Err(self.trouble(error)),
                Ok(since) => {
                    let (ended, end) = watch::channel(false);
                    self.ruling = Some(Ruling { leader, since, ended });
                    Ok(Won { since, ended: end, back: Some(back) })
                }
            };
            drop(answer.send(outcome));
        }
    }

    fn resign(&mut self, reign: Revision) -> Result<(), Trouble> {
        let Some(ruling) = self.ruling.take_if(|ruling| ruling.since == reign) else {
            return Ok(());
        };
        // Nobody may be listening.
        let _heard = ruling.ended.send(true);
        self.write(vec![(LEADER.to_owned(), None)]).map_err(|error| self.trouble(error))?;
        Ok(())
    }

    fn load(&self, answer: oneshot::Sender<Result<Loaded, Trouble>>) {
        let path = self.path.clone();
        self.aside(answer, move |read| file::load(&read?).map_err(|error| trouble(&path, error)));
    }

    fn backup(&self, target: PathBuf, answer: oneshot::Sender<Result<Revision, BackupError>>) {
        let path = self.path.clone();
        self.aside(answer, move |read| {
            file::backup(&path, &read.map_err(BackupError::Store)?, &target)
        });
    }

    /// Reads what there is now on a thread of its own, while others write.
    fn aside<T: Send + 'static>(
        &self,
        answer: oneshot::Sender<T>,
        work: impl FnOnce(Result<ReadTransaction, Trouble>) -> T + Send + 'static,
    ) {
        let read = self.database.begin_read().map_err(|error| self.trouble(error.into()));
        let reading = thread::Builder::new().name("fwnet-store-read".to_owned());
        // A thread that cannot be started takes the answer with it: the store is closed, as far as the asker knows.
        let _started = reading.spawn(move || drop(answer.send(work(read))));
    }
}

fn trouble(path: &Path, error: redb::Error) -> Trouble {
    Trouble::File { path: path.to_owned(), source: Box::new(error) }
}
