//! `fwnet relay`: serves hosts like a controller, without a store, fed by a controller.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use fleet::{
    join::Token,
    joining,
    membership::Membership,
    relay::{Listening, Setup, run as serve},
    subject::Kind,
};

use super::controller::{announced, most_descriptors, until_told};
use crate::answer::Working;

/// Command line of `fwnet relay`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// Directory for the relay's membership
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Become a relay of the fleet that made this token (`fwnet fleet enroll --relay`), where this is none yet
    #[arg(long, value_name = "TOKEN")]
    join: Option<String>,
    /// Where it listens
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Where metrics are read, without TLS: http://ADDR:PORT/metrics
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<SocketAddr>,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(typed: &Typed) -> anyhow::Result<ExitCode> {
    most_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let membership = match (Membership::load(&typed.dir)?, &typed.join) {
            // A unit that is started again has the same command line.
            (Some(known), _) => known,
            (None, Some(token)) => join(typed, token).await?,
            (None, None) => {
                bail!("{} is no relay's: fwnet relay --join TOKEN", typed.dir.display())
            }
        };
        let name = membership.id.clone();
        let setup = Setup {
            directory: typed.dir.clone(),
            membership,
            listen: typed.listen,
            metrics: typed.metrics,
        };
        let stop = until_told()?;
        let ready = |listening: Listening| {
            eprintln!("fwnet: the relay {name} listens on {}", listening.fleet);
            announced(listening);
        };
        serve(setup, ready, stop).await?;
        anyhow::Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn join(typed: &Typed, token: &str) -> anyhow::Result<Membership> {
    let token: Token = token.parse()?;
    if token.subject.kind() != Kind::Relay {
        bail!("this token is for a host: fwnet up --join");
    }
    let working = Working::new("joining");
    let membership = joining::join(&token).await?.membership;
    drop(working);
    membership.save(&typed.dir).context("keep the membership")?;
    Ok(membership)
}
