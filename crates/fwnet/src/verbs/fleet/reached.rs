//! Which fleet a verb speaks to, and as whom.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use fleet::{
    api::client::{CallError, Client},
    membership::Membership,
    tls::{Believed, Identity},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Runtime;

use crate::answer::FINDING;

/// As it is typed.
#[derive(Debug, Args)]
pub(super) struct Reached {
    /// Which controller to ask, in place of those in --operator (https://HOST:PORT; or FWNET_CONTROLLER)
    #[arg(long, value_name = "URL", global = true, value_parser = url)]
    controller: Option<String>,
    /// The directory with an operator's certificate (or FWNET_OPERATOR)
    #[arg(long, value_name = "DIR", global = true)]
    operator: Option<PathBuf>,
}

/// `https://HOST:PORT`, or only the latter.
fn url(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
    super::endpoint(bare)
}

/// A bundle is verified, its tests run, and the whole stored.
const PATIENCE: Duration = Duration::from_secs(600);

/// Somebody to ask.
pub(super) struct Fleet {
    client: Client,
    runtime: Runtime,
}

/// An answer, or why the fleet refuses, which is then on standard error.
pub(super) enum Answer<T> {
    Said(T),
    Refused,
}

impl<T> Answer<T> {
    /// The exit code after what is to be done with the answer.
    pub(super) fn then(self, work: impl FnOnce(T) -> anyhow::Result<u8>) -> anyhow::Result<u8> {
        match self {
            Self::Said(answer) => work(answer),
            Self::Refused => Ok(FINDING),
        }
    }
}

impl Reached {
    /// Reads the operator's certificate. Nothing is connected yet.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn fleet(&self) -> anyhow::Result<Fleet> {
        let directory =
            self.operator.clone().or_else(|| environment("FWNET_OPERATOR").map(PathBuf::from));
        let directory = directory
            .context("who asks? --operator DIR, as fwnet fleet init made it, or FWNET_OPERATOR")?;
        let Some(member) = Membership::load(&directory)? else {
            bail!("{} is no operator's: fwnet fleet init makes one", directory.display());
        };
        let said = match environment("FWNET_CONTROLLER") {
            Some(text) if self.controller.is_none() => {
                Some(url(&text).map_err(anyhow::Error::msg).context("FWNET_CONTROLLER")?)
            }
            _ => self.controller.clone(),
        };
        let endpoints = said.map_or(member.endpoints.clone(), |one| vec![one]);
        let identity = Identity::of(&member)?;
        let believed = Believed::Authority(identity.authority.clone());
        let client = Client::new(Some(&identity), believed, endpoints)?.patience(PATIENCE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Fleet { client, runtime })
    }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

impl Fleet {
    /// Asks.
    ///
    /// # Errors
    /// Where there is no answer.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Answer<T>> {
        answered(self.runtime.block_on(self.client.get(path)))
    }

    /// Has something done.
    ///
    /// # Errors
    /// Where there is no answer.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<Answer<T>> {
        answered(self.runtime.block_on(self.client.post(path, body)))
    }

    /// Gives what is answered to `keep`, part by part; how many bytes there were.
    ///
    /// # Errors
    /// Where there is no answer, or not to the end, or it cannot be kept.
    pub(super) fn save(
        &self,
        path: &str,
        keep: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> anyhow::Result<Answer<u64>> {
        answered(self.runtime.block_on(self.client.save(path, keep)))
    }

    /// Has something removed.
    ///
    /// # Errors
    /// Where there is no answer.
    pub(super) fn delete(&self, path: &str) -> anyhow::Result<Answer<()>> {
        let removed = self.client.call(hyper::Method::DELETE, path, None::<&()>);
        answered(self.runtime.block_on(removed))
    }
}

fn answered<T>(answered: Result<T, CallError>) -> anyhow::Result<Answer<T>> {
    match answered {
        Ok(answer) => Ok(Answer::Said(answer)),
        Err(CallError::Refused { wrong, .. }) => {
            eprint!("{}", wrong.detail.unwrap_or_default());
            eprintln!("fwnet: {}", wrong.error);
            Ok(Answer::Refused)
        }
        Err(error) => Err(error.into()),
    }
}
