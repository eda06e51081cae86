//! `fwnet status`: what the agent enforces, and where.

use std::{fmt::Write as _, process::ExitCode};

use clap::Args;
use serde_json::json;

use crate::{
    answer,
    api::{Reached, routes::status::Status},
    cli::Output,
};

/// Command line of `fwnet status`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    #[command(flatten)]
    reached: Reached,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Exit code 0 if an agent enforces, 1 if none answers.
pub(crate) fn run(typed: &Typed) -> anyhow::Result<ExitCode> {
    let status: Status = typed.reached.client()?.get("/v1/status")?;
    print(&status, typed.output)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a status.
///
/// # Errors
/// Where standard output does not take it.
pub(crate) fn print(status: &Status, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Text => answer::print(&text(status)),
        Output::Json => answer::print_json(&json!(status)),
    }
}

fn text(status: &Status) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        writeln!(out, "{name:<11} {text}").expect("writing to a String cannot fail");
    };
    let policy = &status.policy;
    line("enforcing", format!("{} (version {})", policy.summary, policy.version));
    line("applied", format!("{} by user {}", policy.applied, policy.uid));
    for file in &policy.files {
        line("file", file.clone());
    }
    line("agent", format!("process {}, since {}", status.pid, status.started));
    for attached in &status.attached {
        line("attached", format!("{} to {}", attached.hook, attached.target));
    }
    for gap in &status.not_covered {
        line("not covered", gap.clone());
    }
    for note in &status.notes {
        line("note", note.clone());
    }
    out
}
