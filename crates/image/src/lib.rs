//! Turns the rules of one host into the flat tables that the kernel reads, and checks such tables.
//!
//! Pure: no I/O, no clock, the same rules always give the same bytes. [`compile`] is the fast way from rules to
//! verdicts and [`evaluate`] the slow, obvious one; they are compared on random rules and flows, and neither knows the
//! other. [`check`] guards a slot of the kernel before an image is put in force: whatever bytes it accepts,
//! [`verdict::decide`] reads without meeting damage.

mod addresses;
mod anew;
mod assembly;
mod budget;
mod check;
mod classes;
mod compile;
mod ends;
mod evaluate;
mod facets;
mod image;
mod lines;
mod matrix;
mod origin;
mod patch;
mod ports;
mod rules;
mod trie;

pub use addresses::AddressSet;
pub use anew::Anew;
pub use budget::{Budget, Invalid};
pub use check::{Damage, check};
pub use compile::{Changed, CompileError, compile};
pub use evaluate::evaluate;
pub use image::{At, Image, reseal};
pub use lines::Chunk;
pub use rules::{Mode, Ports, Rule, RuleSet, Service, SetIndex, SubjectTest};
