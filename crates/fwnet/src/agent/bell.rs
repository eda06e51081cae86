//! How other threads ask the core: a question is a function that the core runs between two waits, and its answer comes
//! back through a channel of its own.

use std::{
    iter,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, mpsc},
};

use anyhow::Context;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;

use super::Core;

/// What the core is asked to do.
pub(crate) type Request = Box<dyn FnOnce(&mut Core) + Send>;

/// The core has ended, or ends before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent is ending")]
pub(crate) struct Gone;

/// The end of those who ask; one for each thread or task.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    requests: mpsc::Sender<Request>,
    urgent: mpsc::Sender<Request>,
    bell: Arc<OwnedFd>,
}

/// The end of the core.
pub(crate) struct Asked {
    requests: mpsc::Receiver<Request>,
    urgent: mpsc::Receiver<Request>,
    bell: Arc<OwnedFd>,
}

/// Makes both ends.
///
/// # Errors
/// Where there are no descriptors left.
pub(crate) fn pair() -> anyhow::Result<(Asking, Asked)> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let bell = Arc::new(eventfd(0, flags).context("make an eventfd")?);
    let (requests, requested) = mpsc::channel();
    let (urgent, urged) = mpsc::channel();
    let asking = Asking { requests, urgent, bell: Arc::clone(&bell) };
    Ok((asking, Asked { requests: requested, urgent: urged, bell }))
}

impl Asking {
    /// Has the core do `work`, and waits for its answer.
    ///
    /// # Errors
    /// [`Gone`] where there will be no answer.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        Self::answered(&self.requests, &self.bell, work).await
    }

    /// The same before everything else that waits: an emergency.
    ///
    /// # Errors
    /// [`Gone`] where there will be no answer.
    pub(crate) async fn ask_first<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        Self::answered(&self.urgent, &self.bell, work).await
    }

    /// The same for a thread that has nothing else to do meanwhile.
    ///
    /// # Errors
    /// [`Gone`] where there will be no answer.
    pub(crate) fn ask_and_wait<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (answer, answered) = mpsc::channel();
        self.tell(move |core| {
            // Nobody waits any more where the thread is gone.
            let _heard = answer.send(work(core));
        })?;
        answered.recv().map_err(|_dropped| Gone)
    }

    /// Has the core do `work`, and does not wait.
    ///
    /// # Errors
    /// [`Gone`] where it will not be done.
    pub(crate) fn tell(&self, work: impl FnOnce(&mut Core) + Send + 'static) -> Result<(), Gone> {
        Self::put(&self.requests, &self.bell, Box::new(work))
    }

    async fn answered<T: Send + 'static>(
        queue: &mpsc::Sender<Request>,
        bell: &OwnedFd,
        work: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (answer, answered) = oneshot::channel();
        let asked: Request = Box::new(move |core| {
            // Whoever asked may have gone meanwhile: the work is done all the same.
            let _heard = answer.send(work(core));
        });
        Self::put(queue, bell, asked)?;
        answered.await.map_err(|_dropped| Gone)
    }

    fn put(queue: &mpsc::Sender<Request>, bell: &OwnedFd, work: Request) -> Result<(), Gone> {
        queue.send(work).map_err(|_ended| Gone)?;
        // A full counter wakes the core just as well.
        let _rung = rustix::io::write(bell, &1u64.to_ne_bytes());
        Ok(())
    }
}

impl Asked {
    /// Polls readable when somebody asked.
    pub(crate) fn source(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// What was asked, in order; an emergency goes before everything that waits.
    pub(crate) fn requests(&self) -> impl Iterator<Item = Request> {
        // Read before the requests are taken: one that comes later rings again.
        let _count = rustix::io::read(&*self.bell, &mut [0; 8]);
        iter::from_fn(|| self.urgent.try_recv().or_else(|_none| self.requests.try_recv()).ok())
    }
}
