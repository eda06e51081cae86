//! `fwnet watch`: events as they come.

use std::{ops::ControlFlow, process::ExitCode};

use clap::Args;
use serde_json::Value;

use crate::{
    answer,
    api::{Client, Reached, routes::events::Query},
    cli::Output,
    report::Format,
    seeing::{filter::Filter, line},
};

/// Command line of `fwnet watch`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
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

/// Until somebody interrupts it, nobody reads any more, or the agent ends.
pub(crate) fn run(typed: &Typed) -> anyhow::Result<ExitCode> {
    let query = Query { follow: true, ..Query::new(typed.filter.clone(), typed.format) };
    print_events(&typed.reached.client()?, &query, typed.output)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints every event of an answer as it comes. A reader that has heard enough ends it.
///
/// # Errors
/// Where there is no answer.
pub(super) fn print_events(client: &Client, query: &Query, output: Output) -> anyhow::Result<()> {
    let path = format!("/v1/events?{}", serde_urlencoded::to_string(query)?);
    let mut failed = None;
    client.lines(&path, |line| {
        if line.is_empty() {
            return ControlFlow::Continue(());
        }
        let text = match output {
            Output::Json => format!("{line}\n"),
            Output::Text => shown(line),
        };
        match answer::print_live(&text) {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => ControlFlow::Break(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or(Ok(()), Err)
}

fn shown(text: &str) -> String {
    let Ok(object) = serde_json::from_str::<Value>(text) else { return format!("{text}\n") };
    match object.get("missed").and_then(Value::as_u64) {
        Some(missed) => format!("... {missed} events missed: they came faster than this reader\n"),
        None => format!("{}\n", line::timed(&object)),
    }
}
