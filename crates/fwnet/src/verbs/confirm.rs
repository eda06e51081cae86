//! `fwnet confirm` and `fwnet rollback`: keep the policy that is on trial, or go back.

use std::process::ExitCode;

use clap::Args;

use super::status;
use crate::{
    api::{
        Reached,
        routes::{status::Status, trial::By},
    },
    cli::Output,
    session,
};

/// Command line of `fwnet confirm` and `fwnet rollback`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    #[command(flatten)]
    reached: Reached,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Keeps the policy.
pub(crate) fn confirm(typed: &Typed) -> anyhow::Result<ExitCode> {
    ask(typed, "/v1/confirm")
}

/// Goes back.
pub(crate) fn rollback(typed: &Typed) -> anyhow::Result<ExitCode> {
    ask(typed, "/v1/rollback")
}

fn ask(typed: &Typed, path: &str) -> anyhow::Result<ExitCode> {
    let client = typed.reached.client()?;
    let status: Status = client.post(path, &By { session: session::own() })?;
    status::print(&status, typed.output)?;
    Ok(ExitCode::SUCCESS)
}
