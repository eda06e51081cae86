//! `fwnet status`: what the agent enforces, and where.

use std::{fmt::Write as _, process::ExitCode};

use clap::Args;
use serde_json::json;

use crate::{
    agent::{centre::Fleet, revoking::Revoked},
    answer,
    api::{
        Reached,
        routes::status::{Age, Decides, Identity, Status, Vouched},
    },
    before::Before,
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
    if let Some(since) = status.busy_since {
        line("busy", format!("since {since}: what follows is as it was then"));
    }
    match status.stance {
        Decides::Policy => {}
        Decides::Lockdown => {
            line("lockdown", "only the failsafe set is allowed: fwnet resume".into());
        }
    }
    if let Some(policy) = &status.policy {
        line("enforcing", format!("{} (version {})", policy.summary, policy.version));
        let session = policy.session.as_deref().and_then(|it| it.split_ascii_whitespace().next());
        let from = session.map(|address| format!(" from {address}")).unwrap_or_default();
        line("applied", format!("{} by user {}{from}", policy.applied, policy.uid));
        for file in &policy.files {
            line("file", file.clone());
        }
        if let Some(signed) = &policy.signed {
            let Vouched { root, snapshot, timestamp, fresh_until, .. } = signed;
            line("signed", format!("root {root}, snapshot {snapshot}, timestamp {timestamp}"));
            for document in &signed.documents {
                line("document", document.clone());
            }
            line(
                "age",
                match signed.age {
                    Age::Fresh => format!("fresh until {fresh_until}"),
                    Age::Stale => format!("ALARM: stale since {fresh_until}; it stays in force"),
                    Age::TooOldKept => {
                        format!("ALARM: too old, stale since {fresh_until}; kept, as its root says")
                    }
                    Age::TooOldLockdown => {
                        format!(
                            "ALARM: too old, stale since {fresh_until}; lockdown, as its root says"
                        )
                    }
                },
            );
        }
    }
    match (status.confirm_until, status.previous) {
        (Some(until), Some(before)) => {
            line("on trial", format!("until {until}; unless confirmed, version {before} follows"));
        }
        (Some(until), None) => line("on trial", format!("until {until}")),
        (None, Some(before)) => line("before", format!("version {before}: fwnet rollback")),
        (None, None) => {}
    }
    if let Some(end) = status.next_end {
        line("next end", format!("{end}, of a rule or an entry"));
    }
    for (name, text) in status.fleet.iter().flat_map(fleet) {
        line(name, text);
    }
    line("agent", format!("process {}, since {}", status.pid, status.started));
    for attached in &status.attached {
        line("attached", format!("{} to {}", attached.hook, attached.target));
    }
    for gap in &status.not_covered {
        line("not covered", gap.clone());
    }
    for wrong in &status.state {
        line("state", wrong.clone());
    }
    let Revoked { connections, listeners, failures } = status.revoked;
    if connections + listeners + failures > 0 {
        line(
            "revoked",
            format!("{connections} connections, {listeners} listeners ({failures} failures)"),
        );
    }
    if status.revoking {
        line("revoking", "existing connections are being ended".into());
    }
    if status.events_lost > 0 {
        line("lost", format!("{} events nobody was told of", status.events_lost));
    }
    if status.guarded > 0 {
        line(
            "guard",
            format!(
                "{} attempts of other programs to take enforcement away were refused",
                status.guarded
            ),
        );
    }
    let Identity { before, refused, unknown } = status.identity;
    if let Some(Before { known, by_cookie, unknown }) = before {
        let by_cookie = match by_cookie {
            0 => String::new(),
            some => format!(" ({some} by their cookie only)"),
        };
        line(
            "identity",
            format!("sockets from before: {known} known{by_cookie}, {unknown} unknown"),
        );
    }
    if refused > 0 {
        line(
            "identity",
            format!("{refused} stamps had no room on their socket and are kept apart"),
        );
    }
    if unknown > 0 {
        line("identity", format!("{unknown} verdicts about somebody whom nobody knows"));
    }
    for note in &status.notes {
        line("note", note.clone());
    }
    out
}

/// How it stands with the fleet.
fn fleet(fleet: &Fleet) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    lines.push(match (&fleet.connected_to, &fleet.trouble) {
        (Some(endpoint), _) => {
            ("fleet", format!("{} connected to {endpoint} since {}", fleet.host, fleet.since))
        }
        (None, trouble) => {
            let why = trouble.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            ("fleet", format!("{} not connected since {}{why}", fleet.host, fleet.since))
        }
    });
    if let Some(contact) = fleet.last_contact.filter(|_| fleet.connected_to.is_none()) {
        lines.push(("contact", format!("{contact}, the last")));
    }
    // As people tell digests apart.
    let short = |name: &str| name.get(..12).unwrap_or(name).to_owned();
    if let Some(target) = &fleet.target {
        lines.push(("target", format!("{} {}", short(target), fleet.stage.word())));
    }
    if let Some(wanted) = &fleet.wanted {
        lines.push(("wanted", format!("{}, not in force yet", short(wanted))));
    }
    if let Some(failing) = &fleet.failing {
        lines.push(("failing", failing.clone()));
    }
    if let Some(why) = &fleet.refused {
        lines.push(("refused", why.clone()));
    }
    lines
}
