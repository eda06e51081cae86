//! An etcd cluster on hosts of the test's own: its members can be killed, stopped and started again.
//!
//! Needs `etcd` (package etcd-server, 3.4 or later).

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

use rustix::process::Signal;

use crate::{Directory, Host, Running, wait_until};

/// Where a member listens for clients; any address of its own will do.
pub const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// Where it says how it is, without TLS.
const METRICS_PORT: u16 = 2381;

/// From the start of the last member to a leader: an election or two.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// For one answer of a member that runs.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// The files of TLS that members show to clients and by which they know them, in PEM. A client has to show a
/// certificate.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The authority that vouches for clients.
    pub ca: PathBuf,
    /// The certificate of all members.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A running cluster. Its end kills the members and removes what they wrote.
#[derive(Debug)]
pub struct Cluster<'a> {
    // In this order: the members end before their data goes.
    members: Vec<Member<'a>>,
    _data: Directory,
}

#[derive(Debug)]
struct Member<'a> {
    host: &'a Host,
    address: IpAddr,
    arguments: Vec<String>,
    running: Option<Running>,
}

impl<'a> Cluster<'a> {
    /// Starts a member on each of these hosts, at an address of that host that the others reach (several may share one
    /// host: 127.0.0.1, 127.0.0.2, ...), and waits until the cluster has a leader.
    ///
    /// # Panics
    /// If there is no etcd, or no leader.
    #[track_caller]
    pub fn start(places: &[(&'a Host, IpAddr)], tls: Option<&Tls>) -> Self {
        let data = Directory::new();
        let peers: Vec<_> = places.iter().map(|(_, address)| at(*address, PEER_PORT)).collect();
        let names = (0..).zip(&peers).map(|(number, peer)| format!("m{number}=http://{peer}"));
        let cluster: Vec<String> = names.collect();
        let mut members = Vec::new();
        for (number, (host, address)) in places.iter().enumerate() {
            let scheme = if tls.is_some() { "https" } else { "http" };
            let client = format!("{scheme}://{}", at(*address, CLIENT_PORT));
            let peer = format!("http://{}", peers[number]);
            let mut arguments = Vec::new();
            for (flag, value) in [
                ("name", format!("m{number}")),
                ("data-dir", data.path().join(number.to_string()).display().to_string()),
                ("listen-client-urls", client.clone()),
                ("advertise-client-urls", client),
                ("listen-peer-urls", peer.clone()),
                ("initial-advertise-peer-urls", peer),
                ("listen-metrics-urls", format!("http://{}", at(*address, METRICS_PORT))),
                ("initial-cluster", cluster.join(",")),
                // A busy machine must not look like a dead leader, and a dead one must not last.
                ("heartbeat-interval", "100".to_owned()),
                ("election-timeout", "1000".to_owned()),
                ("logger", "zap".to_owned()),
                ("log-level", "error".to_owned()),
            ] {
                arguments.extend([format!("--{flag}"), value]);
            }
            if let Some(Tls { ca, certificate, key }) = tls {
                for (flag, file) in [("trusted-ca", ca), ("cert", certificate), ("key", key)] {
                    arguments.extend([format!("--{flag}-file"), file.display().to_string()]);
                }
                arguments.push("--client-cert-auth".to_owned());
            }
            members.push(Member { host, address: *address, arguments, running: None });
        }
        let mut cluster = Self { members, _data: data };
        for number in 0..places.len() {
            cluster.begin(number);
        }
        cluster.wait_for_leader();
        cluster
    }

    /// Where clients reach member `number` (from 0).
    pub fn endpoint(&self, number: usize) -> SocketAddr {
        at(self.members[number].address, CLIENT_PORT)
    }

    /// Where clients reach all of them: `10.0.0.1:2379,10.0.0.2:2379`.
    pub fn endpoints(&self) -> String {
        let all: Vec<_> = (0..self.members.len()).map(|it| self.endpoint(it).to_string()).collect();
        all.join(",")
    }

    /// Kills a member as kill -9 does.
    pub fn kill(&mut self, number: usize) {
        self.members[number].running = None;
    }

    /// Starts a member again that was killed, with what it had written. It is not waited for.
    ///
    /// # Panics
    /// If it runs.
    #[track_caller]
    pub fn begin(&mut self, number: usize) {
        let member = &mut self.members[number];
        assert!(member.running.is_none(), "member {number} runs");
        member.running = Some(member.host.start("etcd", &member.arguments));
    }

    /// Sends a signal to a member that runs: STOP makes it hang, CONT goes on.
    ///
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub fn signal(&self, number: usize, signal: Signal) {
        let running = self.members[number].running.as_ref();
        running.unwrap_or_else(|| panic!("member {number} does not run")).signal(signal);
    }

    /// The process of a member that runs.
    ///
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub fn pid(&self, number: usize) -> u32 {
        let running = self.members[number].running.as_ref();
        running.unwrap_or_else(|| panic!("member {number} does not run")).pid()
    }

    /// The number of the member that leads the cluster, if one says so. With a leader that was cut off or hangs, two may
    /// believe it for a while.
    pub fn leader(&self) -> Option<usize> {
        (0..self.members.len()).find(|number| {
            let said = self.get(*number, METRICS_PORT, "/metrics");
            said.is_ok_and(|said| said.contains("\netcd_server_is_leader 1\n"))
        })
    }

    /// Waits until a member leads and says that all is well.
    ///
    /// # Panics
    /// If that takes more than a minute.
    #[track_caller]
    pub fn wait_for_leader(&self) -> usize {
        let mut leader = None;
        wait_until(READY_DEADLINE, "a leader of the etcd cluster", || {
            leader = self.leader().filter(|number| {
                let said = self.get(*number, METRICS_PORT, "/health");
                said.is_ok_and(|said| said.contains(r#""health":"true""#))
            });
            leader.is_some()
        });
        leader.expect("it was waited for")
    }

    /// Waits until a member that runs says that all is well.
    ///
    /// # Panics
    /// If that takes more than a minute.
    #[track_caller]
    pub fn wait_for(&self, number: usize) {
        wait_until(READY_DEADLINE, &format!("the health of etcd member {number}"), || {
            let said = self.get(number, METRICS_PORT, "/health");
            said.is_ok_and(|said| said.contains(r#""health":"true""#))
        });
    }

    /// Has a member do something by its JSON gateway (`/v3/lease/revoke`), without TLS, and returns its answer.
    ///
    /// # Panics
    /// If it does not answer with success.
    #[track_caller]
    pub fn post(&self, number: usize, path: &str, body: &str) -> String {
        self.post_as(number, path, body, None)
    }

    /// The same, as the user with a token of `/v3/auth/authenticate`.
    ///
    /// # Panics
    /// If it does not answer with success.
    #[track_caller]
    pub fn post_as(&self, number: usize, path: &str, body: &str, token: Option<&str>) -> String {
        let user = token.map(|token| format!("Authorization: {token}\r\n")).unwrap_or_default();
        let request = format!(
            "POST {path} HTTP/1.0\r\nContent-Type: application/json\r\n{user}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = self.ask(number, CLIENT_PORT, &request);
        let answer = answer.unwrap_or_else(|error| panic!("ask etcd member {number}: {error}"));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        assert!(head.contains(" 200 "), "etcd member {number}: {answer}");
        body.to_owned()
    }

    fn get(&self, number: usize, port: u16, path: &str) -> io::Result<String> {
        self.ask(number, port, &format!("GET {path} HTTP/1.0\r\n\r\n"))
    }

    fn ask(&self, number: usize, port: u16, request: &str) -> io::Result<String> {
        let member = &self.members[number];
        member.host.namespace.inside(|| {
            let address = at(member.address, port);
            let mut stream = TcpStream::connect_timeout(&address, ANSWER_DEADLINE)?;
            stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
    }
}

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}
