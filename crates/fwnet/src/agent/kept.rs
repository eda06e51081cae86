//! What the agent keeps on disk, and the state directory as a whole: opened by one process at a time.

use std::path::Path;

use ::agent::store::{Store, inspect};
use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{disk::Directory, lock::Lock};
use crate::{place::Place, seeing::outputs::Outputs};

/// What `fwnet up` was told besides the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settled {
    /// Where to attach.
    pub(crate) place: Place,
    /// The group that may use the socket; none is the group of root.
    pub(crate) socket_group: Option<String>,
    /// A group that may only look.
    pub(crate) read_group: Option<String>,
    /// Where events go.
    #[serde(default)]
    pub(crate) outputs: Outputs,
}

/// What is known of a state directory that another process may hold: where to attach.
///
/// # Errors
/// Where it cannot be read, or nothing was put up there.
pub(crate) fn settled(directory: &Path) -> anyhow::Result<Settled> {
    let context = || directory.display().to_string();
    let mut disk = Directory::open(directory).with_context(context)?;
    let (state, _health) = inspect::<Settled>(&mut disk).with_context(context)?;
    state.place.with_context(|| format!("nothing was put up in {}", directory.display()))
}

/// The state directory, locked.
#[derive(Debug)]
pub(crate) struct Kept {
    /// What is in it.
    pub(crate) store: Store<Directory, Settled>,
    _lock: Lock,
}

impl Kept {
    /// Opens `directory`, and makes it where it is not there.
    ///
    /// # Errors
    /// Where an agent holds it, or it cannot be used.
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Self> {
        let context = || directory.display().to_string();
        let disk = Directory::open(directory).with_context(context)?;
        let lock = Lock::take(directory)?;
        Ok(Self { store: Store::open(disk).with_context(context)?, _lock: lock })
    }
}

/// What a host trusts, by its state directory, which an agent may hold.
///
/// # Errors
/// Where it cannot be read, or trusts no root.
pub(crate) fn trust(directory: &Path) -> anyhow::Result<wire::Trust> {
    let context = || directory.display().to_string();
    let mut disk = Directory::open_existing(directory).with_context(context)?;
    let (state, _health) = inspect::<Settled>(&mut disk).with_context(context)?;
    let trusted = state.trusted.map(|trusted| trusted.trust);
    trusted.with_context(|| format!("the host of {} trusts no root", directory.display()))
}
