//! `fwnet matrix`: for a service, which groups may reach which.

use std::process::ExitCode;

use clap::Args;
use policy::analysis::{self, Matrix, services};
use serde_json::json;

use crate::{
    answer::{FINE, exit, print, print_json},
    cli::Output,
    documents::Given,
    groups::{self, Asked},
};

/// Command line of `fwnet matrix`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// The services: `tcp/5432`, `any`, or a name of the policies; several with commas
    #[arg(value_name = "SERVICE", default_value = "any")]
    service: String,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    asked: Asked,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Exit code 0, or 2 if there is no answer.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    exit(matrix(typed))
}

fn matrix(typed: &Typed) -> anyhow::Result<u8> {
    let documents = typed.given.sound()?;
    let policies = &documents.checked.policies;
    let question = typed.asked.question(&documents);
    let matrix = analysis::matrix(policies, &question, &services(policies, &typed.service)?)?;
    match typed.output {
        Output::Text => print(&text(&matrix, &typed.service))?,
        Output::Json => print_json(&json!(matrix))?,
    }
    Ok(FINE)
}

fn text(matrix: &Matrix, service: &str) -> String {
    let mut out = String::new();
    for flow in &matrix.allowed {
        out.push_str(&groups::flows(flow, &matrix.groups));
        out.push('\n');
    }
    if matrix.allowed.is_empty() {
        out.push_str(&format!("nobody may reach anybody by {service}\n"));
    }
    let used = matrix.allowed.iter().flat_map(|flow| [flow.from, flow.to]);
    out.push_str(&groups::legend(&matrix.groups, used));
    out.push_str(&groups::unplaced(&matrix.unplaced));
    out
}
