//! The controller without its edges: who is enrolled, which policy is current, what concerns whom, who has acknowledged
//! what.
//!
//! Nothing here opens a file or a socket or reads a clock. What happened and the time are arguments, and what follows are
//! effects that a shell carries out: commits to a store, frames to agents, answers to people.
//!
//! A reader's way through: [`records`] is what the store holds, [`Model`] is what was read of it, [`orders`] are what
//! people ask for, which become commits and come back as changes of the model; [`views`] is what concerns whom.

mod digest;
mod edition;
pub mod limits;
mod model;
pub mod orders;
pub mod records;
pub mod rollout;
pub mod trials;
pub mod views;

pub use digest::{Digest, NotADigest};
pub use edition::{Edition, Paper, inventory};
pub use model::{Change, Changed, HostChange, Model};
pub use orders::{Batch, Refusal};
