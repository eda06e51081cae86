//! `fwnet run`: enforce in the foreground, print events, and put everything back at the end.

use std::{
    io::Read,
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use image::{Image, RuleSet, compile};
use kernel::{Attachments, Cgroup, Door, Event, Firewall, Netns, require_privilege};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{
    cli::Output,
    legacy::{Inbound, rules},
    prefix::{Ports, Prefix},
    report::Reporter,
    tripwire,
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
    /// 0: print denials; 1: every connection; 2: also what is attached where
    #[arg(long, value_name = "0|1|2", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
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

/// How often new network namespaces are looked for, when all of them are wanted.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Runs until SIGINT or SIGTERM.
pub(crate) fn run(typed: Typed) -> anyhow::Result<ExitCode> {
    let inbound = match typed.inbound {
        InboundFlag::Reject => Inbound::Reject,
        InboundFlag::Off => Inbound::Off,
    };
    let rules = rules(&typed.deny, &typed.port, inbound);
    let image = compile(&rules).context("compile --deny and --port")?;
    require_privilege("fwnet run")?;
    let follow = typed.cgroup.is_none() && typed.netns.is_empty() && inbound == Inbound::Reject;
    let attachments = Attachments {
        cgroup: match &typed.cgroup {
            Some(path) => Cgroup::open(path).context("--cgroup")?,
            None => Cgroup::root()?,
        },
        namespaces: namespaces(&typed, inbound, follow)?,
        tripwire: typed.tripwire,
        report_allowed: typed.debug >= 1,
    };
    let signals = signals()?;
    let mut firewall = Firewall::load(&image, attachments)?;
    let mut reporter = Reporter::new(typed.output, typed.debug);
    announce(&typed, &firewall);
    reporter.parameters(&parameters(&typed));
    let enforced = Enforced { rules: &rules, image: &image };
    watch(&mut firewall, &mut reporter, &enforced, signals, follow)?;
    finish(firewall, &rules);
    Ok(ExitCode::SUCCESS)
}

fn namespaces(typed: &Typed, inbound: Inbound, follow: bool) -> anyhow::Result<Vec<Netns>> {
    match (inbound, follow) {
        (Inbound::Off, _) => Ok(Vec::new()),
        (Inbound::Reject, true) => Ok(Netns::found()),
        (Inbound::Reject, false) => {
            let mut opened: Vec<Netns> = Vec::new();
            for name in &typed.netns {
                let namespace = Netns::open(name).context("--netns")?;
                if opened.iter().all(|known| known.inode() != namespace.inode()) {
                    opened.push(namespace);
                }
            }
            Ok(opened)
        }
    }
}

/// A descriptor that polls readable once SIGINT or SIGTERM came.
fn signals() -> anyhow::Result<UnixStream> {
    let (read, write) = UnixStream::pair().context("make a pair of sockets for signals")?;
    for signal in [SIGINT, SIGTERM] {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)
            .context("catch signals")?;
    }
    read.set_nonblocking(true)?;
    Ok(read)
}

/// The one line on standard error that says enforcement has begun, and with `--debug 2` what is where.
fn announce(typed: &Typed, firewall: &Firewall) {
    let count = |number: usize, one: &str, many: &str| match number {
        1 => format!("1 {one}"),
        more => format!("{more} {many}"),
    };
    let inbound = match (typed.inbound, firewall.namespaces().len()) {
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
    eprintln!(
        "fwnet: enforcing {} and {} on {cgroup}, {inbound}",
        count(typed.deny.len(), "denied address", "denied addresses"),
        count(typed.port.len(), "denied port", "denied ports"),
    );
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
    let mut lines: Vec<String> =
        typed.deny.iter().map(|prefix| format!("denied IP: {}", prefix.text)).collect();
    if lines.is_empty() {
        lines.push("denied IP: no".into());
    }
    lines.extend(typed.port.iter().map(|ports| format!("denied TCP port: {ports}")));
    lines
}

/// What is in force.
struct Enforced<'a> {
    rules: &'a RuleSet,
    image: &'a Image,
}

/// Prints events until a signal comes.
fn watch(
    firewall: &mut Firewall,
    reporter: &mut Reporter,
    enforced: &Enforced<'_>,
    mut signals: UnixStream,
    follow: bool,
) -> anyhow::Result<()> {
    let timeout =
        follow.then(|| Timespec { tv_sec: LOOK_AGAIN.as_secs().cast_signed(), tv_nsec: 0 });
    loop {
        drain(firewall, reporter, enforced);
        let woken = {
            let source = firewall.event_source();
            let mut sources = [
                PollFd::new(&source, PollFlags::IN),
                PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            ];
            match poll(&mut sources, timeout.as_ref()) {
                Ok(woken) => woken,
                Err(rustix::io::Errno::INTR) => 0,
                Err(errno) => return Err(errno).context("wait for events"),
            }
        };
        if signals.read(&mut [0; 16]).is_ok_and(|count| count > 0) {
            drain(firewall, reporter, enforced);
            return Ok(());
        }
        if follow && woken == 0 {
            join_new(firewall);
        }
    }
}

fn drain(firewall: &mut Firewall, reporter: &mut Reporter, enforced: &Enforced<'_>) {
    while let Some(mut event) = firewall.next_event() {
        if event.door == Door::Tripwire {
            let Some(tripped) = tripwire::follow(&event, enforced.image.lines()) else { continue };
            event.local = tripped.socket.local;
            event.remote = tripped.socket.remote;
            event.decision = tripped.decision;
            if let Some(Err(error)) = tripped.ended {
                eprintln!("fwnet: tripwire: {:#}", anyhow::Error::from(error));
            }
        }
        if reporter.closed() {
            continue;
        }
        let owner = listener_of(firewall, &event);
        let number = usize::from(event.decision.enforced.rule.0);
        let rule = enforced.rules.rules.get(number).map_or("damaged image", |rule| &rule.id);
        reporter.event(&event, owner, rule, enforced.rules.version);
    }
}

fn listener_of(firewall: &Firewall, event: &Event) -> Option<verdict::abi::Owner> {
    match event.owner {
        Some(_) => None,
        None => firewall.listener(event),
    }
}

/// Network namespaces that appeared since the last look.
fn join_new(firewall: &mut Firewall) {
    for found in Netns::found() {
        if firewall.namespaces().iter().any(|known| known.inode() == found.inode()) {
            continue;
        }
        let name = found.name().to_owned();
        if let Err(error) = firewall.join(found) {
            eprintln!("fwnet: inbound is not judged in {name}: {:#}", anyhow::Error::from(error));
        }
    }
}

/// Restores, and reports what was removed and what was counted.
fn finish(firewall: Firewall, rules: &RuleSet) {
    let hits = firewall.hits();
    let lost = firewall.lost();
    for (rule, hits) in rules.rules.iter().zip(&hits) {
        if rule.verdict == verdict::Verdict::Deny && hits.enforced > 0 {
            let direction = match rule.direction {
                verdict::Direction::Out => "out",
                verdict::Direction::In => "in",
            };
            eprintln!("fwnet: {} {direction}: denied {} times", rule.id, hits.enforced);
        }
    }
    if lost.limited + lost.overrun > 0 {
        eprintln!(
            "fwnet: {} events not shown: {} over the rate limit, {} with the buffer full",
            lost.limited + lost.overrun,
            lost.limited,
            lost.overrun
        );
    }
    for (hook, target) in firewall.detach() {
        eprintln!("fwnet: removed {} from {target}", hook.name);
    }
}
