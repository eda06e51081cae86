//! Who this client is to a cluster that asks for users (`etcdctl auth enable`).
//!
//! A password is in a file or in the environment, and never on a command line, where every user of the machine reads it. It
//! is read whenever the cluster asks for it again, so that another one counts at once.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// The environment variable with a password, where no file is named.
pub const VARIABLE: &str = "FWNET_ETCD_PASSWORD";

/// A user of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The file with the password; what follows its first line break is not read. [`VARIABLE`] holds it where none is named.
    pub password: Option<PathBuf>,
}

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The file.
    #[error("read the password of the etcd user from {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// There is none.
    #[error(
        "the etcd user {0} has no password: name a file with ?password=FILE, or set {VARIABLE}"
    )]
    Missing(String),
}

impl Login {
    /// The password as it is now.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn secret(&self) -> Result<String, LoginError> {
        let text = match &self.password {
            Some(path) => read(path)?,
            None => env::var(VARIABLE).unwrap_or_default(),
        };
        match text.lines().next() {
            Some(line) if !line.is_empty() => Ok(line.to_owned()),
            Some(_) | None => Err(LoginError::Missing(self.user.clone())),
        }
    }
}

fn read(path: &Path) -> Result<String, LoginError> {
    fs::read_to_string(path).map_err(|error| LoginError::File(path.to_owned(), error))
}
