//! `fwnet apply`: another policy, checked, tried and put in force; unless it is confirmed in time, the one before
//! follows, even if everything else has died.

use std::{
    io::{IsTerminal, Write, stderr, stdin},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use agent::edition::{Text, Written};
use clap::Args;
use jiff::SignedDuration;
use serde_json::json;

use crate::{
    answer::{self, ERROR, FINDING, FINE},
    api::{
        CallError, Client, Reached,
        routes::apply::{Apply, ExistingWord, File, Outcome},
    },
    cli::Output,
    documents::Files,
    rules, session, signing,
};

/// Command line of `fwnet apply`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// A policy (the same as --policy)
    #[arg(value_name = "FILE")]
    more: Vec<PathBuf>,
    #[command(flatten)]
    files: Files,
    /// Signed policies in place of files: what a host that trusts a root takes
    #[arg(long, value_name = "BUNDLE", conflicts_with_all = ["more", "policy"])]
    bundle: Option<PathBuf>,
    /// Which host of the inventory this is (default: the one with this machine's name)
    #[arg(long, value_name = "ID")]
    host: Option<String>,
    /// Go back to the policy before unless `fwnet confirm` comes within this time
    #[arg(long, value_name = "TIME", value_parser = confirm_time)]
    confirm: Option<Duration>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Apply it even if it cuts the failsafe set or the session this is typed in
    #[arg(long)]
    force: bool,
    /// Say what would happen, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// What happens to existing connections that are newly denied
    #[arg(long, value_enum, default_value_t = ExistingWord::ByRule)]
    existing: ExistingWord,
    #[command(flatten)]
    reached: Reached,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Exit code 0 if it is in force, 1 if the agent refuses it or nobody wants it, 2 if the policy or the command line is
/// wrong.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    answer::exit(apply(typed))
}

fn apply(typed: &Typed) -> anyhow::Result<u8> {
    let Some(request) = request(typed)? else { return Ok(ERROR) };
    let client = typed.reached.client()?;
    let asks = !typed.yes && !typed.dry_run && stdin().is_terminal() && stderr().is_terminal();
    if asks {
        let would = Apply { dry_run: true, ..request.clone() };
        let Some(outcome) = send(&client, &would)? else { return Ok(FINDING) };
        eprint!("{}", text(&outcome));
        if !agreed()? {
            eprintln!("fwnet: nothing is changed");
            return Ok(FINDING);
        }
    }
    let Some(outcome) = send(&client, &request)? else { return Ok(FINDING) };
    match typed.output {
        Output::Text => answer::print(&text(&outcome))?,
        Output::Json => answer::print_json(&json!(outcome))?,
    }
    Ok(FINE)
}

/// What the agent is asked; none where a policy has errors, which are then on standard error.
fn request(typed: &Typed) -> anyhow::Result<Option<Apply>> {
    let file = |Text { name, path, text }| File { name, path, text };
    if let Some(bundle) = &typed.bundle {
        // The agent verifies it: what is looked at here would prove nothing.
        let bundle = signing::bundle(bundle)?;
        let inventory = typed.files.inventory()?.map(rules::text).transpose()?;
        return Ok(Some(asked(typed, Vec::new(), inventory.map(file), Some(bundle))));
    }
    let written = rules::written(&typed.files, &typed.more, typed.host.clone())?;
    let checked = rules::checked(&written, jiff::Timestamp::now())?;
    let (Some(documents), Written::Documents { policies, inventory, .. }) = (checked, written)
    else {
        unreachable!("rules of files are documents")
    };
    if documents.checked.diagnostics.has_errors() {
        eprint!("{}", documents.checked.render());
        return Ok(None);
    }
    let policies = policies.into_iter().map(file).collect();
    Ok(Some(asked(typed, policies, inventory.map(file), None)))
}

fn asked(
    typed: &Typed,
    policies: Vec<File>,
    inventory: Option<File>,
    bundle: Option<String>,
) -> Apply {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    Apply {
        policies,
        bundle,
        inventory,
        host: typed.host.clone(),
        confirm_s: typed.confirm.map(seconds),
        force: typed.force,
        dry_run: typed.dry_run,
        existing: typed.existing,
        session: session::own(),
    }
}

/// The outcome, or none where the agent refuses, which is then on standard error.
fn send(client: &Client, apply: &Apply) -> anyhow::Result<Option<Outcome>> {
    match client.post("/v1/apply", apply) {
        Ok(outcome) => Ok(Some(outcome)),
        Err(CallError::Refused(wrong)) => {
            eprint!("{}", wrong.detail.unwrap_or_default());
            eprintln!("fwnet: {}: nothing is changed", wrong.error);
            Ok(None)
        }
        Err(error @ CallError::NoAgent(_)) => {
            eprintln!("fwnet: {error}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn text(outcome: &Outcome) -> String {
    let mut lines = Vec::new();
    if outcome.tests > 0 {
        lines.push(format!("{} tests passed", outcome.tests));
    }
    lines.extend(outcome.notes.iter().map(|note| format!("note: {note}")));
    lines.extend(outcome.cuts.iter().map(|cut| format!("lock-out: {cut}")));
    lines.extend(outcome.preview.text().lines().map(str::to_owned));
    let would = if outcome.applied { "enforcing" } else { "would enforce" };
    lines.push(format!("{would} {} (version {})", outcome.summary, outcome.version));
    lines.extend(outcome.revoked.text().lines().map(str::to_owned));
    if let Some(until) = outcome.confirm_until {
        lines.push(format!(
            "on trial until {until}: fwnet confirm, over a new connection, keeps it; else the policy before follows"
        ));
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn agreed() -> anyhow::Result<bool> {
    eprint!("apply it? [y/N] ");
    stderr().flush()?;
    let mut line = String::new();
    stdin().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// `60s`, `5m`, `1h`, in whole seconds, from one second to one week.
fn confirm_time(text: &str) -> Result<Duration, String> {
    let span: SignedDuration =
        text.parse().map_err(|_error| format!("'{text}' is not a time like 60s, 5m or 1h"))?;
    match Duration::try_from(span) {
        Ok(time) if (1..=604_800).contains(&time.as_secs()) && time.subsec_nanos() == 0 => Ok(time),
        Ok(_) | Err(_) => {
            Err("the time to confirm is from one second to one week, in whole seconds".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_seconds_up_to_a_week() {
        for (text, seconds) in [("60s", 60), ("5m", 300), ("1h", 3600), ("1h 30m", 5400)] {
            assert_eq!(confirm_time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "60", "0s", "-5s", "500ms", "8d", "soon", "169h"] {
            assert!(confirm_time(text).is_err(), "{text}");
        }
    }
}
