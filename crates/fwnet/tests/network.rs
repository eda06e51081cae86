//! What `explain`, `matrix` and `diff` say is what the kernels then do: five hosts with one policy, every pair tried.
//!
//! ```text
//!  web-1 ──veth──┐
//!  web-2 ──veth──┤
//!  api-1 ──veth──┤ switch      each host: a namespace, a cgroup, `fwnet run --host ID`, and servers on every port
//!  db-1  ──veth──┤
//!  gate  ──veth──┘
//! ```
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};
use testbed::{Host, Network, Running};

const DEADLINE: Duration = Duration::from_secs(30);
const FWNET: &str = env!("CARGO_BIN_EXE_fwnet");
const HOSTS: [(&str, &str); 5] =
    [("web-1", "web"), ("web-2", "web"), ("api-1", "api"), ("db-1", "db"), ("gate", "bastion")];
const PORTS: [u16; 4] = [22, 5432, 8443, 9999];

const BEFORE: &str = "\
tier team
mode enforce
name web = role=web
name db  = role=db
failsafe none

allow web -> role=api : tcp/8443
allow role=api -> db : tcp/5432
allow role=bastion -> any : tcp/22
deny  web-2 -> role=api
audit deny gate -> web-1 : tcp/22

default deny in
default deny out
";

/// web-2 may now reach the api, the bastion no longer reaches the database, and the web servers reach each other.
const AFTER: &str = "\
tier team
mode enforce
name web = role=web
name db  = role=db
failsafe none

allow web -> role=api : tcp/8443
allow role=api -> db : tcp/5432
allow role=bastion -> any : tcp/22
deny  role=bastion -> db
allow web -> web : tcp/9999

default deny in
default deny out
";

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Connected,
    /// EACCES at once: refused where it starts.
    DeniedOut,
    /// A reset: refused where it would arrive.
    DeniedIn,
}

type Attempt = (usize, usize, u16);

/// The hosts, from the first server to the last.
struct Site {
    network: Network,
    directory: PathBuf,
    _servers: Vec<Running>,
}

