//! What the 2015 module did and what fwnet does instead, line by line (docs/acceptance.md), against the real thing:
//! `fwnet run` enforcing in namespaces and cgroups of the tests' own.
//!
//! A test is named after the line it answers. Run as root; nothing of the machine itself is judged.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails, its functions as well")]

mod accepting;
mod command_line;
mod connecting;
mod doors_in;
mod doors_out;
mod fastopen;
mod foreign;
mod loading;
mod log;
mod mechanism;
mod multipath;
mod race;
mod shared;
mod suite;
mod table;
mod tools;
mod translated;
mod untouched;
