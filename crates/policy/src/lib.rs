//! The policy language: parse, check, compile, explain, and read_aloud, its slow twin.
//!
//! Meaning only: no I/O, no clock, no randomness. Everything takes bytes, trees and moments as arguments. A reader's way
//! through: [`syntax`] is what a document says, [`parse`](parse()) reads it, [`Diagnostics`] is what is wrong with it.

pub mod analysis;
mod check;
mod compile;
mod concerns;
mod diagnostic;
mod explain;
mod facts;
mod format;
mod import;
mod incremental;
pub mod inventory;
mod json;
mod lex;
pub mod limits;
mod nearest;
mod parse;
mod policy;
mod read_aloud;
mod resolve;
mod roll;
mod span;
mod symbols;
pub mod syntax;
mod trial;

pub use check::{Checked, Source, check, check_by, read};
pub use compile::{
    CompileError, Compiled, Note, Origin, Stated, compile, host_rules, host_rules_with_notes,
};
pub use concerns::{CONCERNS_BYTES_MAX, Concerned, concerns};
pub use diagnostic::{
    Code, Diagnostic, Diagnostics, Related, Severity, SourceIndex, render, sarif, short,
};
pub use explain::{
    EndAccount, ExplainError, Explanation, Matched, Party, Question, TierAccount, WhatIf, explain,
};
pub use facts::{Facts, Identities, NoIdentities};
pub use format::{format, statement};
pub use import::{Gap, ImportError, Imported, import_network_policies, import_nftables};
pub use incremental::{Change, Compiler, EditError, Enforcer};
pub use inventory::{Host, HostIndex, Inventory, InventoryError, InventoryFault};
pub use json::{FromJson, from_json, json_schema, to_json};
pub use parse::{Parsed, parse};
pub use policy::{Policy, PolicyRule};
pub use read_aloud::{Said, Spoken, read_aloud};
pub use roll::Roll;
pub use span::{LineIndex, Position, Span};
pub use syntax::{Document, Mode, Rule, Tier, Way};
pub use trial::{
    FailedFlow, IMAGES_MAX, JUDGEMENTS_MAX, Own, PROCESSES_MAX, TestResult, TrialError, run_tests,
    run_tests_at,
};
