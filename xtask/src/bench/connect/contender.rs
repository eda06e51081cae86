//! What is attached around the measured process, one at a time, and the process itself.

use super::empty;
use super::own_time::{self, OwnTime};
use crate::bench::sample::Sample;
use crate::programs::Programs;
use crate::{step, workspace};
use anyhow::{Context as _, Result, bail};
use aya::Ebpf;
use rustix::process::Signal;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use testbed::{Cgroup, Host, Running};

/// Where the measured process connects: no rule names it.
const ADDRESS: &str = "127.0.0.1";
const PORT: &str = "60000";
/// An address of the namespace that the second rule denies.
const DENIED: &str = "198.51.100.1";
/// Nothing that works takes nearly as long.
const DEADLINE: Duration = Duration::from_secs(60);

/// The three rules, for `fwnet run`.
const FLAGS: &str = "--deny 192.168.56.101 --deny 198.51.100.0/24 --port 10000";
/// The same rules as a policy, with a fourth that asks for a process: what makes sockets be stamped with their owner.
const POLICY: &str = "\
tier team
mode enforce
failsafe none
deny any -> 192.168.56.101
deny 192.168.56.101 -> any
deny any -> 198.51.100.0/24
deny 198.51.100.0/24 -> any
deny any -> any : tcp/10000
deny me[user=nobody] -> any : tcp/9
";
/// The same three rules, both ways, for nftables.
const RULESET: &str = "\
table inet rules {
    chain out {
        type filter hook output priority 0;
        ip daddr 192.168.56.101 drop
        ip daddr 198.51.100.0/24 drop
        tcp dport 10000 drop
    }
    chain in {
        type filter hook input priority 0;
        ip saddr 192.168.56.101 drop
        ip saddr 198.51.100.0/24 drop
        tcp dport 10000 drop
    }
}
";

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    /// Nothing, treated as the others are: what it shows is the noise.
    Control,
    /// A program that allows and does nothing else, at connect4.
    Empty,
    /// All of `fwnet run`.
    Fwnet,
    /// `fwnet run` with only one of its programs left attached.
    Only(&'static str),
    /// `fwnet run` with a rule that asks for a process.
    Processes,
    /// nftables, in the namespace.
    Nftables,
}

impl Contender {
    /// In the order of a round. The programs are those that a connection to a listening server meets: the bind and
    /// sendmsg hooks never run in it.
    pub(super) const ALL: [Self; 9] = [
        Self::Control,
        Self::Empty,
        Self::Only("connect4"),
        Self::Only("sock_create"),
        Self::Only("sock_release"),
        Self::Only("lookup"),
        Self::Fwnet,
        Self::Processes,
        Self::Nftables,
    ];

    /// Its name in the table.
    pub(super) fn name(self) -> String {
        match self {
            Self::Control => "nothing attached, again (control)".to_owned(),
            Self::Empty => "an empty program at cgroup/connect4".to_owned(),
            Self::Fwnet => "fwnet, 3 rules".to_owned(),
            Self::Only(program) => format!("fwnet, only {}", hook(program)),
            Self::Processes => "fwnet, and a rule about a process".to_owned(),
            Self::Nftables => "nftables, the same 3 rules".to_owned(),
        }
    }

    /// Whether its programs' own time is counted: the whole firewall's, and the empty program's to subtract.
    pub(super) fn counted(self) -> bool {
        matches!(self, Self::Empty | Self::Fwnet)
    }

    /// How tcpcli must end that tries the denied address: 0 connected, 1 EACCES, 2 a reset, 3 no
    /// answer: a packet filter that drops says nothing.
    pub(super) fn probe_code(self) -> i32 {
        match self {
            Self::Fwnet | Self::Processes | Self::Only("connect4") => 1,
            Self::Only("lookup") => 2,
            Self::Nftables => 3,
            Self::Control | Self::Empty | Self::Only(_) => 0,
        }
    }

    fn keeps(self, program: &str) -> bool {
        match self {
            Self::Only(kept) => program == kept,
            Self::Control | Self::Empty | Self::Fwnet | Self::Processes | Self::Nftables => true,
        }
    }
}

/// The name by which the kernel's documentation knows the hook of a program.
fn hook(program: &str) -> String {
    if program == "lookup" { "sk_lookup".to_owned() } else { format!("cgroup/{program}") }
}

/// What is attached now.
pub(super) enum Attached {
    Nothing,
    /// Detached when dropped; the program's id.
    Empty(Box<Ebpf>, u32),
    /// The process, and its programs' ids and names.
    Fwnet(Running, Vec<(u32, String)>),
    Nftables,
}

