//! `fwnet run`: enforce in the foreground, print events, and put everything back at the end.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, ValueEnum};
use kernel::{Attachments, Cgroup, Firewall, Namespaces, Netns, require_privilege};
use verdict::Address;

use crate::{
    cli::Output,
    documents::Files,
    enforce::{Enforcement, Signals},
    legacy::Inbound,
    orders::{Orders, count},
    prefix::{Ports, Prefix},
    report::Reporter,
};

/// Command line of `fwnet run`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    /// Refuse connecting to and accepting from this address or prefix (IPv4 or IPv6, any protocol; repeatable)
    #[arg(long, value_name = "ADDR[/LEN]")]
    deny: Vec<Prefix>,
    /// Refuse connecting to and accepting on this TCP port or range of ports (repeatable)
    #[arg(long, value_name = "PORT[-PORT]", allow_hyphen_values = true)]
    port: Vec<Ports>,
    #[command(flatten)]
    files: Files,
    /// Which host of the inventory this is (default: the one with this machine's name)
    #[arg(long, value_name = "ID")]
    host: Option<String>,
    /// 0: print denials; 1: every connection; 2: also what is attached where
    #[arg(long, value_name = "0|1|2", default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(u8).range(0..=2))]
    debug: u8,
    /// Judge the processes below this cgroup only, instead of the whole machine
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Judge what comes in in this network namespace (a name as `ip netns` knows it, or a path; repeatable); without it
    /// and without --cgroup, in every one that is found
    #[arg(long, value_name = "NAME|PATH")]
    netns: Vec<String>,
    /// What happens to denied connections that come in
    #[arg(long, value_enum, default_value_t = InboundFlag::Reject)]
    inbound: InboundFlag,
    /// Report TCP sockets that connect or listen without a verdict, and end those that may not; costs some 300 ns for each
    /// connection
    #[arg(long)]
    tripwire: bool,
    /// How to print events
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum InboundFlag {
    /// The peer gets a reset
    Reject,
    /// What comes in is not judged
    Off,
}

/// Runs until SIGINT or SIGTERM.
pub(crate) fn run(typed: Typed) -> anyhow::Result<ExitCode> {
    let inbound = match typed.inbound {
        InboundFlag::Reject => Inbound::Reject,
        InboundFlag::Off => Inbound::Off,
    };
    let orders = orders(&typed, inbound)?;
    let place = Place::new(&typed, inbound);
    let addresses = place.addresses()?;
    let ready = orders.read(&addresses, 1)?;
    require_privilege("fwnet run")?;
    let signals = Signals::catch()?;
    let attachments = || place.attachments();
    let enforcement = Enforcement {
        firewall: Firewall::load(&ready.image, attachments()?)?,
        reporter: Reporter::new(typed.output, typed.debug),
        orders,
        attachments: &attachments,
        addresses,
        ready,
        before: None,
        counted: BTreeMap::new(),
        follow: place.follow,
    };
    until_signal(enforcement, &typed, &signals)
}

fn until_signal(
    mut enforcement: Enforcement<'_>,
    typed: &Typed,
    signals: &Signals,
) -> anyhow::Result<ExitCode> {
    announce(typed, &enforcement);
    enforcement.tell_notes();
    enforcement.reporter.parameters(&parameters(typed));
    enforcement.watch(signals)?;
    enforcement.finish();
    Ok(ExitCode::SUCCESS)
}

fn orders(typed: &Typed, inbound: Inbound) -> anyhow::Result<Orders> {
    if !typed.files.named() {
        if typed.host.is_some() {
            anyhow::bail!("--host means a host of --inventory, and there is no --policy");
        }
        return Ok(Orders::Lists {
            addresses: typed.deny.clone(),
            ports: typed.port.clone(),
            inbound,
        });
    }
    if !typed.deny.is_empty() || !typed.port.is_empty() {
        anyhow::bail!(
            "--deny and --port are rules of their own: write them into the policy instead"
        );
    }
    Ok(Orders::Documents { files: typed.files.clone(), host: typed.host.clone() })
}

