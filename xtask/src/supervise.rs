//! Work that makes namespaces and cgroups, in a process of its own: whatever ends that process, a Ctrl-C and a kill
//! included, nothing it made stays.
//!
//! Values of testbed clean up when they end, which a killed process cannot do. But testbed can tell what a dead process
//! left; so the worker is a second run of this program, and the first one waits for its end and sweeps.

use anyhow::{Context as _, Result, bail};
use rustix::process::{Signal, geteuid, set_parent_process_death_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::env;
use std::process::{Child, ExitCode, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::workspace;

/// Tells the worker that it is one.
const WORKER: &str = "FWNET_XTASK_WORKER";
/// How long a Ctrl-C takes to be noticed.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// The exit code of a program that a Ctrl-C ended, as shells have it.
const INTERRUPTED: u8 = 130;

/// Runs `work` in a second process with the same command line, and removes what is left of it. Needs root.
pub fn supervised(work: impl FnOnce() -> Result<()>) -> ExitCode {
    let ended = if env::var_os(WORKER).is_some() {
        // If the one that sweeps is killed, go too: the next user of testbed sweeps then.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        work().map(|()| ExitCode::SUCCESS)
    } else {
        supervise()
    };
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn supervise() -> Result<ExitCode> {
    if !geteuid().is_root() {
        bail!(
            "network namespaces and BPF programs are made by root only: sudo -E env PATH=\"$PATH\" cargo xtask ..."
        );
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("catch signals")?;
    }
    let mut worker = workspace::this_program()
        .args(env::args_os().skip(1))
        .env(WORKER, "1")
        .spawn()
        .context("start this program again")?;
    let status = wait(&mut worker, &interrupted);
    testbed::sweep();
    let code = status.context("wait for the worker")?.code();
    if interrupted.load(Ordering::SeqCst) {
        eprintln!("interrupted: everything that was made is removed");
        return Ok(INTERRUPTED.into());
    }
    Ok(code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Waits for the worker's end, which an interruption hastens.
fn wait(worker: &mut Child, interrupted: &AtomicBool) -> std::io::Result<ExitStatus> {
    loop {
        if let Some(status) = worker.try_wait()? {
            return Ok(status);
        }
        if interrupted.load(Ordering::SeqCst) {
            // Gone by itself is as good.
            let _ = worker.kill();
            return worker.wait();
        }
        thread::sleep(LOOK_INTERVAL);
    }
}
