//! What the agent keeps on disk, by name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use agent::edition::Edition;
use anyhow::Context;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{place::Place, seeing::outputs::Outputs};

/// What `fwnet up` was told besides the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settled {
    /// Where to attach.
    pub(crate) place: Place,
    /// The group that may use the socket; none is the group of root.
    pub(crate) socket_group: Option<String>,
    /// Where events go.
    #[serde(default)]
    pub(crate) outputs: Outputs,
}

/// The state directory.
#[derive(Clone, Debug)]
pub(crate) struct State {
    directory: PathBuf,
}

impl State {
    /// Uses `directory`, which is there.
    pub(crate) fn open(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Where to attach.
    ///
    /// # Errors
    /// If nothing was ever put up here, or it cannot be read.
    pub(crate) fn place(&self) -> anyhow::Result<Settled> {
        self.read("place.json")
    }

    /// The policy in force.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub(crate) fn current(&self) -> anyhow::Result<Edition> {
        self.read("policy.current")
    }

    /// Keeps where to attach.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(crate) fn keep_place(&self, place: &Settled) -> anyhow::Result<()> {
        self.write("place.json", place)
    }

    /// Keeps the policy in force.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(crate) fn keep_current(&self, edition: &Edition) -> anyhow::Result<()> {
        self.write("policy.current", edition)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<T> {
        let path = self.directory.join(name);
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> anyhow::Result<()> {
        let path = self.directory.join(name);
        fs::write(&path, serde_json::to_vec(value)?).with_context(|| path.display().to_string())
    }
}
