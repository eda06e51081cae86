//! The agent and the verbs that talk to it, each test with an agent of its own: state, socket and BPF directory in a
//! temporary directory, attached to a cgroup and a network namespace of the test's own.
//!
//! Run as root; nothing of the machine itself is judged.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails, its functions as well")]

mod addresses;
mod api;
mod apply;
mod assigned;
mod busy;
mod controller;
mod everywhere;
mod figures;
mod fixture;
mod identity;
mod life;
mod lists;
mod lockdown;
mod persistence;
mod revoking;
mod seeing;
#[path = "../acceptance/shared.rs"]
#[expect(dead_code, reason = "the tests of the acceptance list use the rest")]
mod shared;
mod signed;
mod state;
mod storm;
