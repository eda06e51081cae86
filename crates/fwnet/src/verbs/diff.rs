//! `fwnet diff A B`: which flows the policy B allows that A does not, and the other way round. Flows, not lines of text.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use policy::analysis::{self, Diff, GroupFlows};
use serde_json::json;

use crate::{
    answer::{exit, finding_if, print, print_json},
    cli::Output,
    documents::Files,
    groups::{self, Asked},
};

/// Command line of `fwnet diff`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// The policy as it was
    #[arg(value_name = "A")]
    before: PathBuf,
    /// The policy as it will be. Policies named with --policy hold before and after
    #[arg(value_name = "B")]
    after: PathBuf,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    asked: Asked,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Exit code 0 if nothing changes, 1 if something does, 2 if there is no answer.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    exit(diff(typed))
}

fn diff(typed: &Typed) -> anyhow::Result<u8> {
    let before = typed.files.sound(std::slice::from_ref(&typed.before))?;
    let after = typed.files.sound(std::slice::from_ref(&typed.after))?;
    let question = typed.asked.question(&after);
    let diff = analysis::diff(&before.checked.policies, &after.checked.policies, &question)?;
    match typed.output {
        Output::Text => print(&text(&diff))?,
        Output::Json => print_json(&json!(diff))?,
    }
    Ok(finding_if(!diff.is_empty()))
}

fn text(diff: &Diff) -> String {
    let mut out = String::new();
    let mut part = |title: &str, sign: char, flows: &[GroupFlows]| {
        if !flows.is_empty() {
            out.push_str(&format!("{title}\n"));
        }
        for flow in flows {
            let example = groups::example(&flow.example);
            out.push_str(&format!(
                "{sign} {}\n    such as {example}\n",
                groups::flows(flow, &diff.groups)
            ));
        }
    };
    part("newly allowed", '+', &diff.allowed);
    part("newly denied", '-', &diff.denied);
    if diff.is_empty() {
        out.push_str("no flow is judged differently\n");
    }
    let used = diff.allowed.iter().chain(&diff.denied).flat_map(|flow| [flow.from, flow.to]);
    out.push_str(&groups::legend(&diff.groups, used));
    out.push_str(&groups::unplaced(&diff.unplaced));
    out
}
