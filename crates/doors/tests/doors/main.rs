//! The doors and the tools on this machine's own kernel, with nothing denied but what routes deny: all in namespaces of
//! the tests' own.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails, its functions as well")]

mod inward;
mod matrix;
mod namespace;
mod race;
mod tools;
