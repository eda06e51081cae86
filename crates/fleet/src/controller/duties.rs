//! What a controller does beside its core: commits that are due, and the policy's tests, which may take their time.

use std::time::Duration;

use controller::Batch;
use jiff::Timestamp;
use tokio::{sync::mpsc, time::sleep};

use super::{core::Duty, desk::Desk};
use crate::store::CommitError;

/// Tests are not run more often than that.
const BETWEEN_TESTS: Duration = Duration::from_millis(200);

/// Does them until it is dropped.
pub(crate) async fn go_on(desk: Desk, mut duties: mpsc::Receiver<Duty>) {
    while let Some(duty) = duties.recv().await {
        match duty {
            Duty::Commit(batch) => commit(&desk, batch).await,
            Duty::Test => {
                tokio::spawn(test(desk.clone()));
            }
        }
    }
}

/// What becomes of it is seen in the store.
async fn commit(desk: &Desk, batch: Batch) {
    let Some(own) = desk.lead.borrow().own.clone() else { return };
    match desk.committed(&own, batch).await {
        // Something else came first: whether it is still due is worked out anew.
        Ok(_) | Err(CommitError::Conflict(_) | CommitError::Deposed) => {}
        Err(error) => eprintln!("fwnet: {error}"),
    }
}

/// Runs the policy's tests.
async fn test(desk: Desk) {
    sleep(BETWEEN_TESTS).await;
    let trial = match desk.asking.ask(|core| core.controller.trial()).await {
        Ok(Ok(Some(trial))) => trial,
        Ok(Ok(None)) | Err(_) => return,
        Ok(Err(refusal)) => return eprintln!("fwnet: the policy's tests: {refusal}"),
    };
    let ran = tokio::task::spawn_blocking(move || trial.run(Timestamp::now())).await;
    if let Ok(outcome) = ran {
        let _heard = desk.asking.ask(move |core| core.tried(outcome)).await;
    }
}
