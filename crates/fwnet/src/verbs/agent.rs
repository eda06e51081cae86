//! `fwnet agent`: the agent in the foreground, as a service manager runs it.

use std::process::ExitCode;

use clap::Args;
use rustix::process::setsid;

use crate::agent::{self, paths::Paths};

/// Command line of `fwnet agent`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    #[command(flatten)]
    paths: Paths,
    /// Leave the session of the terminal (what `fwnet up` does without a service manager)
    #[arg(long, hide = true)]
    detached: bool,
}

/// Runs until SIGTERM, SIGINT or `fwnet down`.
pub(crate) fn run(typed: Typed) -> anyhow::Result<ExitCode> {
    if typed.detached {
        setsid()?;
    }
    agent::run(typed.paths)?;
    Ok(ExitCode::SUCCESS)
}
