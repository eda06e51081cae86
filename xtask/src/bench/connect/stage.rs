//! The namespace and cgroup that are measured in, and the measured processes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use testbed::{Cgroup, Host, Running};

use super::files::{self, Files, PORT};
use crate::bench::resident::Residence;
use crate::bench::sample::Sample;
use crate::programs::Programs;
use crate::{step, workspace};

/// Nothing that works takes nearly as long.
pub(super) const DEADLINE: Duration = Duration::from_secs(120);
/// Where the measured processes listen: the one that connects to one address, and the one that connects to many.
const PORTS: [u16; 2] = [60_000, 60_001];
/// Connections that tell how slow a contender is, and the most that its measurement may take, in nanoseconds.
const TASTE: u64 = 200;
const TIME_MAX_NS: f64 = 2e9;

/// How much slower than ever before connections with nothing attached may be, and how long is waited for that. What a
/// contender leaves behind (memory that the kernel frees, a program that ends) keeps the machine busy for a while.
const CALM: f64 = 1.08;
const CALM_DEADLINE: Duration = Duration::from_secs(2);
const CALM_CYCLES: u64 = 1_000;

/// What is measured of what is attached: connections to one address, and to many.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Both {
    pub one: Sample,
    pub many: Sample,
}

/// The measured processes and what they live in.
pub(super) struct Stage {
    // Programs end before what they live in.
    clients: Clients,
    /// The least that connect() took with nothing attached.
    fastest_ns: f64,
    _denied: Running,
    tcpcost: PathBuf,
    cpu: u16,
    rivals: Option<Programs>,
    tcpcli: PathBuf,
    pub residence: Arc<Residence>,
    pub host: Host,
    /// Where rivals and `fwnet run` live: not where they judge.
    pub desk: Cgroup,
    /// Where nobody lives.
    pub empty: Cgroup,
    pub fwnet: PathBuf,
    pub files: Files,
}

/// One process that connects to one address, and one that connects to many.
pub(super) struct Clients {
    one: Running,
    many: Running,
}

impl Clients {
    /// Measures connections, at most `cycles` in each way and fewer where they are slow.
    pub(super) fn time(&mut self, cycles: u64) -> Result<Both> {
        let [one, many] = self.each();
        Ok(Both { one: time(one, cycles)?.0, many: time(many, cycles)?.0 })
    }

    /// In the order of the members of [`Both`].
    pub(super) fn each(&mut self) -> [&mut Running; 2] {
        [&mut self.one, &mut self.many]
    }
}

/// Measures connections that `client` makes, at most `cycles` of them and fewer where they are slow; with their number.
pub(super) fn time(client: &mut Running, cycles: u64) -> Result<(Sample, u64)> {
    let taste = ask(client, TASTE)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 2e9")]
    let affordable = (TIME_MAX_NS / taste.cycle_ns.max(1.0)) as u64;
    let cycles = cycles.min(affordable.max(TASTE));
    Ok((ask(client, cycles)?, cycles + TASTE))
}

fn ask(client: &mut Running, cycles: u64) -> Result<Sample> {
    let seen = client.lines().len();
    client.write_line(&cycles.to_string());
    let line = client.wait_for_line_after(seen, "{", DEADLINE);
    serde_json::from_str(&line).with_context(|| format!("the measurement {line}"))
}

