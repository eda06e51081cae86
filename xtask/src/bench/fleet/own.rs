//! A fleet of ours: made, enrolled, served, and given policy, with the programs that people run.

use anyhow::{Context as _, Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use testbed::{Directory, Host, Running};

use super::Tools;
use super::crowd::Crowd;
use crate::step;

/// Hosts of one server at most.
const SHARE: u32 = 17_000;
/// Roles that the crowd has, one after the other (`crates/fleet/examples/crowd/enrol.rs`).
pub(super) const ROLES: u32 = 50;
/// Bytes of the policy, as it is written.
const POLICY_BYTES: usize = 1_024;
const PORT: u16 = 8443;
const METRICS_PORT: u16 = 9101;
const CONTROLLER: Ipv4Addr = Ipv4Addr::LOCALHOST;
const READY_DEADLINE: Duration = Duration::from_secs(300);

/// It.
pub(super) struct Fleet<'a> {
    tools: &'a Tools,
    host: &'a Host,
    servers: Vec<Running>,
    /// Where hosts connect.
    pub places: Vec<SocketAddr>,
    directory: Directory,
    version: u64,
    /// What making certificates and writing records took, seconds.
    pub enrolled_s: [f64; 2],
}

/// A bundle that is signed and waits to be applied.
pub(super) struct Signed(PathBuf);

impl<'a> Fleet<'a> {
    /// Begins with so many hosts, which are enrolled and not connected, and a first version. `store` is how the command
    /// line of a controller names it; a file of its own if it is not named.
    pub(super) fn begin(
        tools: &'a Tools,
        host: &'a Host,
        agents: u32,
        store: Option<&str>,
    ) -> Result<Self> {
        let relays = if agents <= SHARE { 0 } else { agents.div_ceil(SHARE) };
        let directory = Directory::new();
        let controller = SocketAddr::from((CONTROLLER, PORT));
        let mut fleet = Self {
            tools,
            host,
            servers: Vec::new(),
            places: Vec::new(),
            directory,
            version: 0,
            enrolled_s: [0.0; 2],
        };
        let home = fleet.path("fleet");
        let store = store.map_or_else(|| format!("redb:{home}/store.redb"), str::to_owned);
        fleet.fwnet(&["fleet", "init", &home, "--listen", &controller.to_string()])?;
        let mut enrol = host.command(&tools.crowd);
        enrol.args(["enrol", &home, &store, &agents.to_string(), &relays.to_string()]);
        let said = step::output(enrol.arg(controller.to_string()))?;
        let said: serde_json::Value = serde_json::from_str(&said).context("what enrol says")?;
        let seconds = |name| said.pointer(&format!("/enrolled/{name}")).and_then(|it| it.as_f64());
        fleet.enrolled_s = ["certificates_s", "records_s"].map(|it| seconds(it).unwrap_or(0.0));
        // Every connection of one crowd is to one address and port.
        host.namespace
            .inside(|| fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535"))
            .context("give the namespace more ports")?;
        let metrics = SocketAddr::from((CONTROLLER, METRICS_PORT)).to_string();
        let arguments =
            ["controller", "--dir", &home, "--store", &store, "--name", "c", "--metrics", &metrics];
        fleet.serve(&arguments);
        for number in 0..relays {
            let address = Ipv4Addr::new(127, 0, 1, u8::try_from(number + 1)?);
            let place = SocketAddr::from((address, PORT));
            let metrics = SocketAddr::from((address, METRICS_PORT)).to_string();
            let home = format!("{home}/relay-{number}");
            let listen = place.to_string();
            fleet.serve(&["relay", "--dir", &home, "--listen", &listen, "--metrics", &metrics]);
            fleet.places.push(place);
        }
        if fleet.places.is_empty() {
            fleet.places.push(controller);
        }
        let first = fleet.sign("")?;
        fleet.apply(&first)?;
        Ok(fleet)
    }

    fn serve(&mut self, arguments: &[&str]) {
        let server = self.host.start(&self.tools.fwnet, arguments);
        server.wait_for_line("metrics at", READY_DEADLINE);
        self.servers.push(server);
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn fwnet(&self, arguments: &[&str]) -> Result<String> {
        step::output(self.host.command(&self.tools.fwnet).args(arguments))
    }

    /// The processes of controller and relays.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.servers.iter().map(Running::pid).collect()
    }

    /// Connects all hosts.
    pub(super) fn gather(&self, agents: u32) -> Result<(Crowd, f64)> {
        let home = self.directory.path().join("fleet");
        Crowd::gather(self.tools, self.host, "host", &home, &self.places, agents)
    }

    /// Signs the next version: a rule that concerns every host and says another port each time, some that concern one
    /// role each, what is asked for besides, and words until it is 1 KiB.
    pub(super) fn sign(&mut self, more: &str) -> Result<Signed> {
        self.version += 1;
        let version = self.version;
        let port = 1 + version;
        let mut text = format!("deny any -> 192.0.2.1 : tcp/{port}\n");
        self.signed(&mut text, more)
    }

    /// Signs the next version, in which only what is asked for is another than before.
    pub(super) fn sign_edit(&mut self, base: u64, more: &str) -> Result<Signed> {
        self.version += 1;
        let mut text = format!("deny any -> 192.0.2.1 : tcp/{}\n", 1 + base);
        self.signed(&mut text, more)
    }

    /// The version that was signed last.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    fn signed(&self, text: &mut String, more: &str) -> Result<Signed> {
        let version = self.version;
        text.push_str(more);
        while text.len() + 2 < POLICY_BYTES {
            let line = (POLICY_BYTES - text.len() - 2).min(100);
            text.push_str(&format!("#{}\n", "x".repeat(line)));
        }
        let (plain, signed) = (self.path("base.fwnet"), self.path("base.signed"));
        fs::write(&plain, text).context("write the policy")?;
        let key = |role: &str| self.path(&format!("fleet/keys/{role}.key"));
        let number = version.to_string();
        let by = ["--version", &number, "--expires", "9d", "--key", &key("policy"), "--out"];
        self.fwnet(&[&["sign", "policy", &plain], &by[..], &[&signed]].concat())?;
        let (root, before) =
            (self.path("fleet/root.signed"), self.path(&(version - 1).to_string()));
        let from = if version == 1 { ["--root", &root] } else { ["--from", &before] };
        let out = self.path(&version.to_string());
        let by = [
            "--snapshot-key",
            &key("snapshot"),
            "--timestamp-key",
            &key("timestamp"),
            "--out",
            &out,
        ];
        self.fwnet(&[&["bundle", &signed], &from[..], &by[..]].concat())?;
        Ok(Signed(out.into()))
    }

