//! How a store is named on a command line: `redb:FILE`.

use std::{fmt, path::PathBuf, str::FromStr};

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `redb:FILE`: one file, made where it is not there.
    Embedded(PathBuf),
}

/// Why a text names no store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Another beginning.
    #[error("{0:?} names no store: redb:FILE")]
    Scheme(String),
    /// Nothing behind it.
    #[error("redb: is followed by the path of a file")]
    Path,
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if let Some(path) = text.strip_prefix("redb:") {
            return if path.is_empty() {
                Err(LocationError::Path)
            } else {
                Ok(Self::Embedded(path.into()))
            };
        }
        Err(LocationError::Scheme(text.to_owned()))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(path) => write!(f, "redb:{}", path.display()),
        }
    }
}
