//! `fwnet fleet apply`, `confirm`, `rollback`, `history`, `diff`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use fleet::api::orders::{Apply, Canary, Documents, Done, Share, Versions};
use serde_json::json;

use super::reached::Reached;
use crate::{
    answer::{self, FINE, finding_if},
    cli::Output,
    duration, signing,
};

/// Command line of `fwnet fleet apply`.
#[derive(Debug, Args)]
pub(super) struct ApplyTyped {
    /// The bundle, as `fwnet bundle` wrote it
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// Some hosts first: a share (1%), a number (5), or a selector (role=web)
    #[arg(long, value_name = "SHARE|N|SELECTOR", requires = "confirm", value_parser = share)]
    canary: Option<Share>,
    /// They go back by themselves unless `fwnet fleet confirm` comes within this time
    #[arg(long, value_name = "TIME", requires = "canary", value_parser = duration::parse)]
    confirm: Option<Duration>,
    /// What is said about it in the history
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    message: String,
    /// Even if tests in the policy fail
    #[arg(long)]
    force: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

fn share(text: &str) -> Result<Share, String> {
    if let Some(percent) = text.strip_suffix('%') {
        let wrong = || format!("'{text}' is no share such as 1% or 0.25%");
        let (whole, part) = percent.split_once('.').unwrap_or((percent, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || part.len() > 2 || !digits(whole) || !digits(part) {
            return Err(wrong());
        }
        let whole: u32 = whole.parse().map_err(|_odd| wrong())?;
        let part: u32 = format!("{part:0<2}").parse().map_err(|_odd| wrong())?;
        return match whole.checked_mul(100).and_then(|whole| whole.checked_add(part)) {
            Some(hundredths @ 1..=10_000) => Ok(Share::Fraction(hundredths)),
            Some(_) | None => Err(wrong()),
        };
    }
    match text.parse() {
        Ok(0) => Err("no hosts at all is no canary".to_owned()),
        Ok(count) => Ok(Share::Count(count)),
        // The controller reads it, and says what is wrong with it.
        Err(_selector) => Ok(Share::Selector(text.to_owned())),
    }
}

pub(super) fn apply(reached: &Reached, typed: &ApplyTyped) -> anyhow::Result<u8> {
    let canary = typed.canary.clone().zip(typed.confirm);
    let body = Apply {
        bundle: signing::bundle(&typed.bundle)?,
        what: typed.message.clone(),
        canary: canary.map(|(share, confirm)| Canary { share, confirm_s: confirm.as_secs() }),
        force: typed.force,
    };
    let working = answer::Working::new("the controller verifies and tests it");
    let answered = reached.fleet()?.post("/v1/fleet/versions", &body);
    drop(working);
    answered?.then(|done: Done| told(&done, typed.output))
}

fn told(done: &Done, output: Output) -> anyhow::Result<u8> {
    if output == Output::Json {
        answer::print_json(&json!(done))?;
        return Ok(FINE);
    }
    let mut text = match &done.rollout {
        Some(tried) if tried.state == "canary" => format!(
            "version {} is tried until {}: fwnet fleet confirm gives it to everybody, fwnet fleet rollback ends it\n",
            tried.to, tried.confirm_until
        ),
        Some(tried) if tried.state == "halted" && tried.to > done.current => {
            format!("version {} was halted: {}\n", tried.to, tried.why)
        }
        Some(_) | None => String::new(),
    };
    text.push_str(&match done.current {
        0 => "no version is current\n".to_owned(),
        version => format!("version {version} is current\n"),
    });
    answer::print(&text)?;
    Ok(FINE)
}

/// A command line that says how to print and nothing else.
#[derive(Debug, Args)]
pub(super) struct PlainTyped {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) fn confirm(reached: &Reached, typed: &PlainTyped) -> anyhow::Result<u8> {
    let done = reached.fleet()?.post("/v1/fleet/confirm", &());
    done?.then(|done: Done| told(&done, typed.output))
}

pub(super) fn rollback(reached: &Reached, typed: &PlainTyped) -> anyhow::Result<u8> {
    let done = reached.fleet()?.post("/v1/fleet/rollback", &());
    done?.then(|done: Done| told(&done, typed.output))
}

pub(super) fn history(reached: &Reached, typed: &PlainTyped) -> anyhow::Result<u8> {
    reached.fleet()?.get("/v1/fleet/versions")?.then(|found: Versions| {
        if typed.output == Output::Json {
            answer::print_json(&json!(found))?;
            return Ok(FINE);
        }
        let lines = found.versions.iter().rev().map(|version| {
            let state = match (version.current, version.tried) {
                (_, true) => "  (being tried)",
                (true, false) => "  (current)",
                (false, false) => "",
            };
            let what = if version.what.is_empty() { "" } else { "  " };
            let gone = if version.documents { "" } else { "  (documents not kept)" };
            format!(
                "{:>5}  {}  {}  snapshot {}{state}{gone}{what}{}\n",
                version.version, version.at, version.by, version.snapshot, version.what
            )
        });
        answer::print(&lines.collect::<String>())?;
        Ok(FINE)
    })
}

/// Command line of `fwnet fleet diff`.
#[derive(Debug, Args)]
pub(super) struct DiffTyped {
    /// The version to begin with
    #[arg(value_name = "N")]
    from: u64,
    /// The version to compare it with
    #[arg(value_name = "M")]
    to: u64,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Exit code 0 if they are the same, 1 if not.
pub(super) fn diff(reached: &Reached, typed: &DiffTyped) -> anyhow::Result<u8> {
    let fleet = reached.fleet()?;
    let of = |version: u64| fleet.get::<Documents>(&format!("/v1/fleet/versions/{version}"));
    let from = of(typed.from)?;
    from.then(|from| {
        of(typed.to)?.then(|to| {
            let changes = changes(&from, &to);
            match typed.output {
                Output::Json => answer::print_json(&json!(changes))?,
                Output::Text => answer::print(&text_of(&changes))?,
            }
            Ok(finding_if(!changes.is_empty()))
        })
    })
}

/// What became of a document.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
struct Change {
    document: String,
    from: Option<u64>,
    to: Option<u64>,
    /// Lines that are gone.
    removed: Vec<String>,
    /// Lines that are new.
    added: Vec<String>,
}

fn changes(from: &Documents, to: &Documents) -> Vec<Change> {
    let mut names: Vec<&str> =
        from.documents.iter().chain(&to.documents).map(|it| it.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut changes = Vec::new();
    for name in names {
        let of =
            |documents: &Documents| documents.documents.iter().find(|it| it.name == name).cloned();
        let (before, after) = (of(from), of(to));
        let lines = |document: &Option<fleet::api::orders::Document>| -> Vec<String> {
            let text = document.as_ref().map_or("", |it| it.policy.as_str());
            text.lines().map(str::to_owned).collect()
        };
        let (old, new) = (lines(&before), lines(&after));
        if before.is_some() == after.is_some() && old == new {
            continue;
        }
        let (removed, added) = differing(old, new);
        changes.push(Change {
            document: name.to_owned(),
            from: before.map(|it| it.version),
            to: after.map(|it| it.version),
            removed,
            added,
        });
    }
    changes
}

/// Lines of one that the other lacks. The order of rules has no meaning (docs/policy.md), and neither has it here.
fn differing(mut old: Vec<String>, mut new: Vec<String>) -> (Vec<String>, Vec<String>) {
    old.retain(|line| match new.iter().position(|other| other == line) {
        Some(at) => {
            new.remove(at);
            false
        }
        None => true,
    });
    (old, new)
}

fn text_of(changes: &[Change]) -> String {
    let mut text = String::new();
    for Change { document, from, to, removed, added } in changes {
        let of = |version: &Option<u64>| version.map_or("none".to_owned(), |it| it.to_string());
        text.push_str(&format!("{document}: version {} to {}\n", of(from), of(to)));
        text.extend(removed.iter().map(|line| format!("- {line}\n")));
        text.extend(added.iter().map(|line| format!("+ {line}\n")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read() {
        assert_eq!(share("1%"), Ok(Share::Fraction(100)));
        assert_eq!(share("0.25%"), Ok(Share::Fraction(25)));
        assert_eq!(share("100%"), Ok(Share::Fraction(10_000)));
        assert_eq!(share("5"), Ok(Share::Count(5)));
        assert_eq!(share("role=web"), Ok(Share::Selector("role=web".to_owned())));
        for odd in ["0%", "0", "101%", "%", "-1%", "1.234%", "x%"] {
            assert!(share(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn lines_that_moved_are_no_difference() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (removed, added) = differing(lines("a\nb\nc\nc"), lines("c\nb\nd\na"));
        assert_eq!((removed, added), (lines("c"), lines("d")));
    }
}
