//! `fwnet events`: events that the agent remembers.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use super::watch::print_events;
use crate::{
    api::{Reached, routes::events::Query},
    cli::Output,
    report::Format,
    seeing::filter::Filter,
    span::Ago,
};

/// Command line of `fwnet events`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// How far back (`10m`, `2h 30m`, `7d`); the agent remembers the last 4096 events
    #[arg(long, value_name = "TIME", default_value = "10m")]
    since: Ago,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    filter: Filter,
    /// Whose field names JSON has
    #[arg(long, value_enum, default_value_t = Format::Ecs)]
    format: Format,
    #[command(flatten)]
    reached: Reached,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Exit code 0 whether there were events or not.
pub(crate) fn run(typed: &Typed) -> anyhow::Result<ExitCode> {
    let query = Query {
        since: Some(typed.since.before(Timestamp::now())?),
        follow: typed.follow,
        ..Query::new(typed.filter.clone(), typed.format)
    };
    print_events(&typed.reached.client()?, &query, typed.output)?;
    Ok(ExitCode::SUCCESS)
}
