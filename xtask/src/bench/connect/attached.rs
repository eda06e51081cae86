//! Attaching a contender around the measured processes, and taking it away again.

use std::fs::File;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use aya::Ebpf;
use rustix::process::Signal;
use testbed::Running;

use super::contender::{Contender, Decider, Filter, Tries, Ways};
use super::deciders::{self, Audit};
use super::empty;
use super::files::denied;
use super::own_time::{self, OwnTime};
use super::stage::{Both, Clients, DEADLINE, Stage};
use super::tries::Decision;
use crate::bench::resident::Resident;
use crate::bench::tries::Pins;
use crate::step;

/// The three rules, for `fwnet run`.
const FLAGS: &str = "--deny 192.168.56.101 --deny 198.51.100.0/24 --port 10000";
/// The rule of iptables that asks an ipset.
const IPSET_RULE: [&str; 9] =
    ["OUTPUT", "-m", "set", "--match-set", "all", "dst", "-j", "DROP", "-w"];

/// What is attached now.
pub(super) enum Attached {
    Nothing,
    /// Detached when dropped; the program's id and name.
    Program(Box<Ebpf>, u32, &'static str),
    /// The process, and its programs' ids and names.
    Fwnet(Running, Vec<(u32, String)>),
    /// The agent, and its programs' ids and names.
    Agent(Resident, Vec<(u32, String)>),
    /// In the namespace: an nftables ruleset.
    Ruleset,
    /// In the namespace: a rule of iptables, and an ipset.
    Ipset,
    /// In the namespace: a rule of iptables, and who takes from its queue.
    Queue(Running),
    /// Measured processes of its own.
    Notified(Clients),
    /// And measured processes that began after it: the kernel audits none that began before anything was audited on the
    /// machine (`audit_alloc` in kernel/auditsc.c).
    Audit(Audit, Clients),
    OpenSnitch(Running),
}

impl Attached {
    /// Attaches `contender`.
    pub(super) fn attach(contender: Contender, stage: &Stage) -> Result<Self> {
        match contender {
            Contender::Control => Ok(Self::Nothing),
            Contender::Empty => {
                let (program, id) = empty::attach(stage.host.cgroup.path())?;
                Ok(Self::Program(Box::new(program), id, empty::NAME))
            }
            Contender::Million(_) | Contender::Inbound | Contender::Agent => {
                agent(stage, contender)
            }
            Contender::Tries(kind) => tries(stage, kind),
            Contender::Nftables => ruleset(stage, &stage.files.small("rules.nft")),
            Contender::Filter(Filter::Ipset(_)) => ipset(stage, contender),
            Contender::Filter(filter) => ruleset(stage, &stage.files.filter(filter)),
            Contender::Input(filter) => ruleset(stage, &stage.files.input(filter)),
            Contender::Decider(Decider::Queue) => Ok(Self::Queue(deciders::queue(stage)?)),
            Contender::Decider(Decider::Notify) => Ok(Self::Notified(deciders::notified(stage)?)),
            Contender::Decider(Decider::Audit) => {
                Ok(Self::Audit(Audit::begin(stage)?, deciders::audited(stage)?))
            }
            Contender::Decider(Decider::OpenSnitch) => {
                Ok(Self::OpenSnitch(deciders::opensnitch(stage)?))
            }
            Contender::Fwnet | Contender::Processes | Contender::Only(_) | Contender::Told => {
                run(stage, contender)
            }
        }
    }

    /// The time that each program itself took, by the kernel's own count, while `work` made as many connections as it says.
    pub(super) fn own_times(
        &self,
        work: impl FnOnce() -> Result<u64>,
    ) -> Result<Vec<(String, OwnTime)>> {
        match self {
            Self::Program(_, id, name) => own_time::during(&[(*id, (*name).to_owned())], work),
            Self::Fwnet(_, programs) | Self::Agent(_, programs) => own_time::during(programs, work),
            Self::Nothing
            | Self::Ruleset
            | Self::Ipset
            | Self::Queue(_)
            | Self::Notified(_)
            | Self::Audit(..)
            | Self::OpenSnitch(_) => Ok(Vec::new()),
        }
    }

    /// Measures connections with it.
    pub(super) fn time(&mut self, stage: &mut Stage, cycles: u64) -> Result<Both> {
        if let Self::Notified(clients) | Self::Audit(_, clients) = self {
            clients.time(cycles)
        } else {
            stage.time(cycles)
        }
    }

    /// How the probe of a denied address ends with it; who refuses nobody must have told of what was measured.
    pub(super) fn probe(&self, stage: &Stage) -> Result<i32> {
        if let Self::Notified(_) = self {
            let decider = stage.rival("seccomp")?.display().to_string();
            return stage.probe_through(&[&decider, &denied()]);
        }
        if let Self::Audit(audit, _) = self {
            audit.told()?;
        }
        stage.probe()
    }

