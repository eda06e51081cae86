//! `fwnet explain`: what happens to one connection, at each end, by which rule, and what would change it.

use std::{fmt::Write as _, process::ExitCode};

use clap::Args;
use policy::{EndAccount, Explanation, Matched, WhatIf};
use serde_json::{Value, json};

use crate::{
    answer::{exit, finding_if, print, print_json},
    cli::Output,
    documents::Given,
};

/// Command line of `fwnet explain`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// The connection: 'web-1[user=www-data] -> db-1 : tcp/5432'. Each end is a host of the inventory or one address
    #[arg(value_name = "FLOW")]
    flow: String,
    #[command(flatten)]
    given: Given,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Exit code 0 if the connection is allowed, 1 if it is denied, 2 if there is no answer.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    exit(explain(typed))
}

fn explain(typed: &Typed) -> anyhow::Result<u8> {
    let documents = typed.given.sound()?;
    let explained =
        policy::explain(&documents.checked, &documents.inventory, documents.now, &typed.flow)?;
    match typed.output {
        Output::Text => print(&text(&explained))?,
        Output::Json => print_json(&to_json(&explained))?,
    }
    Ok(finding_if(explained.verdict == "deny"))
}

/// The explanation with the deciding rule and its place beside each verdict, where scripts look first.
fn to_json(explained: &Explanation) -> Value {
    let mut value = json!(explained);
    let beside = |verdict: &mut Value, decided_by: &Matched| {
        verdict["rule"] = json!(decided_by.rule);
        verdict["file"] = json!(decided_by.file);
        verdict["line"] = json!(decided_by.line);
    };
    // The end that denies; if none does, the one that accepts has the last word.
    let denying = explained.ends.iter().find(|end| end.verdict == "deny");
    if let Some(end) = denying.or(explained.ends.last()) {
        beside(&mut value, &end.decided_by);
    }
    if let Some(ends) = value["ends"].as_array_mut() {
        for (shown, end) in ends.iter_mut().zip(&explained.ends) {
            beside(shown, &end.decided_by);
        }
    }
    value
}

fn text(explained: &Explanation) -> String {
    let Explanation { from, to, service, verdict, would, ends } = explained;
    let mut out = format!("{verdict}  {from} -> {to} : {service}\n");
    if would != verdict {
        push(&mut out, format_args!("{would} if the rules in audit were enforced\n"));
    }
    for end in ends {
        end_text(&mut out, end);
    }
    out
}

fn end_text(out: &mut String, end: &EndAccount) {
    let does = if end.direction == "out" { "connects" } else { "accepts" };
    let EndAccount { host, verdict, decided_by, .. } = end;
    push(out, format_args!("\n{host} {does}: {verdict}, by {}\n", named(decided_by)));
    for tier in &end.tiers {
        let mark = if tier.decides { "*" } else { " " };
        if tier.rules.is_empty() {
            push(out, format_args!(" {mark} {:<9} no rule speaks of it\n", tier.tier));
        }
        for (at, rule) in tier.rules.iter().enumerate() {
            let (mark, name) = if at == 0 { (mark, tier.tier) } else { (" ", "") };
            push(out, format_args!(" {mark} {name:<9} {}\n", described(rule)));
        }
    }
    if end.would != end.verdict {
        let by = named(&end.would_be_decided_by);
        push(out, format_args!("   with the rules in audit: {}, by {by}\n", end.would));
    }
    for change in &end.what_if {
        push(out, format_args!("   {}\n", changed(change)));
    }
}

/// `rule` (file:line)
fn named(rule: &Matched) -> String {
    match (&rule.file, rule.line) {
        (Some(file), Some(line)) => format!("{} ({file}:{line})", rule.rule),
        _ => rule.rule.clone(),
    }
}

/// What a rule says, with its place and why it exists.
fn described(rule: &Matched) -> String {
    let audit = if rule.audit { " (in audit: counted only)" } else { "" };
    let place = match (&rule.file, rule.line) {
        (Some(file), Some(line)) => format!("{file}:{line}: "),
        _ => String::new(),
    };
    format!("{:<5} {place}{}{audit}", rule.verdict, rule.text)
}

fn changed(change: &WhatIf) -> String {
    match change {
        WhatIf::Without { rules, verdict, by } => {
            format!("without {}: {verdict}, by {by}", rules.join(" and "))
        }
        WhatIf::With { rule, tier, verdict } => {
            format!("with `{rule}` in tier {tier} or above: {verdict}")
        }
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String cannot fail");
}
