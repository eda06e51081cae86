//! One agent on a host of its own, and what is done to it.

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use testbed::{Host, Running};

use super::figures::{Applied, Load, Memory, Revoked};
use crate::bench::resident::{Residence, Resident, processor};
use crate::bench::sample::Sample;
use crate::programs::Programs;

/// Nothing that works takes nearly as long.
const DEADLINE: Duration = Duration::from_secs(120);
/// Connections a second under load, in steps of a tenth of a second.
const LOAD_PER_STEP: u64 = 1_000;
const STEP: Duration = Duration::from_millis(100);
/// Connections of one holding process.
const HELD_EACH: u32 = 9_900;
/// Where the load connects to; what is denied and revoked are the ports of the holders, one behind the other.
const LOAD_PORT: u16 = 60_000;
const DENIED_PORT: u16 = 61_000;
const HELD_PORT: u16 = 62_000;

/// What is in force most of the time: nothing of the load is denied.
const OPEN: &str = "\
tier team
mode enforce
failsafe none
deny any -> 192.168.56.101
deny any -> any : tcp/10000
";
/// One port more.
const CLOSED: &str = "deny any -> any : tcp/61000\n";
/// All holders.
const REVOKED: &str = "deny any -> any : tcp/62000-62100 existing revoke\n";

/// The host, its agent's place on disk, and the programs.
pub(super) struct Bench {
    host: Host,
    residence: Arc<Residence>,
    tcpcost: PathBuf,
    tcphold: PathBuf,
}

impl Bench {
    pub(super) fn set(programs: &Programs) -> Result<Self> {
        Ok(Self {
            host: Host::new(),
            residence: Residence::new(programs)?,
            tcpcost: programs.path("tcpcost")?.to_owned(),
            tcphold: programs.path("tcphold")?.to_owned(),
        })
    }

    /// A verb of fwnet, which must work; what it printed.
    fn fwnet(&self, verb: &[&str]) -> Result<String> {
        self.residence.fwnet(verb)
    }

    fn policy(&self, name: &str, rules: &str) -> Result<String> {
        let path = self.residence.directory().join(name);
        fs::write(&path, format!("{OPEN}{rules}")).context("write a policy")?;
        Ok(path.to_string_lossy().into_owned())
    }

    pub(super) fn up(&self) -> Result<Resident> {
        self.residence.up(&self.host, &self.policy("open.fw", "")?, &[])
    }

    fn pid(&self) -> Result<u32> {
        self.residence.pid()
    }

    /// The agent's memory now.
    pub(super) fn memory(&self) -> Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let of = |field: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let number = line.and_then(|line| line.split_whitespace().nth(1));
            Ok(number.with_context(|| format!("{field} in /proc/PID/status"))?.parse()?)
        };
        Ok(Memory { rss_kb: of("VmRSS")?, own_kb: of("RssAnon")? })
    }

    /// The share of one processor that the agent takes while nobody asks it for anything.
    pub(super) fn idle(&self, watch: Duration) -> Result<f64> {
        let pid = self.pid()?;
        let before = processor(pid)?;
        thread::sleep(watch);
        Ok((processor(pid)? - before) / watch.as_secs_f64())
    }

    /// The agent's share of a processor and its memory at 10,000 connections a second.
    pub(super) fn load(&self, watch: Duration) -> Result<Load> {
        let pid = self.pid()?;
        let port = LOAD_PORT.to_string();
        let mut client = self.host.start(&self.tcpcost, ["-p", &port]);
        let (before, begun) = (processor(pid)?, Instant::now());
        let mut connections = 0;
        while begun.elapsed() < watch {
            let seen = client.lines().len();
            let step = Instant::now();
            client.write_line(&LOAD_PER_STEP.to_string());
            client.wait_for_line_after(seen, "{", DEADLINE);
            connections += LOAD_PER_STEP;
            thread::sleep(STEP.saturating_sub(step.elapsed()));
        }
        let seconds = begun.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let rate = connections as f64 / seconds;
        let share = (processor(pid)? - before) / seconds;
        Ok(Load { rate, share, memory: self.memory()? })
    }

    /// What a connection costs, whatever is attached.
    pub(super) fn cost(&self) -> Result<Sample> {
        let port = LOAD_PORT.to_string();
        let mut client: Running = self.host.start(&self.tcpcost, ["-p", &port]);
        client.write_line("20000");
        let line = client.wait_for_line("{", DEADLINE);
        serde_json::from_str(&line).with_context(|| format!("the measurement {line}"))
    }

    /// From the start of `fwnet apply` until the first connection is refused, and until the verb is done.
    pub(super) fn applied(&self) -> Result<Applied> {
        let (open, closed) = (self.policy("open.fw", "")?, self.policy("closed.fw", CLOSED)?);
        let address = SocketAddr::from(([127, 0, 0, 1], DENIED_PORT));
        let over = AtomicBool::new(false);
        let _visit = self.host.cgroup.enter_current_process();
        let (done, refused) = thread::scope(|scope| -> Result<_> {
            let watcher = scope.spawn(|| {
                self.host.namespace.inside(|| {
                    // Nobody listens: an allowed connect is refused by the peer, a denied one by the policy.
                    while !over.load(Ordering::Relaxed) {
                        let error = TcpStream::connect(address).err().map(|error| error.kind());
                        if error == Some(std::io::ErrorKind::PermissionDenied) {
                            return Some(Instant::now());
                        }
                    }
                    None
                })
            });
            let begun = Instant::now();
            let applied = self.fwnet(&["apply", "--yes", &closed]);
            let done = begun.elapsed();
            thread::sleep(Duration::from_millis(200));
            over.store(true, Ordering::Relaxed);
            let refused = watcher.join().ok().flatten().context("the policy was not enforced")?;
            applied?;
            Ok((done, refused - begun))
        })?;
        self.fwnet(&["apply", "--yes", &open])?;
        Ok(Applied { enforced_ms: milliseconds(refused), done_ms: milliseconds(done) })
    }

    /// How long `fwnet apply` takes that ends so many thousand connections.
    pub(super) fn revoked(&self, thousands: u32) -> Result<Revoked> {
        let wanted = thousands * 1_000;
        let mut holders = Vec::new();
        let mut left = wanted;
        for port in HELD_PORT.. {
            let count = left.min(HELD_EACH);
            let (port, number) = (port.to_string(), count.to_string());
            holders.push(self.host.start(&self.tcphold, ["-p", &port, "-n", &number]));
            left -= count;
            if left == 0 {
                break;
            }
        }
        for holder in &holders {
            holder.wait_for_line("holding", DEADLINE);
        }
        let open = self.policy("open.fw", "")?;
        let revoking = self.policy("revoke.fw", REVOKED)?;
        let begun = Instant::now();
        self.fwnet(&["apply", "--yes", &revoking])?;
        let elapsed = begun.elapsed();
        let mut standing = 0;
        for holder in &mut holders {
            let seen = holder.lines().len();
            holder.write_line("");
            standing += holder.wait_for_line_after(seen, "", DEADLINE).trim().parse::<u32>()?;
        }
        if standing > 0 {
            bail!("{standing} of {wanted} connections stand although they were to be revoked");
        }
        drop(holders);
        self.fwnet(&["apply", "--yes", &open])?;
        Ok(Revoked { connections: wanted, ms: milliseconds(elapsed) })
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
