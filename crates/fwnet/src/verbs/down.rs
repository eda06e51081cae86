//! `fwnet down`: everything is taken off, by the agent or without one, and what the kernel then has is the proof.

use std::{
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use agent::{
    edition::Applied,
    store::{Stance, Taken},
};
use anyhow::{Context, bail};
use clap::Args;
use jiff::Timestamp;
use kernel::{pinned, require_privilege};
use serde_json::json;

use super::up::UNIT;
use crate::{
    agent::{kept::Kept, paths::Paths},
    answer,
    api::{
        CallError, Client,
        routes::stance::{Down, Final, TakenOff},
    },
    cli::Output,
    process::Stat,
    session,
};

/// Command line of `fwnet down`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    #[command(flatten)]
    paths: Paths,
    /// What is to be enforced then
    #[arg(long = "final", value_enum, default_value_t = Final::Open)]
    stance: Final,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Taking off some programs takes milliseconds.
const END_DEADLINE: Duration = Duration::from_secs(30);

/// Exit code 0 if the system is as before, 1 if something of ours is left because somebody else holds it.
pub(crate) fn run(typed: &Typed) -> anyhow::Result<ExitCode> {
    let down = Down { stance: typed.stance, session: session::own() };
    let taken_off = match Client::new(&typed.paths.socket)?.post::<TakenOff>("/v1/down", &down) {
        Ok(taken_off) => taken_off,
        Err(no_agent @ (CallError::NoAgent(_) | CallError::Ended(_))) => without(typed, no_agent)?,
        Err(error) => return Err(error.into()),
    };
    if let Some(pid) = taken_off.pid {
        wait_for_end(pid)?;
    }
    if typed.paths.are_default() {
        stop_service();
    }
    show(typed, &taken_off)?;
    Ok(if taken_off.left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Takes off what an agent left that no longer runs.
fn without(typed: &Typed, no_agent: CallError) -> anyhow::Result<TakenOff> {
    if typed.stance == Final::Lockdown || !typed.paths.bpffs.exists() {
        return Err(no_agent.into());
    }
    require_privilege("fwnet down without an agent")?;
    let removed = pinned::remove(&typed.paths.bpffs).context("take off what a dead agent left")?;
    let by = Applied {
        at: Timestamp::now(),
        uid: rustix::process::getuid().as_raw(),
        session: session::own(),
    };
    let kept = Kept::open(&typed.paths.state)
        .and_then(|mut kept| Ok(kept.store.set_stance(Taken { stance: Stance::Open, by })?));
    if let Err(error) = kept {
        eprintln!("fwnet: the next boot will not know: {error:#}");
    }
    Ok(TakenOff::of(removed, None))
}

fn wait_for_end(pid: u32) -> anyhow::Result<()> {
    let start = Instant::now();
    while runs(pid) {
        if start.elapsed() >= END_DEADLINE {
            bail!("the agent (process {pid}) does not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// One that ended and that its parent does not care about does not run.
fn runs(pid: u32) -> bool {
    Stat::of(pid).is_some_and(|stat| !stat.has_ended())
}

/// systemd is to know that the end of the agent was wanted. Without it there is nothing to stop.
fn stop_service() {
    if sd_notify::booted().unwrap_or(false) {
        let mut systemctl = Command::new("systemctl");
        let stop = systemctl.args(["stop", UNIT]).stdout(Stdio::null()).stderr(Stdio::null());
        if let Err(error) = stop.status() {
            eprintln!("fwnet: run systemctl: {error}");
        }
    }
}

fn show(typed: &Typed, taken_off: &TakenOff) -> anyhow::Result<()> {
    if typed.output == Output::Json {
        return answer::print_json(&json!(taken_off));
    }
    if typed.stance == Final::Lockdown {
        return answer::print("the agent has ended; lockdown: only the failsafe set is allowed\n");
    }
    for link in &taken_off.links {
        answer::print(&format!("removed {link}\n"))?;
    }
    for left in &taken_off.left {
        answer::print(&format!("still in the kernel, held by somebody else: {left}\n"))?;
    }
    match taken_off.left.is_empty() {
        true => answer::print("nothing of fwnet is left in the kernel\n"),
        false => Ok(()),
    }
}
