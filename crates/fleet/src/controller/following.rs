//! How a controller that does not lead tells the leader of the hosts that are connected to it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use wire::sync::PROTOCOL;

use super::{desk::Fixed, leading::Lead};
use crate::{
    subject::Subject,
    tls::{self, Believed},
    uplink::{Above, Patience, hold},
};

/// How long to wait where no certificate can be made.
const AGAIN: Duration = Duration::from_secs(1);

/// Does so until it is dropped.
pub(crate) async fn follow(
    fixed: Arc<Fixed>,
    subject: Subject,
    mut lead: watch::Receiver<Lead>,
    tell: mpsc::Sender<Above>,
) {
    let mut patience = Patience::new();
    loop {
        let other = |lead: &Lead| lead.own.is_none() && lead.leader.is_some();
        let endpoint = match lead.wait_for(other).await {
            Ok(known) => known.leader.as_ref().map(|leader| leader.endpoint.clone()),
            Err(_ending) => return,
        };
        let Some(endpoint) = endpoint else { continue };
        let issued = fixed.authority.issue(&subject, Timestamp::now(), fixed.lifetime);
        let config = issued.ok().and_then(|identity| {
            let believed = Believed::Authority(fixed.authority.certificate().clone());
            tls::client(Some(&identity), believed, PROTOCOL).ok()
        });
        let Some(config) = config.map(Arc::new) else {
            sleep(AGAIN).await;
            continue;
        };
        let mut changed = lead.clone();
        let left = async {
            let other = |lead: &Lead| {
                lead.own.is_some() || lead.leader.as_ref().is_none_or(|it| it.endpoint != endpoint)
            };
            changed.wait_for(other).await.is_ok()
        };
        let gone = tokio::select! {
            () = hold(&config, &endpoint, &tell, &mut patience) => false,
            _ = left => true,
        };
        if gone {
            // The line ended in the middle.
            let _told = tell.send(Above::Closed).await;
        } else {
            patience.wait().await;
        }
    }
}
