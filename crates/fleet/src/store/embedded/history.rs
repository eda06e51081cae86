//! What an embedded store remembers of what it told, and whom it tells.
//!
//! Bounded: a watch that begins before what is remembered, or takes longer than what a channel holds, has to load again.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::mpsc::{self, error::TrySendError};

use crate::store::{Changes, Revision, WatchEnd};

/// Batches that are remembered at most.
const REMEMBERED_MAX: usize = 4_096;
/// Bytes of keys and values of them at most.
const REMEMBERED_BYTES_MAX: usize = 32 << 20;
/// Batches that wait for one watch at most, beyond those that it began with.
const WAITING_MAX: usize = 1_024;

/// What a watch is told.
pub(super) type News = Result<Arc<Changes>, WatchEnd>;

/// What was told, and who listens.
pub(super) struct History {
    /// Everything after it is remembered.
    base: Revision,
    last: Revision,
    remembered: VecDeque<Arc<Changes>>,
    bytes: usize,
    watches: Vec<mpsc::Sender<News>>,
}

impl History {
    /// Begins at a revision.
    pub(super) fn new(base: Revision) -> Self {
        let (remembered, watches) = (VecDeque::new(), Vec::new());
        Self { base, last: base, remembered, bytes: 0, watches }
    }

    /// The revision that was told last.
    pub(super) fn last(&self) -> Revision {
        self.last
    }

    /// What comes after `from`, or nothing where that is not remembered or has not been.
    pub(super) fn watch(&mut self, from: Revision) -> Option<mpsc::Receiver<News>> {
        if from < self.base || from > self.last {
            return None;
        }
        let missed = self.remembered.iter().filter(|changes| changes.revision > from);
        let missed: Vec<_> = missed.cloned().collect();
        let (news, watch) = mpsc::channel(WAITING_MAX + missed.len());
        for changes in missed {
            news.try_send(Ok(changes)).ok()?;
        }
        self.watches.push(news);
        Some(watch)
    }

    /// Tells everybody. Who is too slow is told nothing more, which ends its watch after what it was told.
    pub(super) fn tell(&mut self, changes: Changes) {
        self.last = changes.revision;
        let changes = Arc::new(changes);
        self.bytes += bytes(&changes);
        self.remembered.push_back(Arc::clone(&changes));
        while self.remembered.len() > REMEMBERED_MAX || self.bytes > REMEMBERED_BYTES_MAX {
            let Some(oldest) = self.remembered.pop_front() else { break };
            self.bytes -= bytes(&oldest);
            self.base = oldest.revision;
        }
        self.watches.retain(|watch| match watch.try_send(Ok(Arc::clone(&changes))) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => false,
        });
    }
}

fn bytes(changes: &Changes) -> usize {
    let of =
        |(key, value): &(String, Option<Vec<u8>>)| key.len() + value.as_ref().map_or(0, Vec::len);
    changes.records.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(revision: u64, bytes: usize) -> Changes {
        let records = vec![(String::new(), Some(vec![0; bytes]))];
        Changes { revision: Revision(revision), records }
    }

    fn told(watch: &mut mpsc::Receiver<News>) -> Vec<u64> {
        let mut told = Vec::new();
        while let Ok(news) = watch.try_recv() {
            told.push(news.unwrap().revision.0);
        }
        told
    }

    #[test]
    fn a_watch_begins_where_a_load_ended_or_is_told_to_load_again() {
        let mut history = History::new(Revision(7));
        history.tell(changes(8, 1));
        history.tell(changes(9, 1));
        assert!(history.watch(Revision(6)).is_none() && history.watch(Revision(10)).is_none());
        assert_eq!(told(&mut history.watch(Revision(7)).unwrap()), [8, 9]);
        assert_eq!(told(&mut history.watch(Revision(8)).unwrap()), [9]);
        let mut last = history.watch(Revision(9)).unwrap();
        history.tell(changes(10, 1));
        assert_eq!(told(&mut last), [10]);
    }

    #[test]
    fn it_forgets_by_number_and_by_bytes() {
        let mut history = History::new(Revision(0));
        for revision in 1..=REMEMBERED_MAX as u64 + 1 {
            history.tell(changes(revision, 1));
        }
        assert!(history.watch(Revision(0)).is_none());
        assert_eq!(told(&mut history.watch(Revision(1)).unwrap()).len(), REMEMBERED_MAX);
        history.tell(changes(9_000, REMEMBERED_BYTES_MAX));
        assert_eq!(told(&mut history.watch(Revision(4_097)).unwrap()), [9_000]);
        history.tell(changes(9_001, 1));
        assert!(history.watch(Revision(4_097)).is_none());
        assert_eq!(told(&mut history.watch(Revision(9_000)).unwrap()), [9_001]);
    }

    #[test]
    fn a_slow_watch_ends_after_what_it_was_told() {
        let mut history = History::new(Revision(0));
        let mut slow = history.watch(Revision(0)).unwrap();
        for revision in 1..=WAITING_MAX as u64 + 1 {
            history.tell(changes(revision, 1));
        }
        assert_eq!(told(&mut slow).len(), WAITING_MAX);
        assert!(slow.is_closed());
    }
}
