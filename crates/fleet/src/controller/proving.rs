//! Shows the core, again and again, that it knows what its store holds: a controller that lags behind does not tell a host
//! that has just come what was true before.

use std::time::Duration;

use tokio::time::sleep;

use super::desk::Desk;
use crate::server::lines::Clock;

/// A host that comes waits for the next time at most so long.
const EVERY: Duration = Duration::from_millis(300);

/// Does so until it is dropped. A store that does not answer keeps nobody else waiting.
pub(crate) async fn go_on(desk: Desk, clock: Clock) {
    loop {
        // What was committed before this moment is in what the store answers.
        let as_of = clock.now().ms;
        if let Ok(newest) = desk.store.newest().await
            && desk.reached(newest).await
        {
            // The core ends with the process.
            let _ending = desk.asking.ask(move |core| core.proven(as_of)).await;
        }
        sleep(EVERY).await;
    }
}
