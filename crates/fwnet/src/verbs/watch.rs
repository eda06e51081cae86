//! `fwnet watch`: events as they come.

use std::{ops::ControlFlow, process::ExitCode};

use clap::Args;
use serde::Deserialize;
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

/// What came of printing.
pub(super) struct Printed {
    /// Where the next page begins, and whether there may be one already; `None` where pages were not asked for.
    pub(super) next: Option<Next>,
    /// Whether somebody still reads.
    pub(super) read: bool,
}

/// Prints every event of an answer as it comes. A reader that has heard enough ends it.
///
/// # Errors
/// Where there is no answer.
pub(super) fn print_events(
    client: &Client,
    query: &Query,
    output: Output,
) -> anyhow::Result<Printed> {
    let path = format!("/v1/events?{}", serde_urlencoded::to_string(query)?);
    let mut failed = None;
    let mut printed = Printed { next: None, read: true };
    client.lines(&path, |line| {
        if line.is_empty() {
            return ControlFlow::Continue(());
        }
        // No event begins like that.
        if line.starts_with("{\"next\":") {
            printed.next = serde_json::from_str(line).ok();
            return ControlFlow::Continue(());
        }
        let text = match output {
            Output::Json => format!("{line}\n"),
            Output::Text => shown(line),
        };
        match answer::print_live(&text) {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => {
                printed.read = false;
                ControlFlow::Break(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or(Ok(printed), Err)
}

/// The last line of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Next {
    /// The number of the last event that was looked at.
    pub(super) next: u64,
    /// Whether the page was full.
    pub(super) more: bool,
}

fn shown(text: &str) -> String {
    let Ok(object) = serde_json::from_str::<Value>(text) else { return format!("{text}\n") };
    match object.get("missed").and_then(Value::as_u64) {
        Some(missed) => format!("... {missed} events missed: they came faster than this reader\n"),
        None => format!("{}\n", line::timed(&object)),
    }
}
