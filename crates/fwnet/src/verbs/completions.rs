//! `fwnet completions`: what a shell needs to complete fwnet's command line.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use crate::{answer, cli};

/// Command line of `fwnet completions`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// The shell that is to read it: `source <(fwnet completions bash)`
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(typed: &Typed) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(typed.shell, &mut cli::command(), "fwnet", &mut script);
    answer::print(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}
