//! `fwnet deny`: addresses and ports that are denied from now on, in front of the policy.

use std::{fmt::Write as _, process::ExitCode, time::Duration};

use ::agent::lists::Target;
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use crate::{
    answer,
    api::{
        Reached,
        routes::{
            apply::ExistingWord,
            deny::{Add, Added, Denied, Entry, Remove, Removed},
        },
    },
    cli::Output,
    duration, session,
};

/// Command line of `fwnet deny`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Deny connecting to and accepting from addresses, and on ports; adding again gives a new end
    Add(AddTyped),
    /// Deny them no longer
    Rm(RmTyped),
    /// List what is denied
    Ls(LsTyped),
}

#[derive(Debug, Args)]
struct AddTyped {
    /// An address, a prefix, or tcp/PORT[-PORT] or udp/PORT[-PORT]; a bare port is one of TCP
    #[arg(required = true, value_name = "ADDR[/LEN]|[tcp/|udp/]PORT[-PORT]")]
    targets: Vec<Target>,
    /// For how long (90s, 2h, 1d); it ends on time even if the agent is dead
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    lasts: Option<Duration>,
    /// Why, for those who ask later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Even if it cuts off the session that asks
    #[arg(long)]
    force: bool,
    /// What happens to existing connections that are newly denied: they stay, unless it is `revoke`
    #[arg(long, value_enum, default_value_t = ExistingWord::Keep)]
    existing: ExistingWord,
    /// Say who would newly be denied, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    reached: Reached,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct RmTyped {
    /// As it was added
    #[arg(required = true, value_name = "ADDR[/LEN]|[tcp/|udp/]PORT[-PORT]")]
    targets: Vec<Target>,
    #[command(flatten)]
    reached: Reached,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct LsTyped {
    #[command(flatten)]
    reached: Reached,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

const PATH: &str = "/v1/deny";

/// Exit code 0 if it was done, 1 if not, or if something that was to be removed was not there.
pub(crate) fn run(typed: Typed) -> anyhow::Result<ExitCode> {
    match typed.verb {
        Verb::Add(typed) => add(typed),
        Verb::Rm(typed) => remove(&typed),
        Verb::Ls(typed) => list(&typed),
    }
}

fn add(typed: AddTyped) -> anyhow::Result<ExitCode> {
    let asked = Add {
        targets: texts(&typed.targets),
        for_ms: typed.lasts.map(milliseconds),
        reason: typed.reason,
        session: session::own(),
        force: typed.force,
        existing: typed.existing,
        dry_run: typed.dry_run,
    };
    let added: Added = typed.reached.client()?.post(PATH, &asked)?;
    match typed.output {
        Output::Json => answer::print_json(&json!(added))?,
        Output::Text => {
            let mut out = String::new();
            let words = match added.applied {
                true => ["denied", "still denied"],
                false => ["would deny", "denies already"],
            };
            for (entry, word) in
                with(&added.added, words[0]).chain(with(&added.refreshed, words[1]))
            {
                writeln!(out, "{word} {}{}", entry.target, until(entry))
                    .expect("writing to a String cannot fail");
            }
            out.push_str(&added.preview.map(|preview| preview.text()).unwrap_or_default());
            out.push_str(&added.revoked.text());
            answer::print(&out)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn remove(typed: &RmTyped) -> anyhow::Result<ExitCode> {
    let asked = Remove { targets: texts(&typed.targets) };
    let removed: Removed = typed.reached.client()?.call(Method::DELETE, PATH, Some(&asked))?;
    match typed.output {
        Output::Json => answer::print_json(&json!(removed))?,
        Output::Text => {
            let lines: String =
                removed.removed.iter().map(|target| format!("removed {target}\n")).collect();
            answer::print(&lines)?;
        }
    }
    for target in &removed.absent {
        eprintln!("fwnet: {target} is not denied by an entry of its own");
    }
    Ok(if removed.absent.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list(typed: &LsTyped) -> anyhow::Result<ExitCode> {
    let denied: Denied = typed.reached.client()?.get(PATH)?;
    match typed.output {
        Output::Json => answer::print_json(&json!(denied))?,
        Output::Text => answer::print(&table(&denied.entries))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn table(entries: &[Entry]) -> String {
    let width = entries.iter().map(|entry| entry.target.len()).max().unwrap_or_default();
    let line = |entry: &Entry| {
        let reason =
            entry.reason.as_ref().map(|reason| format!(", \"{reason}\"")).unwrap_or_default();
        format!(
            "{:<width$} {}, since {:.0}, by user {}{reason}\n",
            entry.target,
            until(entry).trim_start(),
            entry.added,
            entry.uid,
        )
    };
    entries.iter().map(line).collect()
}

fn until(entry: &Entry) -> String {
    entry
        .until
        .map_or_else(|| " until it is removed".to_owned(), |until| format!(" until {until:.0}"))
}

fn with<'a>(
    entries: &'a [Entry],
    word: &'static str,
) -> impl Iterator<Item = (&'a Entry, &'static str)> {
    entries.iter().map(move |entry| (entry, word))
}

fn texts(targets: &[Target]) -> Vec<String> {
    targets.iter().map(ToString::to_string).collect()
}

/// Milliseconds, as the API counts.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
