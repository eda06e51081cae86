//! `fwnet lint`: rules that do nothing, or too much, each with the flow that proves it.

use std::process::ExitCode;

use clap::Args;
use policy::{
    Checked,
    analysis::{self, Fault, Finding, Lint, Witness},
};
use serde_json::{Value, json};

use crate::{
    answer::{exit, finding_if, print, print_json},
    cli::Output,
    documents::Given,
    groups::{self, Asked},
};

/// Command line of `fwnet lint`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    asked: Asked,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Exit code 0 if nothing is found, 1 if something is, 2 if there is no answer.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    exit(lint(typed))
}

fn lint(typed: &Typed) -> anyhow::Result<u8> {
    let documents = typed.given.sound()?;
    let checked = &documents.checked;
    let question = typed.asked.question(&documents);
    let lint = analysis::lint(&checked.policies, &question)?;
    match typed.output {
        Output::Text => print(&text(&lint, checked))?,
        Output::Json => print_json(&to_json(&lint, checked))?,
    }
    Ok(finding_if(!lint.findings.is_empty()))
}

fn text(lint: &Lint, checked: &Checked) -> String {
    let mut out = String::new();
    for finding in &lint.findings {
        let rule = &finding.rule;
        out.push_str(&format!("{}: {}\n", groups::named(rule, checked), said(finding, checked)));
        out.push_str(&format!("    {}\n", rule.text));
        if let Some(witness) = &finding.witness {
            out.push_str(&format!("    {}\n", proof(witness)));
        }
    }
    if lint.findings.is_empty() {
        out.push_str("nothing found\n");
    }
    out.push_str(&groups::unplaced(&lint.unplaced));
    out
}

/// What is wrong.
fn said(finding: &Finding, checked: &Checked) -> String {
    let other = finding.other.as_ref().map(|other| groups::named(other, checked));
    let by = |word: &str| other.as_ref().map_or(String::new(), |other| format!(", {word} {other}"));
    let parts = finding.parts.join(" and ");
    match finding.fault {
        Fault::NeverMatching if parts.is_empty() => "means no flow".to_owned(),
        Fault::NeverMatching => format!("means no flow: nothing is in its {parts}"),
        Fault::Shadowed => format!("decides nothing{}", by("shadowed by")),
        Fault::Redundant => format!("changes nothing{}", by("because of")),
        Fault::OverBroad => format!("allows very much: its {parts} are everything"),
        Fault::Correlated => format!("is partly taken back{}", by("by")),
    }
}

fn proof(witness: &Witness) -> String {
    let Witness { host, inbound, connection, process, decided_by, allowed } = witness;
    let does = if *inbound { "accepts" } else { "connects" };
    let verdict = if *allowed { "allowed" } else { "denied" };
    format!(
        "such as {}, which is {verdict} where {host}{process} {does}, by {decided_by}",
        groups::example(connection)
    )
}

/// The findings, their rules with their places.
fn to_json(lint: &Lint, checked: &Checked) -> Value {
    let mut value = json!(lint);
    if let Some(findings) = value["findings"].as_array_mut() {
        for (shown, finding) in findings.iter_mut().zip(&lint.findings) {
            shown["rule"] = groups::decider_json(&finding.rule, checked);
            let other = finding.other.as_ref();
            shown["other"] = json!(other.map(|other| groups::decider_json(other, checked)));
        }
    }
    value
}
