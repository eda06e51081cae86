//! The controller without its edges: who is enrolled, which policy is current, what concerns whom, who has acknowledged
//! what.
//!
//! Nothing here opens a file or a socket or reads a clock. What happened and the time are arguments, and what follows are
//! effects that a shell carries out: commits to a store, frames to agents, answers to people.
//!
//! A reader's way through: [`records`] is what the store holds, [`Model`] is what was read of it, [`orders`] are what
//! people ask for, which become commits and come back as changes of the model; [`views`] is what concerns whom, [`serving`] is what is
//! said to whom, and [`Controller`] and [`Relay`] are all of it together.

mod controller;
mod digest;
mod edition;
pub mod limits;
mod model;
pub mod orders;
pub mod records;
mod relay;
pub mod rollout;
pub mod serving;
mod sheets;
mod spot;
pub mod trials;
pub mod views;

pub use controller::{
    Controller, FailingHost, Laggard, Lagging, Limits, LoadError, Reached, RolloutStatus, Settings,
    Status,
};
pub use digest::{Digest, NotADigest};
pub use edition::{Edition, Paper, inventory};
pub use model::{Change, Changed, HostChange, Model};
pub use orders::{Batch, Refusal};
pub use relay::Relay;
