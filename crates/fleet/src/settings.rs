//! What `fwnet fleet init` writes down in a fleet's directory, and controllers read there: where they listen, and where
//! others find them.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{join::is_endpoint, whole};

/// The file.
pub const FILE: &str = "fleet.json";
/// The envelope of the root that hosts begin with.
pub const ROOT: &str = "root.signed";
/// The directory of the operator that was made first.
pub const OPERATOR: &str = "operator";
/// The directory of the keys for signing policy, where they were made here.
pub const KEYS: &str = "keys";
/// The embedded store, where none is named.
pub const STORE: &str = "store.redb";

/// What holds for every controller that has this directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What the fleet is called.
    pub name: String,
    /// Where a controller listens: `0.0.0.0:8443`.
    pub listen: String,
    /// Where hosts and operators find controllers, `host:port` each; never empty.
    pub endpoints: Vec<String>,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file.
    #[error("{} (fwnet fleet init makes it)", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// It says something else.
    #[error("{} is not what fwnet fleet init writes", .0.display())]
    Form(PathBuf, #[source] serde_json::Error),
    /// An endpoint.
    #[error("{}: `{endpoint}` is no endpoint such as controller.example:8443", .0.display(), endpoint = .1)]
    Endpoint(PathBuf, String),
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// If there are none.
    pub fn read(directory: &Path) -> Result<Self, SettingsError> {
        let path = directory.join(FILE);
        let text = whole::read(&path).map_err(|error| SettingsError::File(path.clone(), error))?;
        let settings: Self = serde_json::from_str(&text)
            .map_err(|error| SettingsError::Form(path.clone(), error))?;
        let odd = settings.endpoints.iter().find(|endpoint| !is_endpoint(endpoint));
        if let Some(odd) = odd.cloned().or_else(|| settings.endpoints.is_empty().then(String::new))
        {
            return Err(SettingsError::Endpoint(path, odd));
        }
        Ok(settings)
    }

    /// Writes them.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        whole::write(directory, FILE, text.as_bytes())
    }
}