impl Site {
    fn new() -> Self {
        let network = Network::star(5);
        let directory = std::env::temp_dir().join(format!("fwnet-network-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let hosts: Vec<Value> = HOSTS
            .iter()
            .enumerate()
            .map(|(at, (id, role))| json!({ "id": id, "addresses": [network.address(u8::try_from(at).unwrap()).to_string()], "labels": { "role": role } }))
            .collect();
        fs::write(directory.join("hosts.json"), json!({ "hosts": hosts }).to_string()).unwrap();
        // The servers listen before anything is enforced, so that every refusal is one of connections.
        let start = |host: &Host, port: u16| {
            let running = host.start(tool("tcpserv"), [format!("-p{port}"), "-v".to_owned()]);
            running.wait_for_line("listening", DEADLINE);
            running
        };
        let servers: Vec<Running> =
            network.hosts().iter().flat_map(|host| PORTS.map(|port| start(host, port))).collect();
        let site = Self { network, directory, _servers: servers };
        site.wait_until_served();
        site
    }

    /// "listening" is printed before the port is bound (acceptance H2), so knock until somebody answers.
    fn wait_until_served(&self) {
        for (from, to, port) in attempts() {
            testbed::wait_until(DEADLINE, "every server answers", || {
                self.attempt((from, to, port)) == End::Connected
            });
        }
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn address(&self, host: usize) -> Ipv4Addr {
        self.network.address(u8::try_from(host).unwrap())
    }

    fn attempt(&self, (from, to, port): Attempt) -> End {
        let host = self.network.hosts().get(from).unwrap();
        let mut command = host.command(tool("tcpcli"));
        command.args([format!("-h{}", self.address(to)), format!("-p{port}")]);
        let output = command.stdin(std::process::Stdio::null()).output().unwrap();
        match output.status.code() {
            Some(0) => End::Connected,
            Some(1) => End::DeniedOut,
            Some(2) => End::DeniedIn,
            other => panic!("{other:?}: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// Every attempt and its end.
    fn tried(&self) -> BTreeMap<Attempt, End> {
        attempts().map(|attempt| (attempt, self.attempt(attempt))).collect()
    }

    fn ask(&self, words: &[&str]) -> Value {
        let output = Command::new(FWNET).args(words).args(["-o", "json"]).output().unwrap();
        let code = output.status.code();
        assert!(
            matches!(code, Some(0 | 1)),
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What `explain` says the end will be.
    fn explained(&self, (from, to, port): Attempt) -> End {
        let flow = format!("{} -> {} : tcp/{port}", HOSTS[from].0, HOSTS[to].0);
        let answer = self.ask(&[
            "explain",
            &flow,
            "--policy",
            &self.file("policy.fw"),
            "--inventory",
            &self.file("hosts.json"),
        ]);
        let verdict = |direction: &str| {
            let ends = answer["ends"].as_array().unwrap();
            ends.iter().find(|end| end["direction"] == direction).unwrap()["verdict"] == "allow"
        };
        assert_eq!(answer["verdict"] == "allow", verdict("out") && verdict("in"), "{answer}");
        match (verdict("out"), verdict("in")) {
            (true, true) => End::Connected,
            (false, _) => End::DeniedOut,
            (true, false) => End::DeniedIn,
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // What is left in a directory for temporary files hurts nobody.
        let _removed = fs::remove_dir_all(&self.directory);
    }
}

fn tool(name: &str) -> PathBuf {
    Path::new(FWNET).with_file_name(name)
}

/// Every ordered pair of hosts, on every port.
fn attempts() -> impl Iterator<Item = Attempt> {
    let hosts = 0..HOSTS.len();
    hosts.clone().flat_map(move |from| {
        hosts
            .clone()
            .filter(move |&to| to != from)
            .flat_map(move |to| PORTS.map(|port| (from, to, port)))
    })
}

/// The attempts that the flows of a matrix or diff cover.
fn covered(answer: &Value, flows: &Value, port: u16) -> BTreeSet<Attempt> {
    let members = |group: &Value| -> Vec<usize> {
        let group = &answer["groups"][usize::try_from(group.as_u64().unwrap()).unwrap()];
        let named = group["hosts"].as_array().unwrap();
        (0..HOSTS.len()).filter(|&at| named.iter().any(|id| id == HOSTS[at].0)).collect()
    };
    let holds = |services: &Value| {
        services.as_array().unwrap().iter().any(|service| {
            let service = service.as_str().unwrap();
            let ports = service.strip_prefix("tcp/").and_then(|ports| {
                let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
            });
            matches!(service, "any" | "tcp") || ports.is_some_and(|ports| ports.contains(&port))
        })
    };
    let mut covered = BTreeSet::new();
    for flow in flows.as_array().unwrap() {
        if flow["relation"] == "between" && holds(&flow["services"]) {
            let (from, to) = (members(&flow["from"]), members(&flow["to"]));
            covered
                .extend(from.iter().flat_map(|&from| to.iter().map(move |&to| (from, to, port))));
        }
    }
    covered.retain(|&(from, to, _)| from != to);
    covered
}

fn connected(tried: &BTreeMap<Attempt, End>, port: u16) -> BTreeSet<Attempt> {
    let ends = tried.iter().filter(|&(attempt, end)| attempt.2 == port && *end == End::Connected);
    ends.map(|(attempt, _)| *attempt).collect()
}

#[test]
fn answers_are_what_five_kernels_do() {
    let site = Site::new();
    fs::write(site.file("policy.fw"), BEFORE).unwrap();
    let agents: Vec<Running> = site
        .network
        .hosts()
        .iter()
        .zip(HOSTS)
        .map(|(host, (id, _))| {
            let mut command = Command::new(FWNET);
            command.args([
                "run",
                "--policy",
                &site.file("policy.fw"),
                "--inventory",
                &site.file("hosts.json"),
            ]);
            command.args(["--host", id, "--cgroup"]).arg(host.cgroup.path());
            Running::start({
                command.arg("--netns").arg(host.namespace.path());
                command
            })
        })
        .collect();
    agents.iter().for_each(|agent| drop(agent.wait_for_line("fwnet: enforcing", DEADLINE)));

    let before = site.tried();
    for (&attempt, &end) in &before {
        assert_eq!(site.explained(attempt), end, "explain and kernel differ about {attempt:?}");
    }
    let inventory = site.file("hosts.json");
    for port in PORTS {
        let service = format!("tcp/{port}");
        let matrix = site.ask(&[
            "matrix",
            &service,
            "--policy",
            &site.file("policy.fw"),
            "--inventory",
            &inventory,
        ]);
        assert_eq!(
            covered(&matrix, &matrix["allowed"], port),
            connected(&before, port),
            "matrix of {service}: {matrix}"
        );
    }

    fs::write(site.file("after.fw"), AFTER).unwrap();
    let diff = site.ask(&[
        "diff",
        &site.file("policy.fw"),
        &site.file("after.fw"),
        "--inventory",
        &inventory,
    ]);
    fs::write(site.file("policy.fw"), AFTER).unwrap();
    for agent in &agents {
        agent.signal(Signal::HUP);
        agent.wait_for_line("fwnet: now enforcing", DEADLINE);
    }
    let after = site.tried();
    for port in PORTS {
        let (was, is) = (connected(&before, port), connected(&after, port));
        assert_eq!(
            covered(&diff, &diff["allowed"], port),
            &is - &was,
            "newly allowed on {port}: {diff}"
        );
        assert_eq!(
            covered(&diff, &diff["denied"], port),
            &was - &is,
            "newly denied on {port}: {diff}"
        );
    }
    assert_ne!(before, after, "the two policies differ in what is tried");
}
