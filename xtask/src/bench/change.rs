//! `cargo xtask bench change`: how long it takes until a change of the rules is in force, from the command's start.
//!
//! ```text
//! command starts ........ first connection refused ........ command ends
//!                visible                            answered
//! ```
//!
//! A thread connects all the time to an address that nobody listens at: while it is allowed the kernel answers with a
//! reset, and the first attempt that gets another answer, or none, shows the change. A whole list is seen by an address that only its last prefix covers.

mod figures;
mod tries;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use testbed::Host;

use super::prefixes::{self, DENIED, Prefix, Shape};
use super::publish;
use super::resident::Residence;
use crate::packages::{self, Need, Package};
use crate::programs::Programs;
use crate::step::{self, timed};
use crate::supervise::supervised;
use figures::{Change, Figures};

const NEEDS: &[Need] = &[
    Need {
        program: "ip",
        package: Package { name: "iproute2", why: "the namespace that is measured in" },
    },
    Need { program: "nft", package: Package { name: "nftables", why: "what is compared with" } },
    Need {
        program: "iptables-legacy",
        package: Package { name: "iptables", why: "what is compared with" },
    },
    Need { program: "ipset", package: Package { name: "ipset", why: "what is compared with" } },
    Need {
        program: "bpftool",
        package: Package { name: "bpftool", why: "making a trie of the kernel's to fill" },
    },
];

/// Nothing that works takes nearly as long.
const DEADLINE: Duration = Duration::from_secs(120);
/// A reset comes inside connect() here: what has not come by then was dropped.
const SILENCE: Duration = Duration::from_millis(500);
/// A port where nobody listens.
const PORT: u16 = 60_000;
/// The prefix that is added, and an address in it. No list has it.
const ADDED: &str = "203.0.113.0/24";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const POLICY: &str = "tier team\nmode enforce\nfailsafe none\nallow any -> any : tcp/60000\n";
const MILLION: usize = 1_000_000;
const NETWORKS: usize = 100_000;

/// Measure how long a change takes until it is in force: one prefix, and a million; beside others (as root)
#[derive(clap::Args)]
pub struct Changes {
    /// Rounds; each measures every change once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Take all programs from this directory instead of building them
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<std::path::PathBuf>,
}

impl Changes {
    /// Measures, prints the table and writes the figures as JSON.
    pub(super) fn run(&self) -> ExitCode {
        supervised(|| {
            timed("packages", || packages::provide(NEEDS))?;
            let built = self.programs.as_deref();
            let programs = Programs::built_or(built, "programs", || Programs::release(&["fwnet"]))?;
            let rivals = Programs::built_or(built, "rivals' programs", Programs::rivals)?;
            let stage = timed("lists", || Stage::set(&programs, rivals))?;
            let mut rounds = Vec::new();
            for number in 1..=self.rounds {
                let what = format!("round {number} of {}", self.rounds);
                rounds.push(timed(&what, || stage.round())?);
            }
            let figures = Figures::of(&rounds);
            publish("change", &figures, &figures.table())
        })
    }
}

/// Where it happens, and the lists.
struct Stage {
    host: Host,
    residence: Arc<Residence>,
    rivals: Programs,
}