impl Attached {
    /// The time that each program itself took, by the kernel's own count, while `work` ran.
    pub(super) fn own_times(
        &self,
        work: impl FnOnce() -> Result<Sample>,
    ) -> Result<Vec<(String, OwnTime)>> {
        match self {
            Self::Nothing | Self::Nftables => Ok(Vec::new()),
            Self::Empty(_, program) => own_time::during(&[(*program, "empty".to_owned())], work),
            Self::Fwnet(_, programs) => own_time::during(programs, work),
        }
    }
}

/// The namespace and cgroup that are measured in, and the measured process.
pub(super) struct Bench {
    // Programs end before what they live in.
    measured: Running,
    _denied: Running,
    host: Host,
    /// Where `fwnet run` lives: not where it judges.
    desk: Cgroup,
    fwnet: PathBuf,
    tcpcli: PathBuf,
    ruleset: PathBuf,
    policy: PathBuf,
}

impl Bench {
    pub(super) fn set(programs: &Programs, cpu: u16) -> Result<Self> {
        let host = Host::new();
        host.namespace.add_address("lo", &format!("{DENIED}/32"));
        let ruleset = workspace::scratch().join("bench/rules.nft");
        fs::create_dir_all(workspace::scratch().join("bench")).context("make a directory")?;
        fs::write(&ruleset, RULESET).context("write the rules for nft")?;
        let policy = workspace::scratch().join("bench/rules.fw");
        fs::write(&policy, POLICY).context("write the rules as a policy")?;
        let cpu = cpu.to_string();
        let measured =
            host.start(programs.path("tcpcost")?, ["-h", ADDRESS, "-p", PORT, "--cpu", &cpu]);
        let denied = host.start(programs.path("tcpserv")?, ["-h", DENIED, "-p", PORT]);
        let bench = Self {
            measured,
            _denied: denied,
            host,
            desk: Cgroup::new(),
            fwnet: programs.path("fwnet")?.to_owned(),
            tcpcli: programs.path("tcpcli")?.to_owned(),
            ruleset,
            policy,
        };
        testbed::wait_until(DEADLINE, "the server to be probed", || matches!(bench.probe(), Ok(0)));
        Ok(bench)
    }

    /// Measures `cycles` connections, whatever is attached.
    pub(super) fn time(&mut self, cycles: u64) -> Result<Sample> {
        let seen = self.measured.lines().len();
        self.measured.write_line(&cycles.to_string());
        let line = self.measured.wait_for_line_after(seen, "{", DEADLINE);
        serde_json::from_str(&line).with_context(|| format!("the measurement {line}"))
    }

    /// Tries the denied address; how tcpcli ended.
    pub(super) fn probe(&self) -> Result<i32> {
        let mut probe = self.host.command(&self.tcpcli);
        probe.args(["-h", DENIED, "-p", PORT, "--timeout", "1"]).stdin(std::process::Stdio::null());
        let output = probe.output().context("start the probe")?;
        output.status.code().context("the probe was killed")
    }

    pub(super) fn attach(&self, contender: Contender) -> Result<Attached> {
        match contender {
            Contender::Control => Ok(Attached::Nothing),
            Contender::Empty => {
                let (program, id) = empty::attach(self.host.cgroup.path())?;
                Ok(Attached::Empty(Box::new(program), id))
            }
            Contender::Nftables => {
                let mut nft = self.host.namespace.command("nft");
                step::run(nft.arg("-f").arg(&self.ruleset))?;
                Ok(Attached::Nftables)
            }
            Contender::Fwnet | Contender::Processes | Contender::Only(_) => {
                let mut command = self.desk.command(&self.fwnet);
                command.arg("run");
                if matches!(contender, Contender::Processes | Contender::Only("sock_create")) {
                    command.arg("--policy").arg(&self.policy);
                } else {
                    command.args(FLAGS.split(' '));
                }
                command.arg("--cgroup").arg(self.host.cgroup.path());
                command.arg("--netns").arg(self.host.namespace.name());
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
        }
    }

    pub(super) fn detach(&self, attached: Attached) -> Result<()> {
        match attached {
            Attached::Nothing => Ok(()),
            Attached::Empty(program, _) => {
                drop(program);
                Ok(())
            }
            Attached::Nftables => {
                step::run(self.host.namespace.command("nft").args(["flush", "ruleset"]))
            }
            Attached::Fwnet(mut firewall, _) => {
                firewall.signal(Signal::INT);
                let status = firewall.wait(DEADLINE);
                if !status.success() {
                    bail!("fwnet run ended with {status}: {}", firewall.lines().join("; "));
                }
                Ok(())
            }
        }
    }
}
