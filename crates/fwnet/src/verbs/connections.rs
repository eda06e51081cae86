//! `fwnet connections`: every socket of the machine with its process, unit and container, what a policy would say of it,
//! and whether its port is one to watch for. Needs no agent; one that answers says what its policy denies.
//!
//! Whatever happens, `-o json` prints one whole document: it is made before the first byte is printed, and a signal that
//! asks to end ends the look, not the printing.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use agent::connections::watch::WatchList;
use anyhow::{Context, bail};
use clap::Args;
use kernel::{Cgroup, Netns};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{
    answer::{exit, finding_if, print},
    api::{CallError, Reached},
    cli::Output,
    connections::{
        Look, everywhere,
        shown::{Against, Report, Row},
        text,
    },
    documents::{Files, read_up_to},
    names::Names,
    orders::{Orders, Ready},
};

/// Command line of `fwnet connections`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// Say which sockets this policy would deny, and by which rule (repeatable; `-` is standard input)
    #[arg(long, value_name = "FILE")]
    candidate: Vec<PathBuf>,
    /// The hosts with their addresses and labels, as TOML or JSON
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// Which host of the inventory this is (default: the one with this machine's name)
    #[arg(long, value_name = "ID")]
    host: Option<String>,
    /// Say which sockets have a port of this list: JSON as linux_network_activity_tracker reads it, an array of
    /// {"port", "type", "port_type", "reason"}
    #[arg(long, value_name = "FILE")]
    watch_ports: Option<PathBuf>,
    /// Only the sockets of this network namespace (a name as `ip netns` knows it, or a path; repeatable)
    #[arg(long, value_name = "NAME|PATH")]
    netns: Vec<String>,
    /// Only sockets that were created in this cgroup or below
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Print only what is denied or on the watch list
    #[arg(long)]
    only_found: bool,
    #[command(flatten)]
    reached: Reached,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Bytes of a watch list that are read.
const WATCH_BYTES_MAX: usize = 16 << 20;
/// What a shell says of a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// Exit code 0 if nothing is found, 1 if a socket is denied or its port is on the watch list, 2 if a file or a name is
/// wrong, 130 if it was interrupted.
pub(crate) fn run(typed: &Typed) -> ExitCode {
    exit(connections(typed))
}

fn connections(typed: &Typed) -> anyhow::Result<u8> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // The first one ends the look; whoever asks again does not want to wait for what was found.
        signal_hook::flag::register_conditional_shutdown(
            signal,
            INTERRUPTED.into(),
            Arc::clone(&stop),
        )
        .context("catch signals")?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("catch signals")?;
    }
    let namespaces = namespaces(typed)?;
    let scope = scope(typed)?;
    let candidate = candidate(typed, &namespaces)?;
    let watch = typed.watch_ports.as_deref().map(watch_list).transpose()?;
    let mut look = Look::at(&namespaces, &stop);
    if let Some(above) = scope {
        look.connections.keep_below(above);
    }
    let against = Against {
        image: candidate.as_ref().map(|ready| (ready.now(), ready.reasons.as_slice())),
        scope: None,
        watch: watch.as_ref(),
    };
    let mut report = Report::of(&look.connections, against, &Names::here());
    if candidate.is_none() {
        ask_agent(typed, &mut report);
    }
    report.interrupted = stop.load(Ordering::Relaxed);
    report.notes.extend(look.gaps);
    report.notes.extend(watch.map(|list| list.warnings).unwrap_or_default());
    let found = report.connections.iter().any(Row::is_found);
    show(typed, report)?;
    Ok(if stop.load(Ordering::Relaxed) { INTERRUPTED } else { finding_if(found) })
}

/// What an agent that answers says by the rules it has in force. Without one there is nothing to compare with.
fn ask_agent(typed: &Typed, report: &mut Report) {
    let client = match typed.reached.client() {
        Ok(client) => client,
        Err(error) => {
            report.notes.push(format!("the agent is not asked: {error}"));
            return;
        }
    };
    match client.get::<Report>("/v1/connections") {
        Ok(agents) => report.take_verdicts(agents),
        Err(CallError::NoAgent(_)) => {}
        Err(error) => {
            let error = anyhow::Error::from(error);
            report.notes.push(format!("the agent does not say what it would deny: {error:#}"));
        }
    }
}

fn show(typed: &Typed, mut report: Report) -> anyhow::Result<()> {
    match typed.output {
        Output::Json => {
            if typed.only_found {
                report.connections.retain(Row::is_found);
            }
            print(&(serde_json::to_string_pretty(&report)? + "\n"))
        }
        Output::Text => {
            for note in &report.notes {
                eprintln!("fwnet: note: {note}");
            }
            let shown = |row: &&Row| !typed.only_found || row.is_found();
            let rows: Vec<&Row> = report.connections.iter().filter(shown).collect();
            print(&text(&report, &rows))
        }
    }
}

/// Those that are named, each once, else all.
fn namespaces(typed: &Typed) -> anyhow::Result<Vec<Netns>> {
    if typed.netns.is_empty() {
        return Ok(everywhere());
    }
    let mut opened: Vec<Netns> = Vec::new();
    for name in &typed.netns {
        let namespace = Netns::open(name).context("--netns")?;
        if opened.iter().all(|known| known.inode() != namespace.inode()) {
            opened.push(namespace);
        }
    }
    Ok(opened)
}

/// Id of the cgroup below which sockets are wanted.
fn scope(typed: &Typed) -> anyhow::Result<Option<u64>> {
    let opened = typed.cgroup.as_ref().map(|path| Cgroup::open(path).context("--cgroup"));
    Ok(opened.transpose()?.map(|cgroup| cgroup.id()))
}

/// The candidate as an image for this host, whose addresses are those of the named namespaces, else of our own.
fn candidate(typed: &Typed, namespaces: &[Netns]) -> anyhow::Result<Option<Ready>> {
    if typed.candidate.is_empty() {
        if typed.inventory.is_some() || typed.host.is_some() {
            bail!("--inventory and --host are about a --candidate, and there is none");
        }
        return Ok(None);
    }
    let own = [Netns::open("/proc/self/ns/net")?];
    let named = if typed.netns.is_empty() { &own } else { namespaces };
    let mut addresses = Vec::new();
    for namespace in named {
        let listed = namespace.addresses();
        addresses
            .extend(listed.with_context(|| format!("list the addresses in {}", namespace.name()))?);
    }
    let files = Files::of(typed.candidate.clone(), typed.inventory.clone());
    let orders = Orders::Documents { files, host: typed.host.clone() };
    orders.read(&addresses, 0).map(Some)
}

fn watch_list(path: &Path) -> anyhow::Result<WatchList> {
    let bytes = read_up_to(path, WATCH_BYTES_MAX)?;
    if bytes.len() > WATCH_BYTES_MAX {
        bail!("{}: longer than {WATCH_BYTES_MAX} bytes", path.display());
    }
    WatchList::parse(&bytes).with_context(|| path.display().to_string())
}