    /// Takes it away.
    pub(super) fn detach(self, stage: &Stage) -> Result<()> {
        match self {
            Self::Nothing => {}
            Self::Program(program, ..) => drop(program),
            Self::Agent(resident, _) => drop(resident),
            Self::Ruleset => {
                step::run(stage.host.namespace.command("nft").args(["flush", "ruleset"]))?;
            }
            Self::Ipset => {
                let mut iptables = stage.host.namespace.command("iptables-legacy");
                step::run(iptables.arg("-D").args(IPSET_RULE))?;
                step::run(stage.host.namespace.command("ipset").args(["destroy", "all"]))?;
            }
            Self::Queue(decider) => {
                deciders::unqueue(stage)?;
                drop(decider);
            }
            Self::Notified(clients) => drop(clients),
            Self::Audit(audit, clients) => drop((clients, audit)),
            Self::OpenSnitch(daemon) => deciders::end_opensnitch(stage, daemon)?,
            Self::Fwnet(mut firewall, _) => {
                firewall.signal(Signal::INT);
                let status = firewall.wait(DEADLINE);
                if !status.success() {
                    bail!("fwnet run ended with {status}: {}", firewall.lines().join("; "));
                }
            }
        }
        Ok(())
    }
}

fn ruleset(stage: &Stage, file: &std::path::Path) -> Result<Attached> {
    step::run(stage.host.namespace.command("nft").arg("-f").arg(file))?;
    Ok(Attached::Ruleset)
}

fn ipset(stage: &Stage, contender: Contender) -> Result<Attached> {
    let Contender::Filter(filter) = contender else { bail!("{contender:?} is no packet filter") };
    let file = stage.files.filter(filter);
    let elements = File::open(&file).with_context(|| format!("open {}", file.display()))?;
    let mut restore = stage.host.namespace.command("ipset");
    let status = restore.arg("restore").stdin(Stdio::from(elements)).status();
    ensure!(status.context("start ipset")?.success(), "ipset restore < {}", file.display());
    let mut iptables = stage.host.namespace.command("iptables-legacy");
    if let Err(error) = step::run(iptables.arg("-A").args(IPSET_RULE)) {
        step::run(stage.host.namespace.command("ipset").args(["destroy", "all"]))?;
        return Err(error);
    }
    Ok(Attached::Ipset)
}

/// An agent whose policy allows everything, and whose list has the million prefixes.
fn agent(stage: &Stage, contender: Contender) -> Result<Attached> {
    let policy = stage.files.small("open.fw").display().to_string();
    let mut flags = Vec::new();
    if contender != Contender::Agent {
        flags.push("--no-flows");
    }
    if contender == Contender::Million(Ways::Out) {
        flags.extend(["--inbound", "off"]);
    }
    // Outbound is judged by cgroup and inbound by namespace: with an empty cgroup, only the latter.
    let cgroup = if contender == Contender::Inbound { &stage.empty } else { &stage.host.cgroup };
    let resident = stage.residence.up_at(cgroup, &stage.host.namespace, &policy, &flags)?;
    let list = stage.files.list().display().to_string();
    stage.residence.fwnet(&["list", "import", "--once", &list])?;
    let links = own_time::links_of(stage.residence.pid()?)?;
    let mut programs: Vec<_> = links.into_iter().map(|link| link.program).collect();
    programs.dedup();
    Ok(Attached::Agent(resident, programs))
}

/// A program that looks up in tries; it keeps those that it uses.
fn tries(stage: &Stage, kind: Tries) -> Result<Attached> {
    let pins = Pins::mount(stage.residence.directory())?;
    let decision = Decision::fill(&pins, kind, &stage.files.million)?;
    let name = "tries";
    let (program, id) = empty::attach_code(stage.host.cgroup.path(), name, &decision.program())?;
    Ok(Attached::Program(Box::new(program), id, name))
}

/// `fwnet run`, with the programs that the contender keeps.
fn run(stage: &Stage, contender: Contender) -> Result<Attached> {
    // What it prints of each connection goes where most users of a terminal would send it.
    let mut command = stage.desk.command("sh");
    command.args(["-c", "exec \"$0\" \"$@\" > /dev/null"]).arg(&stage.fwnet);
    command.arg("run").arg("--cgroup").arg(stage.host.cgroup.path());
    match contender {
        Contender::Processes | Contender::Only("sock_create") => {
            command.arg("--policy").arg(stage.files.small("processes.fw"));
        }
        Contender::Told => {
            command.args(FLAGS.split(' ')).args(["--debug", "1"]);
        }
        Contender::Fwnet | Contender::Only(_) => {
            command.args(FLAGS.split(' '));
        }
        Contender::Control
        | Contender::Empty
        | Contender::Million(_)
        | Contender::Inbound
        | Contender::Agent
        | Contender::Nftables
        | Contender::Filter(_)
        | Contender::Input(_)
        | Contender::Tries(_)
        | Contender::Decider(_) => bail!("{contender:?} is no fwnet run"),
    }
    command.arg("--netns").arg(stage.host.namespace.name());
    let firewall = Running::start(command);
    firewall.wait_for_line("fwnet: enforcing", DEADLINE);
    let links = own_time::links_of(firewall.pid())?;
    let (kept, others): (Vec<_>, Vec<_>) =
        links.into_iter().partition(|link| contender.keeps(&link.program.1));
    for link in others {
        let id = link.id.to_string();
        step::run(Command::new("bpftool").args(["link", "detach", "id", &id]))?;
    }
    if kept.is_empty() {
        bail!("fwnet run attaches no program of the name in {contender:?}");
    }
    let mut programs: Vec<_> = kept.into_iter().map(|link| link.program).collect();
    programs.dedup();
    Ok(Attached::Fwnet(firewall, programs))
}
