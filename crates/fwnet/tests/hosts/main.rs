//! A fleet over a real network: hosts of namespaces and cgroups around a switch, each with its own agent, controllers
//! that are processes on hosts of their own, and connections that are really made.
//!
//! Run as root; nothing of the machine itself is judged.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails, its functions as well")]

mod canary;
mod cluster;
mod fixture;
mod one;
mod relay;
mod renewing;
#[path = "../acceptance/shared.rs"]
#[expect(dead_code, reason = "the tests of the acceptance list use the rest")]
mod shared;
