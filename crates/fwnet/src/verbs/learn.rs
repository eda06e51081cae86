//! `fwnet learn`: drafts a policy from the flows that an agent saw.

use std::{io::IsTerminal, ops::ControlFlow, process::ExitCode, thread, time::Instant};

use ::agent::{flows::Record, learn::learn};
use anyhow::bail;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

use crate::{
    answer,
    api::{Client, Reached, routes::flows::Query},
    report::host_name,
    span::Ago,
};

/// Command line of `fwnet learn`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// Watch for this long first (`10m`)
    #[arg(long = "for", value_name = "TIME", required_unless_present = "since")]
    watch: Option<Ago>,
    /// Draft from what was recorded this long already (`7d`), without or before --for
    #[arg(long, value_name = "TIME")]
    since: Option<Ago>,
    #[command(flatten)]
    reached: Reached,
}

/// How often the progress is shown.
const SHOW: std::time::Duration = std::time::Duration::from_millis(500);

/// Prints the draft.
pub(crate) fn run(typed: &Typed) -> anyhow::Result<ExitCode> {
    let client = typed.reached.client()?;
    let now = Timestamp::now();
    let since = typed.since.map_or(Ok(now), |since| since.before(now))?;
    // An agent that records nothing is better found out before the wait than after it.
    recorded(&client, now)?;
    if let Some(span) = typed.watch {
        wait(span);
    }
    let records = recorded(&client, since)?;
    if records.is_empty() {
        bail!("no flow was seen since {since}, so there is nothing to draft from");
    }
    answer::print(&learn(&records, &host_name()))?;
    Ok(ExitCode::SUCCESS)
}

/// Flows that were recorded since then, those among them that the kernel has only just counted.
///
/// # Errors
/// Where the agent does not answer, or records no flows.
pub(super) fn recorded(client: &Client, since: Timestamp) -> anyhow::Result<Vec<Record>> {
    let query = serde_urlencoded::to_string(Query { since, fresh: true })?;
    let (mut records, mut failed) = (Vec::new(), None);
    client.lines(&format!("/v1/flows?{query}"), |line| match serde_json::from_str(line) {
        Ok(record) => {
            records.push(record);
            ControlFlow::Continue(())
        }
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(records), |error| Err(error.into()))
}

fn wait(span: Ago) {
    let begun = Instant::now();
    let total = span.duration();
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::new(total.as_secs())
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("watching {bar:40} {elapsed} of {msg}")
        .expect("the template is well-formed");
    bar.set_style(style);
    bar.set_message(format!("{} s", total.as_secs()));
    while let Some(left) = total.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
        bar.set_position(begun.elapsed().as_secs());
        thread::sleep(left.min(SHOW));
    }
    bar.finish_and_clear();
}
