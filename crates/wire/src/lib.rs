//! Signed policy: what people sign, and what a host may take from a bundle that anybody handed to it.
//!
//! Nothing here opens a file or reads a clock: bytes and the time are arguments, and the same code runs on the host, in
//! `fwnet verify` and under the fuzzer. A reader's way through: [`Envelope`] is signed bytes (DSSE, Ed25519), the
//! [`documents`](Root) are what those bytes say, [`Bundle`] is how they travel, and [`Trust`] is what a host knows: a root
//! that it was given, and the newest version of everything it has seen. [`Trust::verify`] decides, by the client rules of
//! The Update Framework (TUF 1.0, section 5), and gives back either documents or the one thing that is wrong.
//!
//! A signature covers the exact bytes of a payload. They are never printed anew before they are checked, so no two
//! programs need to agree on how JSON is written.

#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

mod base64;
mod bundle;
mod document;
mod envelope;
mod key;
pub mod limits;
mod role;
mod root;
pub mod scope;
mod stale;
pub mod sync;
mod trust;

pub use bundle::{Bundle, ReadError};
pub use document::{Delegation, Listed, Payload, Policy, Snapshot, Stamp, concerns, digest};
pub use envelope::{Authority, Envelope, EnvelopeError, Signature, Unsigned};
pub use key::{KeyError, NamedKey, PublicKey, SecretKey};
pub use role::Role;
pub use root::{Holders, MaxStale, Roles, Root, RootError};
pub use stale::{Freshness, Stale, Then};
pub use trust::{Accepted, Document, Mark, Marks, Moment, Trust, VerifyError};
