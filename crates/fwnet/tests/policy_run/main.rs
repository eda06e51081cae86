//! `fwnet run --policy`: what a policy file says is what the kernel does, tried with real sockets in namespaces and
//! cgroups of the tests' own.
//!
//! Hosts of a star are 10.7.0.1, .2 ... and fd07::1, ::2 ...; the first one enforces. Run as root; nothing of the machine
//! itself is judged.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails, its functions as well")]

mod answers;
mod audit;
mod document;
mod processes;
mod refusals;
mod reload;
#[path = "../acceptance/shared.rs"]
#[expect(dead_code, reason = "the tests of the acceptance list use the rest")]
mod shared;
mod tripwire;
