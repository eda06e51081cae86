//! `fwnet fleet`: what an operator does with a fleet, at any of its controllers.

mod init;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::answer;

/// Command line of `fwnet fleet`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a fleet: its authority, an operator's certificate, and keys for signing policy
    Init(init::Typed),
}

/// Exit code 0 if it is done, 1 if the fleet refuses it or the answer is "not yet", 2 if the command line or a file is
/// wrong or no controller answers.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    answer::exit(match &typed.verb {
        Verb::Init(typed) => init::run(typed),
    })
}
