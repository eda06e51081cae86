//! How others ask the one task that owns what the controller knows.

use tokio::sync::{mpsc, oneshot};

use super::core::Core;

/// What is asked: it runs between two events.
pub(crate) type Question = Box<dyn FnOnce(&mut Core) + Send>;

/// Asks the core. Copies ask the same one.
#[derive(Clone, Debug)]
pub(crate) struct Asking(mpsc::Sender<Question>);

/// The core has ended.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the controller is ending")]
pub(crate) struct Gone;

/// Questions that wait at most.
const WAITING: usize = 256;

/// Both ends.
pub(crate) fn pair() -> (Asking, mpsc::Receiver<Question>) {
    let (ask, asked) = mpsc::channel(WAITING);
    (Asking(ask), asked)
}

impl Asking {
    /// Has `work` done with the core at hand, and waits for what it gives back.
    ///
    /// # Errors
    /// Where the core has ended.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (answer, answered) = oneshot::channel();
        let question = move |core: &mut Core| {
            // Nobody may wait any more.
            let _heard = answer.send(work(core));
        };
        self.0.send(Box::new(question)).await.map_err(|_gone| Gone)?;
        answered.await.map_err(|_gone| Gone)
    }
}
