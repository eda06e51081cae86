//! `fwnet rules`: the rules in force, how often each decided, and which never do.

use std::{fmt::Write as _, process::ExitCode};

use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;

use crate::{
    answer,
    api::{Reached, routes::rules::CountedRule},
    cli::Output,
    span::Ago,
};

/// Command line of `fwnet rules`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// Only rules that have been counted for this long without deciding anything (`30d`)
    #[arg(long, value_name = "TIME")]
    unused: Option<Ago>,
    #[command(flatten)]
    reached: Reached,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Exit code 0; with --unused 1 if there is such a rule.
pub(crate) fn run(typed: &Typed) -> anyhow::Result<ExitCode> {
    let mut rules: Vec<CountedRule> = typed.reached.client()?.get("/v1/rules")?;
    if let Some(unused) = typed.unused {
        let since = unused.before(Timestamp::now())?;
        rules.retain(|rule| rule.since <= since && rule.last_hit.is_none_or(|last| last < since));
    }
    match typed.output {
        Output::Json => answer::print_json(&json!(rules))?,
        Output::Text => answer::print(&text(&rules))?,
    }
    let found = typed.unused.is_some() && !rules.is_empty();
    Ok(ExitCode::from(answer::finding_if(found)))
}

fn text(rules: &[CountedRule]) -> String {
    let mut out =
        format!("{:>12} {:>10}  {:<19}  {:<3}  RULE\n", "HITS", "WOULD", "LAST HIT", "WAY");
    for rule in rules {
        let last = rule.last_hit.map_or_else(
            || "never".to_owned(),
            |last| last.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        );
        let said = rule.text.as_deref().unwrap_or(&rule.verdict);
        let audit = if rule.mode == "audit" { " (audit)" } else { "" };
        let (hits, would) = (rule.hits, rule.would);
        let (way, id) = (&rule.direction, &rule.id);
        writeln!(out, "{hits:>12} {would:>10}  {last:<19}  {way:<3}  {id}: {said}{audit}")
            .expect("writing to a String cannot fail");
    }
    out
}