impl Stage {
    fn set(programs: &Programs, rivals: Programs) -> Result<Self> {
        let host = Host::new();
        let mut everywhere = host.namespace.command("ip");
        step::run(everywhere.args(["route", "add", "local", "0.0.0.0/0", "dev", "lo"]))?;
        let residence = Residence::new(programs)?;
        let million = prefixes::list(Shape::Threats, MILLION, 1);
        prefixes::write(&residence.directory().join("million.txt"), &million)?;
        std::fs::write(residence.directory().join("open.fw"), POLICY).context("write a policy")?;
        let stage = Self { host, residence, rivals };
        let networks = prefixes::list(Shape::Networks, NETWORKS, 2);
        stage.write("set.nft", &set(&networks))?;
        stage.write("set.ipset", &ipset(&networks))?;
        Ok(stage)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.residence.directory().join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    fn round(&self) -> Result<Vec<Change>> {
        let mut changes = self.ours().context("fwnet")?;
        changes.extend(self.nftables().context("nftables")?);
        changes.extend(self.ipset().context("ipset")?);
        let directory = self.residence.directory();
        let list = directory.join("million.txt");
        changes.push(tries::filled(&self.rivals, directory, &list, MILLION).context("a trie")?);
        Ok(changes)
    }

    fn ours(&self) -> Result<Vec<Change>> {
        let file = |name: &str| self.residence.directory().join(name).display().to_string();
        let (policy, list) = (file("open.fw"), file("million.txt"));
        let resident = self.residence.up(&self.host, &policy, &[])?;
        let fwnet = |words: &[&str]| self.residence.fwnet(words).map(drop);
        let add: &[&str] = &["deny", "add", ADDED];
        let remove: &[&str] = &["deny", "rm", ADDED];
        let small = self.watch("fwnet deny add, nothing else in force", ADDRESS, || fwnet(add))?;
        fwnet(remove)?;
        let import = self.watch("fwnet list import, 1,000,000 prefixes", DENIED, || {
            fwnet(&["list", "import", "--once", &list])
        })?;
        let large = self.watch("fwnet deny add, 1,000,000 in force", ADDRESS, || fwnet(add))?;
        fwnet(remove)?;
        // The agent's directory outlives it, and would bring the list back.
        fwnet(&["list", "rm", "million"])?;
        drop(resident);
        Ok(vec![small, large, import])
    }

    fn nftables(&self) -> Result<Vec<Change>> {
        let file = self.residence.directory().join("set.nft");
        let nft = || self.host.namespace.command("nft");
        let load = self.watch("nft -f, interval set of 100,000 networks", DENIED, || {
            step::run(nft().arg("-f").arg(&file))
        })?;
        let element = format!("{{ {ADDED} }}");
        let add = self.watch("nft add element, interval set of 100,000", ADDRESS, || {
            step::run(nft().args(["add", "element", "ip", "rules", "listed", &element]))
        })?;
        step::run(nft().args(["flush", "ruleset"]))?;
        Ok(vec![add, load])
    }

    fn ipset(&self) -> Result<Vec<Change>> {
        let file = self.residence.directory().join("set.ipset");
        let ipset = || self.host.namespace.command("ipset");
        let iptables = || self.host.namespace.command("iptables-legacy");
        let rule = ["OUTPUT", "-w", "-m", "set", "--match-set", "listed", "dst", "-j", "DROP"];
        let load = self.watch("ipset restore, 100,000 networks", DENIED, || {
            let elements = std::fs::File::open(&file).context("open the list")?;
            let status = ipset().arg("restore").stdin(Stdio::from(elements)).status();
            ensure!(status.context("start ipset")?.success(), "ipset restore");
            step::run(iptables().arg("-A").args(rule))
        })?;
        let add = self.watch("ipset add, 100,000 networks", ADDRESS, || {
            step::run(ipset().args(["add", "listed", ADDED]))
        })?;
        step::run(iptables().arg("-D").args(rule))?;
        step::run(ipset().args(["destroy", "listed"]))?;
        Ok(vec![add, load])
    }

    /// Does `change` while connections to `address` are tried, and says when they began to fail otherwise than by a reset.
    fn watch(
        &self,
        what: &'static str,
        address: Ipv4Addr,
        change: impl FnOnce() -> Result<()>,
    ) -> Result<Change> {
        let target = SocketAddr::from((address, PORT));
        let (ready, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let (host, flags) = (&self.host, (&ready, &over));
        let visit = host.cgroup.enter_current_process();
        let (begun, answered, seen) = thread::scope(|scope| -> Result<_> {
            let watcher =
                scope.spawn(move || host.namespace.inside(move || until_denied(target, flags)));
            testbed::wait_until(DEADLINE, "a connection that is allowed", || {
                ready.load(Ordering::Relaxed) || watcher.is_finished()
            });
            let begun = Instant::now();
            let changed = change();
            let answered = begun.elapsed();
            if changed.is_ok() {
                let patience = Instant::now();
                while !watcher.is_finished() && patience.elapsed() < Duration::from_secs(5) {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            over.store(true, Ordering::Relaxed);
            let seen = watcher.join().ok().flatten();
            changed?;
            Ok((begun, answered, seen.context("the change was never seen")?))
        })?;
        drop(visit);
        ensure!(seen > begun, "{what}: {address} was denied before");
        Ok(Change {
            what,
            visible_ms: Some(milliseconds(seen - begun)),
            answered_ms: milliseconds(answered),
        })
    }
}

/// When the first of two attempts began of which none was answered by a reset: a single one may be an answer that came
/// late. `ready` is set once one was.
fn until_denied(target: SocketAddr, (ready, over): (&AtomicBool, &AtomicBool)) -> Option<Instant> {
    let mut denied = None;
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answer = TcpStream::connect_timeout(&target, SILENCE).err().map(|error| error.kind());
        if answer == Some(ErrorKind::ConnectionRefused) {
            ready.store(true, Ordering::Relaxed);
            denied = None;
        } else if denied.is_some() {
            return denied;
        } else {
            denied = Some(begun);
        }
    }
    None
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A set with intervals.
fn set(networks: &[Prefix]) -> String {
    let elements: Vec<_> = networks.iter().map(Prefix::to_string).collect();
    format!(
        "table ip rules {{\nset listed {{\ntype ipv4_addr; flags interval;\nelements = {{ {} }}\n}}\n\
         chain out {{\ntype filter hook output priority 0;\n\
         ip daddr @listed drop\n}}\n}}\n",
        elements.join(", ")
    )
}

fn ipset(networks: &[Prefix]) -> String {
    let adds: String = networks.iter().map(|network| format!("add listed {network}\n")).collect();
    format!("create listed hash:net maxelem 200000\n{adds}")
}
