//! `fwnet run`: enforce in the foreground, print events, and put everything back at the end.

use std::{collections::BTreeMap, process::ExitCode};

use clap::Args;
use kernel::{AttachError, Firewall, Hook, require_privilege};

use crate::{
    cli::Output,
    enforce::{Enforcement, Signals},
    orders::count,
    own::OwnAddresses,
    place::{InboundFlag, Place},
    report::{Format, Reporter},
    rules::Rules,
};

/// Command line of `fwnet run`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    #[command(flatten)]
    rules: Rules,
    /// 0: print denials; 1: every connection; 2: also what is attached where
    #[arg(long, value_name = "0|1|2", default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(u8).range(0..=2))]
    debug: u8,
    #[command(flatten)]
    place: Place,
    /// Whose field names JSON has
    #[arg(long, value_enum, default_value_t = Format::Ecs)]
    format: Format,
    /// How to print events
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Runs until SIGINT or SIGTERM.
pub(crate) fn run(typed: Typed) -> anyhow::Result<ExitCode> {
    let orders = typed.rules.orders(typed.place.inbound.into())?;
    // Lists do not speak of this host.
    let own = match typed.rules.files.named() {
        true => OwnAddresses::begin(&typed.place)?,
        false => OwnAddresses::default(),
    };
    let ready = orders.read(&own.seen, 1)?;
    require_privilege("fwnet run")?;
    let signals = Signals::catch()?;
    let report_allowed = typed.debug >= 1;
    let enforcement = Enforcement {
        firewall: Firewall::load(&ready.image, typed.place.attachments(report_allowed)?)?,
        reporter: Reporter::new(typed.output, typed.format, typed.debug),
        orders,
        place: typed.place.clone(),
        report_allowed,
        own,
        ready,
        before: None,
        counted: BTreeMap::new(),
    };
    until_signal(enforcement, &typed, &signals)
}

fn until_signal(
    mut enforcement: Enforcement,
    typed: &Typed,
    signals: &Signals,
) -> anyhow::Result<ExitCode> {
    enforcement.meet_strangers();
    announce(typed, &enforcement);
    enforcement.tell_notes();
    enforcement.reporter.parameters(&parameters(typed));
    enforcement.watch(signals)?;
    enforcement.finish();
    Ok(ExitCode::SUCCESS)
}

/// The one line on standard error that says enforcement has begun, and with `--debug 2` what is where.
fn announce(typed: &Typed, enforcement: &Enforcement) {
    let firewall = &enforcement.firewall;
    let inbound = match (typed.place.inbound, firewall.namespaces()) {
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
    if typed.place.accept_errno.is_some() && !firewall.refuses_accept() {
        eprintln!(
            "fwnet: --accept-errno: this kernel runs no security programs (fwnet doctor): a denied port is refused to bind()"
        );
    }
    for (reason, hooks) in by_reason(firewall.open_hooks()) {
        eprintln!("fwnet: not in place: {hooks} ({reason}); `fwnet doctor` says what is open");
    }
}

/// The names of hooks that are not in place, those together that are so for one reason.
fn by_reason(open: &[(&Hook, AttachError)]) -> Vec<(String, String)> {
    let mut told: Vec<(String, String)> = Vec::new();
    for (hook, error) in open {
        let reason = error.reason();
        match told.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, hooks)) => {
                hooks.push_str(", ");
                hooks.push_str(hook.name);
            }
            None => told.push((reason, hook.name.to_owned())),
        }
    }
    told
}

/// What the module printed when it was loaded.
fn parameters(typed: &Typed) -> Vec<String> {
    if typed.rules.files.named() {
        return Vec::new();
    }
    let mut lines: Vec<String> =
        typed.rules.deny.iter().map(|prefix| format!("denied IP: {}", prefix.text)).collect();
    if lines.is_empty() {
        lines.push("denied IP: no".into());
    }
    lines.extend(typed.rules.port.iter().map(|ports| format!("denied TCP port: {ports}")));
    lines
}