/// Where the programs are to be attached.
struct Place<'a> {
    typed: &'a Typed,
    inbound: Inbound,
    /// Whether every network namespace is wanted, those that are still to come among them.
    follow: bool,
}

impl<'a> Place<'a> {
    fn new(typed: &'a Typed, inbound: Inbound) -> Self {
        let follow = typed.cgroup.is_none() && typed.netns.is_empty() && inbound == Inbound::Reject;
        Self { typed, inbound, follow }
    }

    fn attachments(&self) -> anyhow::Result<Attachments> {
        Ok(Attachments {
            cgroup: match &self.typed.cgroup {
                Some(path) => Cgroup::open(path).context("--cgroup")?,
                None => Cgroup::root()?,
            },
            namespaces: match (self.inbound, self.follow) {
                (Inbound::Off, _) => Namespaces::Named(Vec::new()),
                (Inbound::Reject, true) => Namespaces::All,
                (Inbound::Reject, false) => Namespaces::Named(self.named()?),
            },
            tripwire: self.typed.tripwire,
            report_allowed: self.typed.debug >= 1,
            count_flows: false,
        })
    }

    /// The namespaces of the command line, each once.
    fn named(&self) -> anyhow::Result<Vec<Netns>> {
        let mut opened: Vec<Netns> = Vec::new();
        for name in &self.typed.netns {
            let namespace = Netns::open(name).context("--netns")?;
            if opened.iter().all(|known| known.inode() != namespace.inode()) {
                opened.push(namespace);
            }
        }
        Ok(opened)
    }

    /// This host's addresses, which a policy may speak of: those of the named namespaces, else of our own.
    fn addresses(&self) -> anyhow::Result<Vec<Address>> {
        if !self.typed.files.named() {
            return Ok(Vec::new());
        }
        let mut namespaces = self.named()?;
        if namespaces.is_empty() {
            namespaces.push(Netns::open("/proc/self/ns/net")?);
        }
        let mut addresses = Vec::new();
        for namespace in &namespaces {
            let own = namespace.addresses();
            addresses.extend(
                own.with_context(|| format!("list the addresses in {}", namespace.name()))?,
            );
        }
        Ok(addresses)
    }
}

/// The one line on standard error that says enforcement has begun, and with `--debug 2` what is where.
fn announce(typed: &Typed, enforcement: &Enforcement<'_>) {
    let firewall = &enforcement.firewall;
    let inbound = match (typed.inbound, firewall.namespaces()) {
        (InboundFlag::Off, _) => "inbound off".to_owned(),
        (InboundFlag::Reject, 0) => "inbound off (--cgroup without --netns)".to_owned(),
        (InboundFlag::Reject, some) => {
            format!("inbound in {}", count(some, "network namespace", "network namespaces"))
        }
    };
    let cgroup = firewall
        .attached()
        .find(|(hook, _)| hook.name == "cgroup/connect4")
        .map_or("", |(_, target)| target);
    eprintln!("fwnet: enforcing {} on {cgroup}, {inbound}", enforcement.ready.summary);
    if typed.debug >= 2 {
        for (hook, target) in firewall.attached() {
            eprintln!("fwnet: attached {} to {target}", hook.name);
        }
    }
    for (hook, error) in firewall.open_hooks() {
        eprintln!("fwnet: not covered: {} ({error})", hook.without);
    }
}

/// What the module printed when it was loaded.
fn parameters(typed: &Typed) -> Vec<String> {
    if typed.files.named() {
        return Vec::new();
    }
    let mut lines: Vec<String> =
        typed.deny.iter().map(|prefix| format!("denied IP: {}", prefix.text)).collect();
    if lines.is_empty() {
        lines.push("denied IP: no".into());
    }
    lines.extend(typed.port.iter().map(|ports| format!("denied TCP port: {ports}")));
    lines
}