impl Stage {
    pub(super) fn set(programs: &Programs, rivals: Option<Programs>, cpu: u16) -> Result<Self> {
        let files = Files::write(files::place(&workspace::scratch()))?;
        let host = Host::new();
        host.namespace.add_address("lo", &format!("{}/32", files::denied()));
        // Every address leads here: those that are connected to lie all over the address space.
        let mut everywhere = host.namespace.command("ip");
        step::run(everywhere.args(["route", "add", "local", "0.0.0.0/0", "dev", "lo"]))?;
        let tcpcost = programs.path("tcpcost")?.to_owned();
        let clients = clients(&host, &files, &tcpcost, &[], cpu, PORTS);
        let denied = host.start(programs.path("tcpserv")?, ["-h", &files::denied(), "-p", PORT]);
        let stage = Self {
            clients,
            fastest_ns: f64::INFINITY,
            tcpcost,
            cpu,
            rivals,
            _denied: denied,
            residence: Residence::new(programs)?,
            host,
            desk: Cgroup::new(),
            empty: Cgroup::new(),
            fwnet: programs.path("fwnet")?.to_owned(),
            tcpcli: programs.path("tcpcli")?.to_owned(),
            files,
        };
        testbed::wait_until(DEADLINE, "the server to be probed", || matches!(stage.probe(), Ok(0)));
        Ok(stage)
    }

    /// Measures connections, whatever is attached.
    pub(super) fn time(&mut self, cycles: u64) -> Result<Both> {
        self.clients.time(cycles)
    }

    /// Measures connections with nothing attached, once they are as fast as they have been; if that does not come, as they
    /// are.
    pub(super) fn time_calm(&mut self, cycles: u64) -> Result<Both> {
        let begun = Instant::now();
        loop {
            let now = ask(&mut self.clients.one, CALM_CYCLES)?.connect_ns;
            self.fastest_ns = self.fastest_ns.min(now);
            if now <= CALM * self.fastest_ns || begun.elapsed() > CALM_DEADLINE {
                return self.time(cycles);
            }
        }
    }

    /// Makes connections to one address (0) or to many (1) without measuring them; their number.
    pub(super) fn connect(&mut self, way: usize, cycles: u64) -> Result<u64> {
        let mut clients = self.clients.each();
        let client = clients.get_mut(way).context("one of two ways")?;
        Ok(time(client, cycles)?.1)
    }

    /// Tries the denied address; how tcpcli ended.
    pub(super) fn probe(&self) -> Result<i32> {
        self.probe_through(&[])
    }

    /// The same with `before` before the command.
    pub(super) fn probe_through(&self, before: &[&str]) -> Result<i32> {
        let tcpcli = self.tcpcli.display().to_string();
        let mut words = before.iter().copied().chain([tcpcli.as_str()]);
        let mut probe = self.host.command(words.next().context("a program")?);
        probe.args(words);
        probe.args(["-h", &files::denied(), "-p", PORT, "--timeout", "1"]).stdin(Stdio::null());
        let output = probe.output().context("start the probe")?;
        output.status.code().context("the probe was killed")
    }

    /// Further measured processes, with `before` before their commands.
    pub(super) fn clients(&self, before: &[&str], ports: [u16; 2]) -> Result<Clients> {
        Ok(clients(&self.host, &self.files, &self.tcpcost, before, self.cpu, ports))
    }

    /// What the measured processes are.
    pub(super) fn client_program(&self) -> &Path {
        &self.tcpcost
    }

    /// A program of `rivals/`.
    pub(super) fn rival(&self, name: &str) -> Result<&Path> {
        self.rivals.as_ref().context("the rivals were not built")?.path(name)
    }
}

fn clients(
    host: &Host,
    files: &Files,
    tcpcost: &Path,
    before: &[&str],
    cpu: u16,
    ports: [u16; 2],
) -> Clients {
    let (cpu, [one, many]) = (cpu.to_string(), ports.map(|port| port.to_string()));
    let (address, addresses) = (files.one.to_string(), files.addresses().display().to_string());
    let tcpcost = tcpcost.display().to_string();
    let start = |arguments: &[&str]| {
        let words: Vec<&str> = before
            .iter()
            .copied()
            .chain([tcpcost.as_str(), "--cpu", &cpu])
            .chain(arguments.iter().copied())
            .collect();
        let (program, rest) = words.split_first().expect("a program");
        host.start(program, rest)
    };
    Clients {
        one: start(&["-h", &address, "-p", &one]),
        many: start(&["-h", "0.0.0.0", "-p", &many, "--addresses", &addresses]),
    }
}
