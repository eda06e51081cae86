//! Who writes: this controller stands for election for as long as it runs.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

use crate::store::{Leader, Leadership, Store};

/// How long to wait after the store could not be used.
const AGAIN: Duration = Duration::from_millis(500);
/// How often one who waits looks who leads.
const LOOK: Duration = Duration::from_millis(500);

/// What is known of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lead {
    /// Ours, while we lead.
    pub(crate) own: Option<Arc<Leadership>>,
    /// Who leads, as far as that is known.
    pub(crate) leader: Option<Leader>,
}

/// Stands for election until it is dropped.
pub(crate) async fn stand(store: Store, own: Leader, lead: watch::Sender<Lead>) {
    loop {
        let won = tokio::select! {
            won = store.campaign(&own) => won,
            () = look(&store, &lead) => continue,
        };
        match won {
            Ok(leadership) => {
                let leadership = Arc::new(leadership);
                let leads = Lead { own: Some(Arc::clone(&leadership)), leader: Some(own.clone()) };
                lead.send_replace(leads);
                leadership.lost().await;
                lead.send_replace(Lead::default());
            }
            Err(error) => {
                eprintln!("fwnet: this controller cannot lead: {error}");
                sleep(AGAIN).await;
            }
        }
    }
}

/// Notes who leads, again and again.
async fn look(store: &Store, lead: &watch::Sender<Lead>) {
    loop {
        if let Ok(leader) = store.leader().await {
            lead.send_if_modified(|known| {
                let other = known.leader != leader;
                known.leader = leader;
                other
            });
        }
        sleep(LOOK).await;
    }
}
