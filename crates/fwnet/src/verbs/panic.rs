//! `fwnet panic` and `fwnet resume`: lockdown now, and its end. Through the agent if it answers; else straight in the
//! kernel, without the agent, the network or a policy.

use std::{process::ExitCode, time::Duration};

use agent::{
    edition::Applied,
    store::{Stance, Taken},
};
use anyhow::Context;
use clap::Args;
use jiff::Timestamp;
use kernel::{pinned, require_privilege};

use crate::{
    agent::{
        kept::{Kept, settled},
        paths::Paths,
    },
    answer,
    api::{
        CallError, Client,
        routes::{status::Status, trial::By},
    },
    session,
};

/// Command line of `fwnet panic` and `fwnet resume`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    #[command(flatten)]
    paths: Paths,
}

/// An agent that does not answer by then is passed over.
const PATIENCE: Duration = Duration::from_secs(3);

/// Begins lockdown.
pub(crate) fn panic(typed: &Typed) -> anyhow::Result<ExitCode> {
    let by_agent = ask(typed, "/v1/panic")?;
    if !by_agent {
        require_privilege("fwnet panic without an agent")?;
        let place = settled(&typed.paths.state)?.place;
        let locked = pinned::lock_down(&typed.paths.bpffs, place.attachments(false)?);
        locked.context("lock down without an agent")?;
        keep(typed, Stance::Lockdown);
    }
    answer::print("lockdown: only the failsafe set is allowed, until fwnet resume\n")?;
    Ok(ExitCode::SUCCESS)
}

/// Ends lockdown.
pub(crate) fn resume(typed: &Typed) -> anyhow::Result<ExitCode> {
    let by_agent = ask(typed, "/v1/resume")?;
    if !by_agent {
        require_privilege("fwnet resume without an agent")?;
        pinned::resume(&typed.paths.bpffs).context("end lockdown without an agent")?;
        keep(typed, Stance::Policy);
    }
    answer::print("the policy is in force again\n")?;
    Ok(ExitCode::SUCCESS)
}

/// Whether an agent did it.
fn ask(typed: &Typed, path: &str) -> anyhow::Result<bool> {
    let client = Client::new(&typed.paths.socket)?.patience(PATIENCE);
    match client.post::<Status>(path, &By { session: session::own() }) {
        Ok(_status) => Ok(true),
        Err(error @ (CallError::Refused(_) | CallError::Forbidden(_))) => Err(error.into()),
        Err(error) => {
            eprintln!("fwnet: {:#}; doing it without", anyhow::Error::from(error));
            Ok(false)
        }
    }
}

/// Keeps the stance for the next agent and the next boot, if the disk takes it.
fn keep(typed: &Typed, stance: Stance) {
    let by = Applied {
        at: Timestamp::now(),
        uid: rustix::process::getuid().as_raw(),
        session: session::own(),
    };
    let kept = Kept::open(&typed.paths.state)
        .and_then(|mut kept| Ok(kept.store.set_stance(Taken { stance, by })?));
    if let Err(error) = kept {
        eprintln!("fwnet: the next boot will not know: {error:#}");
    }
}
