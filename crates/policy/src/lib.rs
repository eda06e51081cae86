//! The policy language: parse, check, compile, explain, and read_aloud, its slow twin.
//!
//! Meaning only: no I/O, no clock, no randomness. Everything takes bytes, trees and moments as arguments. A reader's way
//! through: [`syntax`] is what a document says, [`parse`](parse()) reads it, [`Diagnostics`] is what is wrong with it.

mod diagnostic;
pub mod inventory;
mod lex;
pub mod limits;
mod nearest;
mod parse;
mod span;
pub mod syntax;

pub use diagnostic::{Code, Diagnostic, Diagnostics, Related, Severity, SourceIndex, render};
pub use inventory::{Host, HostIndex, Inventory, InventoryError, InventoryFault};
pub use parse::{Parsed, parse};
pub use span::{LineIndex, Position, Span};
