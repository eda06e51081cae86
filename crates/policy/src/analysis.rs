//! Answers to "who may reach what, and why", over all flows at once: what changes from one set of policies to another
//! ([`diff`]), which groups may reach which ([`matrix`]), who can reach a port ([`who_can_reach`]), and which rules do
//! nothing or too much ([`lint`]).
//!
//! Exact, by algebra over classes: hosts, addresses, services and processes that no statement tells apart are looked at
//! once, and nothing is sampled. A flow is possible if both ends that are hosts of the inventory allow it: the host that
//! connects when it connects, the host that accepts when it accepts. Ends outside the inventory are nobody's to judge.
//! Addresses are those of the inventory; the answers are about what is enforced, or would be with the rules in audit.
//! What does not fit into the [`limits`] is refused.
//!
//! Not looked at: flows from a loopback address to another address of the same host, port 0, and names of users that are
//! one user on some host (see [`Processes`]).

mod answer;
mod bits;
mod clause;
mod diff;
mod entries;
mod families;
mod flows;
mod groups;
pub mod limits;
mod lint;
mod matrix;
mod places;
mod processes;
mod reach;
mod service_text;
mod services;
mod side;
mod spell;
mod symbols;
mod world;

use jiff::Timestamp;

pub use crate::symbols::Symbols;
pub use answer::{
    AnalysisError, Basis, Connection, Decider, Diff, Fault, Finding, Group, GroupFlows, Lint,
    Matrix, Part, Processes, Reach, Relation, Source, Witness,
};
pub use diff::diff;
pub use lint::lint;
pub use matrix::matrix;
pub use reach::who_can_reach;
pub use service_text::{ServiceTextError, services};

use crate::inventory::Inventory;

/// What an analysis knows beside the policies.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who there is. If it has no hosts, there is one host, whoever enforces the policies, at addresses that are not
    /// known.
    pub inventory: &'a Inventory,
    /// Rules that ended before it are left out.
    pub now: Timestamp,
    /// What is enforced, or what would be.
    pub basis: Basis,
}
