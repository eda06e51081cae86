//! What can be wrong with a bundle. Each message names the thing.

use jiff::Timestamp;

use crate::{bundle::ReadError, envelope::EnvelopeError, root::RootError, scope::Escape};

/// Why nothing of a bundle is taken.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is no bundle.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A root does not follow from the one that is trusted.
    #[error(transparent)]
    Root(#[from] RootError),
    /// Something is not signed as it must be.
    #[error("{what}: {error}")]
    Envelope {
        /// What.
        what: String,
        /// What is wrong with it.
        error: EnvelopeError,
    },
    /// Something has expired.
    #[error("{what} expired at {expires}, and it is {now}")]
    Expired {
        /// What.
        what: String,
        /// When.
        expires: Timestamp,
        /// The time; the latest one that was seen, where a clock was set back.
        now: Timestamp,
    },
    /// Something is older than what was seen.
    #[error("{what} has version {found}, and version {seen} was seen already")]
    Old {
        /// What.
        what: String,
        /// Its version.
        found: u64,
        /// The newest that was seen.
        seen: u64,
    },
    /// Two different things have one version.
    #[error(
        "version {version} of {what} says something else than the version {version} that was seen"
    )]
    Twice {
        /// What.
        what: String,
        /// Its version.
        version: u64,
    },
    /// Something is not what is vouched for.
    #[error("{what} is not the one that {by} names")]
    Other {
        /// What.
        what: String,
        /// What names another one.
        by: &'static str,
    },
    /// A document that was there is not any more.
    #[error(
        "the document `{name}` (version {version}) has vanished from the snapshot: it is withdrawn by a version without rules"
    )]
    Vanished {
        /// Its name.
        name: String,
        /// The version that was seen.
        version: u64,
    },
    /// The snapshot lists a document that did not come with it.
    #[error(
        "the document `{name}` (version {version}) is not in the bundle, though the snapshot lists it"
    )]
    Missing {
        /// Its name.
        name: String,
        /// Its version.
        version: u64,
    },
    /// A document that concerns this host did not come.
    #[error(
        "the document `{name}` (version {version}) was held back, though it concerns this host: `{concerns}`"
    )]
    HeldBack {
        /// Its name.
        name: String,
        /// Its version.
        version: u64,
        /// Whom it concerns.
        concerns: String,
    },
    /// The snapshot says something else than the document of whom it concerns.
    #[error("the snapshot is wrong about whom the document `{name}` concerns: {}", .concerns.as_deref().unwrap_or("everybody"))]
    Concerns {
        /// Its name.
        name: String,
        /// Whom it concerns by its own rules.
        concerns: Option<String>,
    },
    /// A document came that the snapshot does not list.
    #[error("the bundle has {0} documents that the snapshot does not list")]
    Unlisted(usize),
    /// The bundle is for others.
    #[error("the bundle is for {} and not for {}", .audience.join(", "), .names.join(", "))]
    Audience {
        /// Who this is.
        names: Vec<String>,
        /// For whom it is.
        audience: Vec<String>,
    },
    /// A document that the role policy or another delegation has signed is delegated again.
    #[error("the document `{name}` is delegated more than once, or by itself")]
    Delegated {
        /// Its name.
        name: String,
    },
    /// A document hands on more often than its scope allows.
    #[error(
        "the document `{name}` hands on `{delegation}`, which its own delegation does not allow to be handed on that often"
    )]
    Depth {
        /// Its name.
        name: String,
        /// What it hands on.
        delegation: String,
    },
    /// Something in a delegated document is outside of its scope.
    #[error(
        "the document `{name}` is outside of the scope of the delegation `{delegation}`: {escape}"
    )]
    Scope {
        /// Its name.
        name: String,
        /// Whose scope.
        delegation: String,
        /// What is outside.
        escape: Box<Escape>,
    },
}
