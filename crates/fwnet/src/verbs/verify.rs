//! `fwnet verify`: what a host would say of a bundle, offline, by the code that the host runs.

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use anyhow::bail;
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use wire::{Accepted, Moment, Stale, Then, Trust, limits};

use crate::{agent::kept, answer, cli::Output, documents::read_up_to, signing};

/// Command line of `fwnet verify`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// The bundle (`-` is standard input)
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// The signed root to trust, brought on a way that is trusted
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// A host's state directory: its root, and the newest versions it has seen
    #[arg(long, value_name = "DIR", conflicts_with = "root")]
    state: Option<PathBuf>,
    /// As the host of this name would (without --host and --audience, for whom it is does not matter)
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// As a host of this audience would (repeatable)
    #[arg(long, value_name = "NAME")]
    audience: Vec<String>,
    /// At this moment (default: now)
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Exit code 0 if a host would take it, 1 if not, 2 if a file cannot be read.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    answer::exit(verify(typed))
}

fn verify(typed: &Typed) -> anyhow::Result<u8> {
    let trust = trust(typed)?;
    let bundle = read_up_to(&typed.bundle, limits::BUNDLE_BYTES_MAX)?;
    let names: Vec<String> = typed.host.iter().chain(&typed.audience).cloned().collect();
    let now = typed.at.unwrap_or_else(Timestamp::now);
    let moment = Moment { now, names: (!names.is_empty()).then_some(&names), host: None };
    let (text, value, code) = match trust.verify(&bundle, moment) {
        Ok(accepted) => (text(&accepted, now), value(&accepted), answer::FINE),
        Err(error) => (
            format!("refused: {error}\n"),
            json!({"accepted": false, "error": error.to_string()}),
            answer::FINDING,
        ),
    };
    match typed.output {
        Output::Text => answer::print(&text)?,
        Output::Json => answer::print_json(&value)?,
    }
    Ok(code)
}

fn trust(typed: &Typed) -> anyhow::Result<Trust> {
    match (&typed.root, &typed.state) {
        (Some(path), _) => signing::root(path),
        (None, Some(state)) => kept::trust(state),
        (None, None) => bail!("nothing is trusted: --root FILE, or --state DIR of a host"),
    }
}

fn text(accepted: &Accepted, now: Timestamp) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        writeln!(out, "{name:<11} {text}").expect("writing to a String cannot fail");
    };
    let Accepted { root, snapshot, timestamp, .. } = accepted;
    line("accepted", format!("root {root}, snapshot {snapshot}, timestamp {timestamp}"));
    for document in &accepted.documents {
        let under = match document.under.as_slice() {
            [] => String::new(),
            under => format!(", within the scope of {}", under.join(" and ")),
        };
        let (name, version) = (&document.name, document.version);
        line(
            "document",
            format!("{name} (version {version}) by {}{under}", document.signers.join(", ")),
        );
    }
    for other in &accepted.others {
        line("for others", other.clone());
    }
    line("fresh until", format!("{}{}", accepted.freshness.until, then(accepted, now)));
    out
}

/// What follows once it is stale.
fn then(accepted: &Accepted, now: Timestamp) -> String {
    match (accepted.freshness.at(now), accepted.freshness.too_old_at()) {
        (Stale::Fresh | Stale::Stale, None) => ", then stale for as long as it takes".to_owned(),
        (Stale::Fresh | Stale::Stale, Some(end)) => {
            let word = accepted.freshness.max_stale.map_or(Then::Keep, |max| max.then);
            format!(", then stale until {end}, then {}", word_of(word))
        }
        (Stale::TooOld(then), _) => format!(", and too old: {}", word_of(then)),
    }
}

fn word_of(then: Then) -> &'static str {
    match then {
        Then::Keep => "kept with an alarm",
        Then::Lockdown => "lockdown",
    }
}

fn value(accepted: &Accepted) -> Value {
    let documents: Vec<Value> = accepted
        .documents
        .iter()
        .map(|it| {
            json!({"name": it.name, "version": it.version, "signers": it.signers, "under": it.under})
        })
        .collect();
    json!({
        "accepted": true,
        "root": accepted.root,
        "snapshot": accepted.snapshot,
        "timestamp": accepted.timestamp,
        "documents": documents,
        "others": accepted.others,
        "fresh_until": accepted.freshness.until,
        "max_stale": accepted.freshness.max_stale,
        "too_old_at": accepted.freshness.too_old_at(),
    })
}
