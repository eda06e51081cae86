//! What decides a flow.
//!
//! Meaning and nothing else: no I/O, no clock of its own, no allocation, no `unsafe`. The kernel programs (crate `ebpf`), the
//! explanation, the preview and the property tests all call the one [`decide`]; what differs is only where the
//! [`Tables`] live. Every type that the kernel and user space share is defined here, once, with its size asserted.
//!
//! A reader's way through: [`Address`] and [`Flow`] say what is judged, [`layout`] says what the compiled tables look
//! like, [`decide`] reads them, [`Decision`] is the answer, [`abi`] is what crosses between kernel and user space.
#![no_std]
#![deny(clippy::indexing_slicing, clippy::unwrap_used)]

pub mod abi;
mod address;
mod decide;
mod decision;
mod flow;
pub mod layout;
pub mod limits;
mod tables;

pub use address::Address;
pub use decide::{
    address_class, closed, closed_toward, decide, decide_toward, image_flags, key_class,
    rule_flags, succession,
};
pub use decision::{Cell, Decision, Judgement, RuleNumber, Verdict};
pub use flow::{Direction, Endpoint, Flow, Protocol, Subject};
pub use tables::{At, Line, Tables};
