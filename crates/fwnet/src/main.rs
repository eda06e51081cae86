//! The one binary: every verb of fwnet.
//!
//! Exit codes: 0 done, 1 it did not work (or, for verbs that answer a question, the answer is "no"), 2 the command line
//! is wrong (or, for those, a file is). Errors are one line on standard error that names what is wrong.

mod accepting;
mod agent;
mod answer;
mod api;
mod before;
mod cgroups;
mod cli;
mod connections;
mod documents;
mod duration;
mod enforce;
mod followed;
mod groups;
mod legacy;
mod lockout;
mod names;
mod orders;
mod own;
mod place;
mod process;
mod report;
mod revoke;
mod rules;
mod seeing;
mod session;
mod signing;
mod size;
mod span;
mod trial;
mod tripwire;
mod verbs;

use std::process::ExitCode;

use ::agent::prefix;

fn main() -> ExitCode {
    match cli::parse() {
        Ok(verb) => verbs::run(verb).unwrap_or_else(|error| {
            eprintln!("fwnet: {error:#}");
            ExitCode::FAILURE
        }),
        Err(code) => code,
    }
}
