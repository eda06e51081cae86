//! `fwnet controller`: serves a fleet's agents and operators from a store.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Args;
use fleet::{
    controller::{Keep, Listening, Setup, Stamping, run as serve},
    settings::{self, Settings},
    store::Location,
};
use jiff::SignedDuration;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use wire::Role;

use super::fleet::endpoint;
use crate::{duration, report::host_name, signing::Key};

/// Command line of `fwnet controller`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// What `fwnet fleet init` made: the authority, and the root that hosts begin with
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// What this controller is called (default: this machine's name)
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where it listens (default: as `fwnet fleet init` wrote down)
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Where the truth is kept: redb:FILE, or etcd://HOST:PORT,... for several controllers (default: a file in --dir)
    #[arg(long, value_name = "STORE")]
    store: Option<Location>,
    /// Where hosts and operators find this controller (repeatable: first this one, then others; default: as `fwnet fleet
    /// init` wrote down)
    #[arg(long, value_name = "HOST:PORT", value_parser = endpoint)]
    endpoint: Vec<String>,
    /// A key of the role timestamp, to make timestamps anew before they expire
    #[arg(long, value_name = "FILE")]
    timestamp_key: Option<PathBuf>,
    /// How long such a timestamp is good
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = duration::parse)]
    timestamp_expires: std::time::Duration,
    /// Of how many of the newest versions the documents are kept; the history tells of older ones without them
    #[arg(long, value_name = "N", default_value_t = Keep::default().versions)]
    keep: usize,
    /// How long the certificates are good that it gives to hosts, relays and itself; they renew themselves when half of it is
    /// over
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = lifetime)]
    certificates: std::time::Duration,
    /// Where metrics are read, without TLS: http://ADDR:PORT/metrics
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<SocketAddr>,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(typed: &Typed) -> anyhow::Result<ExitCode> {
    let setup = setup(typed)?;
    most_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = until_told()?;
        let name = setup.name.clone();
        let store = setup.store.to_string();
        serve(setup, |listening| announce(&name, &store, listening), stop).await?;
        anyhow::Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn setup(typed: &Typed) -> anyhow::Result<Setup> {
    let settings = Settings::read(&typed.dir)?;
    let listen = match typed.listen {
        Some(listen) => listen,
        None => settings.listen.parse().context("the listener that fwnet fleet init wrote down")?,
    };
    let endpoints =
        if typed.endpoint.is_empty() { settings.endpoints } else { typed.endpoint.clone() };
    let Some(endpoint) = endpoints.first().cloned() else {
        bail!("nobody would find this controller: --endpoint HOST:PORT");
    };
    let stamping = typed.timestamp_key.as_deref().map(|path| stamping(path, typed)).transpose()?;
    Ok(Setup {
        directory: typed.dir.clone(),
        name: typed.name.clone().unwrap_or_else(|| host_name().to_string()),
        listen,
        endpoint,
        endpoints,
        store: typed
            .store
            .clone()
            .unwrap_or_else(|| Location::Embedded(typed.dir.join(settings::STORE))),
        stamping,
        keep: typed.keep,
        metrics: typed.metrics,
        lifetime: typed.certificates,
    })
}

/// Certificates of less than that would be renewed all the time, and of more be as good as passwords.
const LIFETIMES_S: std::ops::RangeInclusive<u64> = 10..=90 * 86_400;

fn lifetime(text: &str) -> Result<std::time::Duration, String> {
    let lifetime = duration::parse(text)?;
    if LIFETIMES_S.contains(&lifetime.as_secs()) {
        Ok(lifetime)
    } else {
        Err("certificates are good for ten seconds to ninety days".to_owned())
    }
}

fn stamping(path: &Path, typed: &Typed) -> anyhow::Result<Stamping> {
    let key = Key::read(path)?;
    if key.role != Role::Timestamp {
        bail!(
            "{} is a key of the role {}, and one of the role timestamp is wanted",
            path.display(),
            key.role
        );
    }
    let lifetime = SignedDuration::try_from(typed.timestamp_expires)?;
    Ok(Stamping { key: key.into_secret(), lifetime })
}

/// Done with SIGTERM or SIGINT.
///
/// # Errors
/// Where signals cannot be caught.
pub(crate) fn until_told() -> std::io::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

fn announce(name: &str, store: &str, listening: Listening) {
    eprintln!("fwnet: the controller {name} listens on {} (store {store})", listening.fleet);
    announced(listening);
}

/// Says where metrics are, and tells whoever started this process that it is ready.
pub(crate) fn announced(listening: Listening) {
    if let Some(metrics) = listening.metrics {
        eprintln!("fwnet: metrics at http://{metrics}/metrics");
    }
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        eprintln!("fwnet: the service manager does not listen: {error}");
    }
}

/// As many connections as the system lets this process have.
pub(crate) fn most_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current: _, maximum } = getrlimit(Resource::Nofile);
    if let Err(errno) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        eprintln!("fwnet: the limit of open files stays: {errno}");
    }
}
