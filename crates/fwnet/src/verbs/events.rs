//! `fwnet events`: events that the agent remembers.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;

use super::watch::{Next, Printed, print_events};
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
    /// How far back (`10m`, `2h 30m`, `7d`), as far as the agent keeps events
    #[arg(long, value_name = "TIME", default_value = "10m")]
    since: Ago,
    /// Go on with what comes
    #[arg(short, long, conflicts_with = "limit")]
    follow: bool,
    /// Print no more than so many, the oldest first, and say where to go on
    #[arg(short = 'n', long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Go on after the event with this number, which the page before said
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
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

/// Events that are asked for at once.
const PAGE: u64 = 1_000;

/// Exit code 0 whether there were events or not.
pub(crate) fn run(typed: &Typed) -> anyhow::Result<ExitCode> {
    let client = typed.reached.client()?;
    let mut query = Query {
        since: Some(typed.since.before(Timestamp::now())?),
        after: typed.after,
        limit: Some(typed.limit.unwrap_or(PAGE)),
        ..Query::new(typed.filter.clone(), typed.format)
    };
    loop {
        let Printed { next, read } = print_events(&client, &query, typed.output)?;
        if !read {
            return Ok(ExitCode::SUCCESS);
        }
        let Some(Next { next, more }) = next else { break };
        query.after = Some(next);
        if more && typed.limit.is_some() {
            eprintln!("fwnet: there may be more: --after {next}");
            return Ok(ExitCode::SUCCESS);
        }
        if !more {
            break;
        }
    }
    if typed.follow {
        // What came since the last page is the beginning of what follows.
        let follow = Query { limit: None, follow: true, ..query };
        print_events(&client, &follow, typed.output)?;
    }
    Ok(ExitCode::SUCCESS)
}
