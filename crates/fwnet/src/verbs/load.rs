//! `fwnet load`: what stands on disk is put in force and stays, without an agent: at boot, before there is a network.

use std::process::ExitCode;

use clap::Args;

use crate::agent::{self, Wanted, paths::Paths};

/// Command line of `fwnet load`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// Only say whether there is anything to put in force: exit code 1 if not
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    paths: Paths,
}

/// Returns once it is in force. With nothing to put in force there is nothing to do, which is no error.
pub(crate) fn run(typed: Typed) -> anyhow::Result<ExitCode> {
    match agent::wanted(&typed.paths.state)? {
        Wanted::Nothing(why) => {
            eprintln!("fwnet: nothing is put in force: {why}");
            Ok(if typed.check { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        Wanted::Something if typed.check => Ok(ExitCode::SUCCESS),
        Wanted::Something => {
            agent::load(typed.paths)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
