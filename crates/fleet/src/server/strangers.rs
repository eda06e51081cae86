//! Those who called and have not shown who they are: a bounded number of them, of whom the oldest goes when another one
//! calls. Who means it is through in milliseconds; a crowd that says nothing only pushes itself out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::counted::{Counted, Outcome};

/// All of them. Copies are the same crowd.
#[derive(Clone, Debug)]
pub(super) struct Strangers {
    most: usize,
    counted: Counted,
    crowd: Arc<Mutex<Crowd>>,
}

#[derive(Debug, Default)]
struct Crowd {
    next: u64,
    here: BTreeMap<u64, Arc<Notify>>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Stranger {
    number: u64,
    out: Arc<Notify>,
    all: Strangers,
}

impl Strangers {
    /// At most `most` at a time.
    pub(super) fn new(most: usize, counted: Counted) -> Self {
        Self { most, counted, crowd: Arc::default() }
    }

    fn crowd(&self) -> MutexGuard<'_, Crowd> {
        // Nothing that holds the lock can panic half way.
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody calls. Where there are too many, the oldest has to go.
    pub(super) fn come(&self) -> Stranger {
        let mut crowd = self.crowd();
        while crowd.here.len() >= self.most.max(1) {
            self.push_out(&mut crowd);
        }
        let number = crowd.next;
        crowd.next += 1;
        let out = Arc::new(Notify::new());
        crowd.here.insert(number, Arc::clone(&out));
        self.counted.strangers.inc();
        Stranger { number, out, all: self.clone() }
    }

    /// Makes room: descriptors have run out. `false` if there is nobody to go.
    pub(super) fn make_room(&self) -> bool {
        self.push_out(&mut self.crowd())
    }

    fn push_out(&self, crowd: &mut Crowd) -> bool {
        let Some((_, out)) = crowd.here.pop_first() else { return false };
        out.notify_one();
        self.counted.strangers.dec();
        self.counted.refuse(Outcome::Pushed);
        true
    }
}

impl Stranger {
    /// Waits until it has to go.
    pub(super) async fn pushed_out(&self) {
        self.out.notified().await;
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        if self.all.crowd().here.remove(&self.number).is_some() {
            self.all.counted.strangers.dec();
        }
    }
}
