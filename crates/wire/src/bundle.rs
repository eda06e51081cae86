//! How signed documents travel: everything that a host needs, in one file.

use serde::{Deserialize, Serialize};

use crate::{
    envelope::Envelope,
    limits::{BUNDLE_BYTES_MAX, DOCUMENTS_MAX, ROOTS_MAX},
};

/// What the first field of a bundle says.
const FORMAT: &str = "fwnet-bundle-1";

/// Signed documents that belong together. Nothing in it is to be trusted before [`Trust::verify`](crate::Trust::verify).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    format: String,
    /// The roots in the order of their versions; hosts skip those they have.
    pub roots: Vec<Envelope>,
    /// The timestamp.
    pub timestamp: Envelope,
    /// The snapshot.
    pub snapshot: Envelope,
    /// Every document of the snapshot, in any order.
    pub documents: Vec<Envelope>,
}

/// Why bytes are not a bundle.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There are too many.
    #[error("the bundle has {0} bytes, more than {BUNDLE_BYTES_MAX}")]
    Size(usize),
    /// They are not JSON of that form.
    #[error("this is not a bundle: {0}")]
    Form(#[from] serde_json::Error),
    /// The format is another one.
    #[error("the bundle has the format `{0}`: `{FORMAT}` is what is read here")]
    Format(String),
    /// Too many documents.
    #[error("the bundle has {0} documents, more than {DOCUMENTS_MAX}")]
    Documents(usize),
    /// Too many roots.
    #[error("the bundle has {0} roots, more than {ROOTS_MAX}")]
    Roots(usize),
}

impl Bundle {
    /// Of signed parts.
    pub fn new(
        roots: Vec<Envelope>,
        timestamp: Envelope,
        snapshot: Envelope,
        documents: Vec<Envelope>,
    ) -> Self {
        Self { format: FORMAT.to_owned(), roots, timestamp, snapshot, documents }
    }

    /// Reads a bundle. Its size is looked at first.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        if bytes.len() > BUNDLE_BYTES_MAX {
            return Err(ReadError::Size(bytes.len()));
        }
        let bundle: Self = serde_json::from_slice(bytes)?;
        if bundle.format != FORMAT {
            return Err(ReadError::Format(bundle.format));
        }
        if bundle.documents.len() > DOCUMENTS_MAX {
            return Err(ReadError::Documents(bundle.documents.len()));
        }
        if bundle.roots.len() > ROOTS_MAX {
            return Err(ReadError::Roots(bundle.roots.len()));
        }
        Ok(bundle)
    }

    /// As it is written.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self)
            .expect("bundles have string keys and no failing serializer");
        text.push('\n');
        text
    }
}
