//! `fwnet test`: runs the tests that stand in the policies.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::{
    answer::{exit, finding_if, print, print_json},
    cli::Output,
    documents::Given,
    trial,
};

/// Command line of `fwnet test`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    #[command(flatten)]
    given: Given,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Exit code 0 if every test passed, 1 if one failed, 2 if they cannot be run.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    exit(test(typed))
}

fn test(typed: &Typed) -> anyhow::Result<u8> {
    let documents = typed.given.sound()?;
    let results = trial::run(&documents)?;
    let failed = results.iter().filter(|result| !result.passed).count();
    match typed.output {
        Output::Text if results.is_empty() => print("there are no tests\n")?,
        Output::Text => print(&trial::text(&results, &documents.checked))?,
        Output::Json => print_json(&json!({
            "passed": results.len() - failed,
            "failed": failed,
            "tests": trial::to_json(&results, &documents.checked),
        }))?,
    }
    Ok(finding_if(failed > 0))
}
