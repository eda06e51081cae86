//! What a controller does without being asked: rollouts that nobody confirmed end, timestamps are made anew, and the tests
//! in the policy are run again when something changed.

use std::time::Duration;

use controller::{Batch, Model, Refusal, orders, trials::Trial};
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use super::desk::{Desk, OrderError};

/// How often it looks whether something is to be done.
const LOOK: Duration = Duration::from_millis(500);

/// Does them until it is dropped.
pub(crate) async fn go_on(desk: Desk) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        test(&desk).await;
        if desk.lead.borrow().own.is_some()
            && let Err(error) = lead(&desk).await
        {
            match error {
                // Somebody else does it, or nobody has to any more.
                OrderError::Elsewhere(_) | OrderError::Nobody | OrderError::Busy => {}
                OrderError::Gone(_) => return,
                OrderError::Refused(_) | OrderError::Commit(_) => eprintln!("fwnet: {error}"),
            }
        }
    }
}

/// Runs the policy's tests where hosts, labels or the policy changed.
async fn test(desk: &Desk) {
    let begun = desk.asking.ask(|core| core.trials.begin(&core.model)).await;
    let trial: Trial = match begun {
        Ok(Ok(Some(trial))) => trial,
        Ok(Ok(None)) | Err(_) => return,
        Ok(Err(refusal)) => return eprintln!("fwnet: the policy's tests: {refusal}"),
    };
    let ran = tokio::task::spawn_blocking(move || trial.run(Timestamp::now())).await;
    if let Ok(outcome) = ran {
        let _heard = desk.asking.ask(move |core| core.trials.ran(outcome)).await;
    }
}

async fn lead(desk: &Desk) -> Result<(), OrderError> {
    let fixed = desk.fixed.clone();
    let due = move |model: &Model, now: Timestamp| -> Result<Option<Batch>, Refusal> {
        if model.rollout().is_some_and(|open| open.is_open() && open.confirm_until <= now) {
            return orders::halt(model, "nobody confirmed it in time").map(Some);
        }
        if let Some(stamping) = &fixed.stamping
            && orders::timestamp_due(model, stamping.lifetime).is_some_and(|due| due <= now)
        {
            return orders::renew_timestamp(model, stamping, now).map(Some);
        }
        Ok(orders::raise(model, now))
    };
    let look = due.clone();
    if desk.asking.ask(move |core| look(&core.model, Timestamp::now())).await??.is_none() {
        return Ok(());
    }
    desk.order(move |model, now| Ok((due(model, now)?.unwrap_or_default(), ()))).await
}
