//! `fwnet up`: hands rules over to an agent, starts it, and says what it enforces.

mod join;
mod signed;

use std::{
    fs::{self, OpenOptions},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use agent::{
    edition::{Applied, Edition},
    store::{Stance, Taken},
};
use anyhow::{Context, anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use kernel::require_privilege;

use self::{
    join::Joining,
    signed::{First, Signing},
};
use super::status;
use crate::{
    agent::{
        kept::{Kept, Settled},
        paths::Paths,
    },
    api::{CallError, Client, routes::status::Status},
    cli::Output,
    place::Place,
    rules::{self, Rules},
    seeing::outputs::Outputs,
    session,
};

/// Command line of `fwnet up`.
#[derive(Debug, Args)]
pub(crate) struct Typed {
    #[command(flatten)]
    rules: Rules,
    #[command(flatten)]
    signed: Signing,
    #[command(flatten)]
    joining: Joining,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    paths: Paths,
    /// Group whose members may use the socket (default: root's)
    #[arg(long, value_name = "GROUP")]
    socket_group: Option<String>,
    /// Group whose members may look, and change nothing
    #[arg(long, value_name = "GROUP")]
    read_group: Option<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The unit of the agent, where the package installed it.
pub(crate) const UNIT: &str = "fwnet-agent.service";
/// An agent that has not answered by then is not going to.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// How often it is asked.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// What a detached agent prints is found here, in its state directory.
const LOG: &str = "agent.log";
/// How lines of ours begin there.
const OWN: &str = "fwnet: ";

/// Returns once the agent enforces and answers.
pub(crate) fn run(typed: &Typed) -> anyhow::Result<ExitCode> {
    require_privilege("fwnet up")?;
    let client = Client::new(&typed.paths.socket)?;
    if let Ok(status) = client.get::<Status>("/v1/status") {
        bail!(
            "an agent (process {}) enforces already: change its policy with fwnet apply, or end it with fwnet down",
            status.pid
        );
    }
    settle(typed)?;
    // It works in another directory.
    let paths = typed.paths.absolute().context("find --state, --bpffs and --socket")?;
    let mut agent = start(&paths)?;
    let status = answer(&client, agent.as_mut(), &paths)?;
    status::print(&status, typed.output)?;
    Ok(ExitCode::SUCCESS)
}

impl Typed {
    /// What the agent is told besides the rules.
    fn settled(&self) -> anyhow::Result<Settled> {
        Ok(Settled {
            place: Place { count_flows: !self.outputs.no_flows, ..self.place.clone() },
            socket_group: self.socket_group.clone(),
            read_group: self.read_group.clone(),
            outputs: self.outputs.settled()?,
        })
    }
}

/// Keeps what the agent is to begin with. Rules that do not compile are refused here. Without rules, those that are
/// there already are meant.
fn settle(typed: &Typed) -> anyhow::Result<()> {
    let by = Applied {
        at: Timestamp::now(),
        uid: rustix::process::getuid().as_raw(),
        session: session::own(),
    };
    if typed.joining.wanted() {
        typed.joining.settle(&typed.paths.state, typed.settled()?, &by)?;
    }
    let mut kept = Kept::open(&typed.paths.state)?;
    let store = &mut kept.store;
    let known = store.state().current.is_some() && store.state().place.is_some();
    // A member's policy comes from its fleet.
    let named = typed.rules.named() || typed.signed.named();
    let member = known && !named && join::is_member(&typed.paths.state)?;
    let first = match member {
        true => None,
        false => typed.signed.first(&typed.rules, store, known, by.at)?,
    };
    if let Some(First { rules, signed, trusted }) = first {
        let version = store.next_version();
        let addresses = typed.place.addresses()?;
        let inbound = typed.place.inbound.into();
        rules::bare(&rules, inbound, &addresses, version, by.at)?.ready()?;
        // What is not there is said before anything is kept.
        typed.place.attachments(false)?;
        store.set_place(typed.settled()?)?;
        // What was seen stands on disk before what was verified by it.
        if let Some(trusted) = trusted {
            store.set_trusted(trusted)?;
        }
        store.commit(Edition { version, rules, applied: by.clone(), signed })?;
    }
    if store.state().stance.as_ref().is_some_and(|taken| taken.stance == Stance::Open) {
        store.set_stance(Taken { stance: Stance::Policy, by })?;
    }
    Ok(())
}

/// A detached agent.
struct Started {
    child: Child,
    /// Whether systemd-run(1) was asked to start it.
    in_scope: bool,
}

/// Starts the service where there is one for these paths; else a process of its own session, which is returned.
fn start(paths: &Paths) -> anyhow::Result<Option<Started>> {
    if paths.are_default() && service_installed() {
        let status = Command::new("systemctl").args(["start", UNIT]).status();
        return match status.context("run systemctl")?.success() {
            true => Ok(None),
            false => bail!("{UNIT} does not start: see journalctl -u {UNIT}"),
        };
    }
    if in_login_session() {
        match detached(paths, true) {
            Ok(child) => return Ok(Some(Started { child, in_scope: true })),
            Err(error) => stays(&error),
        }
    }
    Ok(Some(Started { child: detached(paths, false)?, in_scope: false }))
}

/// Whether this process belongs to a login: systemd(1) ends whatever is left of one with KillUserProcesses=yes
/// (logind.conf(5)), whoever its parent is.
fn in_login_session() -> bool {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    path.split('/').any(|name| {
        let of = |kind: &str, end: &str| name.starts_with(kind) && name.ends_with(end);
        of("session-", ".scope") || of("user@", ".service")
    })
}

fn stays(why: &anyhow::Error) {
    eprintln!(
        "fwnet: the agent stays in the cgroup of this login, and may end with it: {why:#}. What it enforces goes on \
         without it"
    );
}

/// Starts an agent that does not end with this process; `in_scope` in a scope of its own beside the services.
fn detached(paths: &Paths, in_scope: bool) -> anyhow::Result<Child> {
    let path = paths.state.join(LOG);
    let context = || path.display().to_string();
    let log = OpenOptions::new().create(true).append(true).open(&path).with_context(context)?;
    let program = std::env::current_exe().context("find this program")?;
    let mut command = if in_scope {
        // It becomes the program once systemd has moved it.
        let mut command = Command::new("systemd-run");
        command.args(["--scope", "--quiet", "--collect", "--slice=system.slice"]);
        command.args(["--description=fwnet agent", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    let agent = command
        .arg("agent")
        .args(paths.arguments())
        .arg("--detached")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn();
    agent.context(if in_scope { "systemd-run" } else { "start the agent" })
}

/// Whether systemd runs here and knows the unit.
fn service_installed() -> bool {
    let known = ["cat", UNIT];
    sd_notify::booted().unwrap_or(false)
        && Command::new("systemctl")
            .args(known)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

/// Waits until the agent answers.
fn answer(
    client: &Client,
    mut agent: Option<&mut Started>,
    paths: &Paths,
) -> anyhow::Result<Status> {
    let start = Instant::now();
    loop {
        match client.get::<Status>("/v1/status") {
            Ok(status) => return Ok(status),
            // One that cannot begin hangs up.
            Err(
                CallError::NoAgent(_)
                | CallError::Ended(_)
                | CallError::Http(_)
                | CallError::Socket { .. },
            ) if start.elapsed() < ANSWER_DEADLINE => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(agent) = &mut agent
            && let Some(status) = agent.child.try_wait()?
        {
            let log = fs::read_to_string(paths.state.join(LOG)).unwrap_or_default();
            let last = log.lines().next_back();
            // Its own last words begin with its name: these are of systemd-run.
            if agent.in_scope && !status.success() && !last.is_some_and(|it| it.starts_with(OWN)) {
                stays(&anyhow!("systemd-run: {}", last.unwrap_or("no word")));
                **agent = Started { child: detached(paths, false)?, in_scope: false };
                continue;
            }
            match last {
                Some(last) => bail!("the agent ended: {}", last.trim_start_matches(OWN)),
                None => bail!("the agent ended ({status})"),
            }
        }
        thread::sleep(ASK_AGAIN);
    }
}
