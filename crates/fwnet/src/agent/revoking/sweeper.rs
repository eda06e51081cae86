//! The thread that sweeps: orders in, what was done out, in the same order. It begins with the first order, and is there
//! until the agent ends.

use std::{
    sync::{Arc, mpsc},
    thread,
};

use ::agent::revoke::Existing;
use kernel::{Netns, Stamps};
use tokio::sync::watch;
use verdict::Endpoint;

use crate::{
    agent::bell::Asking,
    orders::Ready,
    revoke::{Judged, Sweep, Swept},
};

/// One sweep, with everything it needs.
#[derive(Debug)]
pub(super) struct Order {
    /// The rules that were in force, and when; without any everything was allowed.
    pub(super) old: Option<(Arc<Ready>, u64)>,
    /// The rules that are.
    pub(super) new: Arc<Ready>,
    /// When they came into force, by CLOCK_BOOTTIME in nanoseconds.
    pub(super) now_ns: u64,
    /// The generation of their image.
    pub(super) generation: u32,
    /// What was asked for.
    pub(super) existing: Existing,
    /// Which sockets the firewall judges.
    pub(super) judged: Judged,
    /// Who made which socket, where that was entered.
    pub(super) stamps: Option<Stamps>,
    /// Connections that are never ended.
    pub(super) protected: Vec<(Endpoint, Endpoint)>,
    /// Where to look.
    pub(super) namespaces: Vec<Netns>,
}

impl Order {
    fn carry_out(&self, in_force: &watch::Receiver<Option<Arc<Ready>>>) -> Swept {
        let since = || in_force.borrow().clone().filter(|latest| !Arc::ptr_eq(latest, &self.new));
        let sweep = Sweep {
            old: self.old.as_ref().map(|(old, then)| old.image.at(*then)),
            new: self.new.image.at(self.now_ns),
            since: &since,
            existing: self.existing,
            judged: self.judged.clone(),
            stamps: self.stamps.as_ref(),
            protected: self.protected.clone(),
        };
        sweep.run(&self.namespaces)
    }
}

/// The core's end.
#[derive(Debug)]
pub(super) struct Sweeper {
    bell: Option<Asking>,
    in_force: watch::Sender<Option<Arc<Ready>>>,
    thread: Option<Thread>,
    /// What was done without the thread, which could not be started.
    done: Vec<(Order, Swept)>,
}

#[derive(Debug)]
struct Thread {
    orders: mpsc::Sender<Order>,
    swept: mpsc::Receiver<(Order, Swept)>,
}

impl Default for Sweeper {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Sweeper {
    /// Has no thread yet. The end of each sweep rings `bell`.
    pub(super) fn new(bell: Option<Asking>) -> Self {
        Self { bell, in_force: watch::Sender::new(None), thread: None, done: Vec::new() }
    }

    /// What is in force now: sweeps that are under way leave alone what it allows.
    pub(super) fn in_force(&self, ready: &Arc<Ready>) {
        self.in_force.send_replace(Some(Arc::clone(ready)));
    }

    /// Has one carried out, behind those that were ordered before.
    pub(super) fn sweep(&mut self, order: Order) {
        if self.thread.is_none() {
            match self.start() {
                Ok(thread) => self.thread = Some(thread),
                Err(error) => {
                    eprintln!("fwnet: whoever asks waits, no thread can be started: {error}");
                }
            }
        }
        let refused = match &self.thread {
            Some(thread) => thread.orders.send(order).err().map(|unsent| unsent.0),
            None => Some(order),
        };
        if let Some(order) = refused {
            let swept = order.carry_out(&self.in_force.subscribe());
            self.done.push((order, swept));
        }
    }

    /// One that has ended.
    pub(super) fn next(&mut self) -> Option<(Order, Swept)> {
        let ended = self.thread.as_ref().and_then(|thread| thread.swept.try_recv().ok());
        ended.or_else(|| self.done.pop())
    }

    /// Waits until all have ended.
    pub(super) fn finish(&mut self) -> Vec<(Order, Swept)> {
        let Some(Thread { orders, swept }) = self.thread.take() else { return Vec::new() };
        drop(orders);
        swept.iter().collect()
    }

    fn start(&self) -> std::io::Result<Thread> {
        let (orders, ordered) = mpsc::channel::<Order>();
        let (done, swept) = mpsc::channel();
        let (bell, in_force) = (self.bell.clone(), self.in_force.subscribe());
        let sweeping = move || {
            for order in ordered {
                let swept = order.carry_out(&in_force);
                if done.send((order, swept)).is_err() {
                    return;
                }
                if let Some(bell) = &bell {
                    // An agent that is ending waits for the other channel.
                    let _rung = bell.tell(|core| core.take_swept());
                }
            }
        };
        thread::Builder::new().name("sweep".to_owned()).spawn(sweeping)?;
        Ok(Thread { orders, swept })
    }
}
