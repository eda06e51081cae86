//! `fwnet down`: has the agent take everything off and end, and proves that it did.

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use clap::Args;
use rustix::process::{Pid, test_kill_process};
use serde_json::json;

use crate::{
    answer,
    api::{Reached, routes::down::Removed},
    cli::Output,
};

/// Command line of `fwnet down`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    #[command(flatten)]
    reached: Reached,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Taking off some programs takes milliseconds.
const END_DEADLINE: Duration = Duration::from_secs(30);

/// Returns once the agent has ended.
pub(crate) fn run(typed: &Typed) -> anyhow::Result<ExitCode> {
    let removed: Removed = typed.reached.client()?.post("/v1/down", &json!({}))?;
    let start = Instant::now();
    while runs(removed.pid) {
        if start.elapsed() >= END_DEADLINE {
            bail!("the agent (process {}) does not end", removed.pid);
        }
        thread::sleep(Duration::from_millis(5));
    }
    match typed.output {
        Output::Text => {
            for attached in &removed.removed {
                answer::print(&format!("removed {} from {}\n", attached.hook, attached.target))?;
            }
        }
        Output::Json => answer::print_json(&json!(removed))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn runs(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid).is_ok())
}
