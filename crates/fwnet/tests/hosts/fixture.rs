//! A fleet: controllers and hosts around one switch, and what people do with it.

use std::{
    cell::{Cell, RefCell},
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testbed::{Directory, Host, Network, Running, wait_until};

use crate::shared::{DEADLINE, EACCES, Echo, complaint, fwnet, on, star, text};

/// Where controllers listen.
const PORT: u16 = 8443;
/// Where every host serves.
pub(crate) const SERVICE: u16 = 5432;

/// Controllers on the first hosts of a star, and members of the fleet on the others.
pub(crate) struct Fleet {
    // The agents end before what they judge.
    members: Vec<Member>,
    controllers: RefCell<Vec<Option<Running>>>,
    _echoes: Vec<Echo>,
    pub(crate) network: Network,
    directory: Directory,
    centres: u8,
    versions: Cell<u32>,
}

/// A host of the fleet.
pub(crate) struct Member {
    pub(crate) name: String,
    /// Its place in the network.
    pub(crate) index: u8,
    state: PathBuf,
}

impl Fleet {
    /// A fleet with `centres` controllers, and a host for each name. Nothing runs yet but the services.
    pub(crate) fn new(centres: u8, names: &[&str]) -> Self {
        let count = centres + u8::try_from(names.len()).unwrap();
        let network = star(count);
        let directory = Directory::new();
        let members: Vec<Member> = (centres..)
            .zip(names)
            .map(|(index, name)| {
                let state = directory.path().join(name);
                fs::create_dir_all(&state).unwrap();
                Member { name: (*name).to_owned(), index, state }
            })
            .collect();
        let host = |index: u8| network.hosts().get(usize::from(index)).unwrap();
        let echoes = members
            .iter()
            .map(|it| Echo::tcp(&host(it.index).namespace, &format!("[::]:{SERVICE}")))
            .collect();
        let fleet = Self {
            members,
            controllers: RefCell::new((0..centres).map(|_| None).collect()),
            _echoes: echoes,
            network,
            directory,
            centres,
            versions: Cell::new(0),
        };
        let mut init = vec!["fleet".to_owned(), "init".to_owned(), fleet.path("centre")];
        for endpoint in fleet.endpoints() {
            init.extend(["--endpoint".to_owned(), endpoint]);
        }
        fleet.done(&init.iter().map(String::as_str).collect::<Vec<_>>());
        fleet
    }

    fn endpoints(&self) -> Vec<String> {
        (0..self.centres).map(|it| format!("{}:{PORT}", self.network.address(it))).collect()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn host(&self, index: u8) -> &Host {
        self.network.hosts().get(usize::from(index)).unwrap()
    }

    pub(crate) fn member(&self, name: &str) -> &Member {
        self.members.iter().find(|it| it.name == name).unwrap()
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(crate) fn address(&self, name: &str) -> Ipv4Addr {
        self.network.address(self.member(name).index)
    }

    // === What runs ===

    /// Starts a controller, and waits until it serves.
    #[track_caller]
    pub(crate) fn start_controller(&self, number: u8, store: Option<&str>) {
        self.start_controller_with(number, store, &[]);
    }

    /// The same, with more on its command line.
    #[track_caller]
    pub(crate) fn start_controller_with(&self, number: u8, store: Option<&str>, more: &[&str]) {
        let mut command = self.fwnet_on(number, &["controller", "--dir", &self.path("centre")]);
        let listen = format!("{}:{PORT}", self.network.address(number));
        command.args(["--listen", &listen, "--name", &format!("c{number}")]);
        if let Some(store) = store {
            command.args(["--store", store]);
        }
        let mut endpoints = self.endpoints();
        endpoints.rotate_left(usize::from(number));
        for endpoint in &endpoints {
            command.args(["--endpoint", endpoint]);
        }
        let key = self.path("centre/keys/timestamp.key");
        command.args(["--timestamp-key", &key]).args(more);
        let running = Running::start(command);
        running.wait_for_line("listens on", DEADLINE);
        *self.controllers.borrow_mut().get_mut(usize::from(number)).unwrap() = Some(running);
    }

    /// Starts a relay where a controller could be, and waits until it serves.
    #[track_caller]
    pub(crate) fn start_relay(&self, number: u8, name: &str) -> Running {
        let told = self.fleet(&["enroll", "--relay", name, "-o", "json"]);
        let told: Value = serde_json::from_str(&told).unwrap();
        let token = told["token"].as_str().unwrap_or_else(|| panic!("a token in {told:#}"));
        self.run_relay(number, name, &["--join", token])
    }

    /// Starts a relay again that has joined before.
    #[track_caller]
    pub(crate) fn restart_relay(&self, number: u8, name: &str) -> Running {
        self.run_relay(number, name, &[])
    }

    fn run_relay(&self, number: u8, name: &str, more: &[&str]) -> Running {
        let listen = format!("{}:{PORT}", self.network.address(number));
        let directory = self.path(name);
        let verb = [&["relay", "--dir", &directory, "--listen", &listen], more].concat();
        let running = Running::start(self.fwnet_on(number, &verb));
        running.wait_for_line("listens on", DEADLINE);
        running
    }

    /// Ends a controller by a signal.
    #[track_caller]
    pub(crate) fn end_controller(&self, number: u8, signal: Signal) {
        let running = self.controllers.borrow_mut().get_mut(usize::from(number)).unwrap().take();
        let mut running = running.unwrap();
        running.signal(signal);
        running.wait(DEADLINE);
    }

    /// A command on host `index`, in its namespace and cgroup.
    fn fwnet_on(&self, index: u8, arguments: &[&str]) -> Command {
        let mut command = self.host(index).command(env!("CARGO_BIN_EXE_fwnet"));
        command.args(arguments).stdin(Stdio::null()).env("SSH_CONNECTION", "");
        command
    }

    /// Enrols a host and has its agent run: the one command that the operator was given, with where this test keeps
    /// things.
    #[track_caller]
    pub(crate) fn enrol(&self, name: &str, labels: &[&str]) {
        let mut verb = vec!["enroll", name, "-o", "json"];
        for label in labels {
            verb.extend(["--label", label]);
        }
        let told: Value = serde_json::from_str(&self.fleet(&verb)).unwrap();
        let token = told["token"].as_str().unwrap_or_else(|| panic!("a token in {told:#}"));
        let output = self.up(name, &["--join", token]);
        assert!(output.status.success(), "{} {}", text(&output), complaint(&output));
    }

    /// `fwnet up` on a host of the fleet.
    pub(crate) fn up(&self, name: &str, arguments: &[&str]) -> Output {
        let member = self.member(name);
        let host = self.host(member.index);
        let mut command = self.fwnet_on(member.index, &["up"]);
        command.arg("--cgroup").arg(host.cgroup.path());
        command.arg("--netns").arg(host.namespace.path());
        command.args(member.paths()).args(arguments);
        command.output().unwrap()
    }

    /// Ends an agent by SIGKILL. What it enforced stays.
    #[track_caller]
    pub(crate) fn kill_agent(&self, name: &str) {
        let lock = self.member(name).state.join("state/agent.lock");
        let pid = fs::read_to_string(lock).unwrap().trim().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        wait_until(DEADLINE, "the end of the agent", || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let zombie = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
            tasks == 0 || tasks == 1 && zombie
        });
    }

    // === What people do ===

    /// A verb that must work, on the first controller's host; what it printed.
    #[track_caller]
    pub(crate) fn done(&self, verb: &[&str]) -> String {
        let output = self.fwnet_on(0, verb).output().unwrap();
        assert!(output.status.success(), "{verb:?}: {} {}", text(&output), complaint(&output));
        text(&output)
    }

    /// `fwnet fleet` with the operator's certificate.
    pub(crate) fn call(&self, verb: &[&str]) -> Output {
        let operator = self.path("centre/operator");
        let mut all = vec!["fleet", "--operator", &operator];
        all.extend(verb);
        self.fwnet_on(0, &all).output().unwrap()
    }

    /// The same, which must work.
    #[track_caller]
    pub(crate) fn fleet(&self, verb: &[&str]) -> String {
        let output = self.call(verb);
        assert!(output.status.success(), "{verb:?}: {} {}", text(&output), complaint(&output));
        text(&output)
    }

    /// Waits until every host has what it should have and no test fails, by what `fwnet fleet status` says.
    #[track_caller]
    pub(crate) fn realised(&self) {
        let none = |list: &Value| list.as_array().is_some_and(Vec::is_empty);
        self.says(DEADLINE, "that it is realised", |status| {
            status["all_realised"] == true
                && none(&status["failing"])
                && none(&status["failing_hosts"])
        });
    }

    /// Waits until `fwnet fleet status` says something.
    #[track_caller]
    pub(crate) fn says(
        &self,
        deadline: Duration,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let start = Instant::now();
        loop {
            let told = self.call(&["status", "-o", "json"]);
            let status = serde_json::from_slice(&told.stdout).unwrap_or_default();
            if wanted(&status) {
                return status;
            }
            let says = format!("{status:#} {}", complaint(&told));
            assert!(start.elapsed() < deadline, "it does not say {what}:\n{says}");
        }
    }

    /// Waits until a rollout is halted; why, as `fwnet fleet status` says.
    #[track_caller]
    pub(crate) fn halted(&self, deadline: Duration) -> String {
        let why = |status: &Value| status["rollout"]["state"]["halted"].as_str().map(str::to_owned);
        let status = self.says(deadline, "that it was halted", |status| why(status).is_some());
        why(&status).unwrap()
    }

    /// Waits until so many hosts have a version on trial.
    #[track_caller]
    pub(crate) fn tried(&self, version: u64, by: u64) {
        self.says(DEADLINE, "that it is tried", |status| {
            let versions = status["versions"].as_array();
            let mut all = versions.into_iter().flatten();
            all.any(|it| it["version"] == version && it["realised"] == by)
        });
    }

    /// A verb on a host of the fleet, for its agent.
    pub(crate) fn there(&self, name: &str, verb: &[&str]) -> Output {
        let member = self.member(name);
        let mut command = self.fwnet_on(member.index, verb);
        command.arg("--socket").arg(member.state.join("sock"));
        command.output().unwrap()
    }

    /// Signs `policy` as the next version of the one document and makes a bundle of it.
    #[track_caller]
    pub(crate) fn bundle(&self, policy: &str) -> String {
        let version = self.versions.get() + 1;
        self.versions.set(version);
        let written = self.path("shop.fwnet");
        fs::write(&written, policy).unwrap();
        let key = |role: &str| self.path(&format!("centre/keys/{role}.key"));
        let (signed, bundle) = (self.path("shop.signed"), self.path("fleet.bundle"));
        let number = version.to_string();
        let sign = ["sign", "policy", &written, "--version", &number, "--expires", "30d"];
        self.done(&[&sign[..], &["--key", &key("policy"), "--out", &signed]].concat());
        let root = self.path("centre/root.signed");
        let from = if version == 1 { ["--root", &root] } else { ["--from", &bundle] };
        let keys = ["--snapshot-key", &key("snapshot"), "--timestamp-key", &key("timestamp")];
        self.done(&[&["bundle", &signed][..], &from, &keys, &["--out", &bundle]].concat());
        bundle
    }

    /// Signs and rolls out, to everybody at once.
    #[track_caller]
    pub(crate) fn apply(&self, policy: &str) {
        let bundle = self.bundle(policy);
        self.fleet(&["apply", &bundle]);
    }

    // === What is enforced ===

    /// What a connection from one host to the service of another meets: `None` if it is made, an errno otherwise.
    pub(crate) fn connects(&self, from: &str, to: &str) -> Option<i32> {
        let target = SocketAddr::from((self.address(to), SERVICE));
        on(self.host(self.member(from).index), || {
            let connected = TcpStream::connect_timeout(&target, Duration::from_secs(3));
            connected.err().map(|error| error.raw_os_error().unwrap_or(ETIMEDOUT))
        })
    }

    /// How many of so many connections are denied, made one after the other as fast as may be.
    pub(crate) fn hammers(&self, from: &str, to: &str, times: usize) -> usize {
        let target = SocketAddr::from((self.address(to), SERVICE));
        on(self.host(self.member(from).index), || {
            let error = |_| TcpStream::connect(target).err().and_then(|it| it.raw_os_error());
            (0..times).map(error).filter(|error| *error == DENIED).count()
        })
    }

    /// Waits until connections from one host to another are made, or not made.
    #[track_caller]
    pub(crate) fn becomes(&self, from: &str, to: &str, allowed: bool) -> Duration {
        self.becomes_within(DEADLINE, from, to, allowed)
    }

    /// The same, with a deadline.
    #[track_caller]
    pub(crate) fn becomes_within(
        &self,
        deadline: Duration,
        from: &str,
        to: &str,
        allowed: bool,
    ) -> Duration {
        let start = Instant::now();
        let what = format!("{from} -> {to} {}", if allowed { "allowed" } else { "denied" });
        wait_until(deadline, &what, || self.connects(from, to).is_none() == allowed);
        start.elapsed()
    }
}

/// connect() that nobody answers (`asm-generic/errno.h`).
const ETIMEDOUT: i32 = 110;

impl Member {
    /// Where its agent keeps things.
    fn paths(&self) -> [String; 6] {
        let of = |name: &str| self.state.join(name).to_str().unwrap().to_owned();
        ["--state".into(), of("state"), "--bpffs".into(), of("bpf"), "--socket".into(), of("sock")]
    }

    /// Where it keeps who it is in the fleet.
    pub(crate) fn membership(&self) -> PathBuf {
        self.state.join("state/fleet")
    }

    /// The version of the snapshot it enforces; `None` where no agent answers.
    pub(crate) fn snapshot(&self) -> Option<u64> {
        let socket = self.state.join("sock");
        let output = fwnet(&["status", "--socket", socket.to_str().unwrap(), "-o", "json"])
            .output()
            .unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        status["policy"]["signed"]["snapshot"].as_u64()
    }

    /// What its agent says.
    pub(crate) fn status(&self) -> Value {
        let socket = self.state.join("sock");
        let socket = socket.to_str().unwrap();
        let output = fwnet(&["status", "--socket", socket, "-o", "json"]).output().unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}: {} {}", self.name, text(&output), complaint(&output)))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (number, running) in self.controllers.borrow().iter().enumerate() {
                let lines = running.as_ref().map(Running::lines).unwrap_or_default();
                eprintln!("controller {number} said:\n{}", lines.join("\n"));
            }
        }
        for member in &self.members {
            if Path::new(&member.state.join("state")).exists() {
                let _down = fwnet(&["down"]).args(member.paths()).output();
            }
        }
    }
}

/// Whether a connection was refused by fwnet here, and not by anything else.
pub(crate) const DENIED: Option<i32> = Some(EACCES);
