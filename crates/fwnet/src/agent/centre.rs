//! The agent's line to its fleet: a thread that speaks to a controller, and asks the core as the API does.
//!
//! What to say and what follows from what is heard is decided by [`agent::sync`]; here are its socket, its clock and its
//! disk. A host that cannot reach a controller enforces what it has, and says so in its status. What makes this host part
//! of a fleet is one file of the state ([`Membership`]), which may come and go while the agent runs.

mod asked;
mod driver;
mod line;
mod pieces;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use ::fleet::membership::{DIRECTORY, Membership};
use anyhow::Context;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use utoipa::ToSchema;

use self::driver::{Driver, Ended};
use crate::api::Api;

/// How often it is looked whether this host is in a fleet.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// What is being said when the agent ends may take that long.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How it stands with a host's fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Fleet {
    /// What this host is called there.
    pub(crate) host: String,
    /// The controller or relay that it is connected to; nothing while it is not.
    pub(crate) connected_to: Option<String>,
    /// Since when it is connected, or not.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) since: Timestamp,
    /// When a controller last said something.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) last_contact: Option<Timestamp>,
    /// What is in force, by the name that controllers have for it; nothing where it came from elsewhere.
    pub(crate) target: Option<String>,
    /// How far it has got with that.
    pub(crate) stage: Got,
    /// What a controller wants and what is not in force yet.
    pub(crate) wanted: Option<String>,
    /// What was refused last, and why.
    pub(crate) refused: Option<String>,
    /// Tests of the policy that fail on this host.
    #[serde(default)]
    pub(crate) failing: Option<String>,
    /// Why there is no connection.
    pub(crate) trouble: Option<String>,
    /// Until when this host can prove who it is.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) certificate_until: Timestamp,
}

/// How far a host has got with what a controller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Got {
    /// Nothing of a controller is in force
    Nothing,
    /// It is in force until it is confirmed, or not
    Trial,
    /// It is in force for good
    Enforced,
}

impl Got {
    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Trial => "on trial",
            Self::Enforced => "enforced",
        }
    }
}

/// Where controllers are by the file in the state, as far as that says addresses. What cannot be read is as if it were
/// not there: whoever connects will say so.
pub(crate) fn controllers(state: &Path) -> Vec<SocketAddr> {
    let membership = Membership::load(&state.join(DIRECTORY)).ok().flatten();
    membership.map(|it| addresses(&it)).unwrap_or_default()
}

fn addresses(membership: &Membership) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> =
        membership.endpoints.iter().filter_map(|endpoint| endpoint.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// The thread.
#[derive(Debug)]
pub(crate) struct Centre {
    stop: oneshot::Sender<()>,
    ended: mpsc::Receiver<()>,
}

impl Centre {
    /// Begins.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub(crate) fn begin(api: Api, state: &Path) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .context("start the line to the fleet")?;
        let directory = state.join(DIRECTORY);
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = mpsc::channel();
        let body = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = attend(api, directory) => {}
                    _ = stopped => {}
                }
            });
            // Names that are being looked up are not waited for.
            runtime.shutdown_background();
            let _heard = end.send(());
        };
        thread::Builder::new().name("centre".to_owned()).spawn(body).context("start a thread")?;
        Ok(Self { stop, ended })
    }

    /// Ends the connection. What is enforced stays.
    pub(crate) fn end(self) {
        if self.stop.send(()).is_ok() {
            let _ended = self.ended.recv_timeout(LAST_WORDS);
        }
    }
}

/// As long as the agent lives.
async fn attend(api: Api, directory: PathBuf) {
    let mut told = None;
    loop {
        match Membership::load(&directory) {
            Ok(Some(membership)) => {
                told = None;
                match Driver::begin(api.clone(), directory.clone(), membership).await {
                    Ok(driver) => match driver.drive().await {
                        Ended::Agent => return,
                        Ended::Membership => continue,
                    },
                    Err(error) => eprintln!("fwnet: the fleet cannot be spoken to: {error:#}"),
                }
            }
            Ok(None) => {}
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                if told.as_ref() != Some(&error) {
                    eprintln!("fwnet: {error}");
                    told = Some(error);
                }
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