    /// Applies it. The moment before that, in microseconds of CLOCK_MONOTONIC.
    pub(super) fn apply(&self, signed: &Signed) -> Result<u64> {
        let operator = self.path("fleet/operator");
        let bundle = signed.0.display().to_string();
        let begun = now_us();
        self.fwnet(&["fleet", "--operator", &operator, "apply", &bundle])?;
        Ok(begun)
    }

    /// Waits until the controller knows that so many hosts have what they should.
    pub(super) fn realised(&self, agents: u32) -> Result<()> {
        let begun = Instant::now();
        loop {
            let found = self.count("fwnet_controller_hosts{state=\"realised\"}")?;
            if found == f64::from(agents) {
                return Ok(());
            }
            ensure!(begun.elapsed() < READY_DEADLINE, "{found} of {agents} hosts have it");
            // To answer, the controller looks at every host.
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// One of the controller's figures.
    pub(super) fn count(&self, name: &str) -> Result<f64> {
        count(self.host, SocketAddr::from((CONTROLLER, METRICS_PORT)), name)
    }
}

/// A figure that Prometheus would read there.
pub(super) fn count(host: &Host, place: SocketAddr, name: &str) -> Result<f64> {
    let text = host.namespace.inside(|| -> Result<String> {
        let mut stream = TcpStream::connect(place).context("connect to the metrics")?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no figure {name} at {place}"))?.trim().parse()?)
}

/// Microseconds of CLOCK_MONOTONIC, which all processes of a machine share.
pub(super) fn now_us() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).expect("the clock began at 0");
    part(time.tv_sec) * 1_000_000 + part(time.tv_nsec) / 1_000
}
