//! The machines of the session: the protected one, the denied one, and one that serves names and pages.
//!
//! ```text
//!  192.168.56.101  fd56::101 ──veth── 192.168.56.1  fd56::1   192.168.57.1 ──veth── 192.168.57.80 and .81
//!  Far, denied                        Near, protected                               Web, DNS and HTTP
//! ```

use super::attempt::DEADLINE;
use crate::programs::Programs;
use crate::workspace;
use anyhow::{Context as _, Result};
use std::ffi::OsString;
use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use testbed::{Cgroup, Host, Namespace, Running, wait_until};

/// How the events of the continuous traffic are known: nobody else talks to this address.
pub(super) const TRAFFIC: &str = "192.168.57.80:";

/// Where a command is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On the machine that is protected.
    Near,
    /// On the machine whose IPv4 address is denied.
    Far,
    /// On a machine that no rule names.
    Web,
}

impl Place {
    /// The machine's first address, which is its name here.
    pub(super) fn address(self) -> &'static str {
        match self {
            Self::Near => "192.168.56.1",
            Self::Far => "192.168.56.101",
            Self::Web => "192.168.57.80",
        }
    }
}

/// The machines, what runs on them all the time, and the programs.
pub(super) struct Stage {
    // Programs end before the machines they run on.
    /// DNS queries and pages, on Near, until its input ends.
    pub traffic: Running,
    /// Echo servers by place and name, in the order of [`SERVERS`].
    pub servers: Vec<(&'static Server, Running)>,
    _services: [Running; 2],
    near: Host,
    far: Host,
    web: Host,
    /// Where `fwnet run` lives: not where it judges.
    desk: Cgroup,
    fwnet: PathBuf,
    tools: Vec<(&'static str, PathBuf)>,
}

/// An echo server that runs all the time.
#[derive(Debug)]
pub(super) struct Server {
    pub place: Place,
    pub line: &'static str,
    /// An address by which it is reached on its own machine.
    pub answers: &'static str,
}

/// Started before the firewall, so that it meets servers that listen already.
pub(super) const SERVERS: [Server; 6] = [
    Server { place: Place::Near, line: "tcpserv -p10000 -v", answers: "127.0.0.1:10000" },
    Server { place: Place::Near, line: "tcpserv -p60000 -v", answers: "127.0.0.1:60000" },
    Server { place: Place::Near, line: "tcpserv -h::1 -p10000 -v", answers: "[::1]:10000" },
    Server { place: Place::Near, line: "tcpserv -hfd56::1 -p60000 -v", answers: "[fd56::1]:60000" },
    Server { place: Place::Far, line: "tcpserv -p60000 -v", answers: "127.0.0.1:60000" },
    Server {
        place: Place::Far,
        line: "tcpserv -hfd56::101 -p60000 -v",
        answers: "[fd56::101]:60000",
    },
];

impl Stage {
    /// Makes the machines and starts what runs on them all the time.
    pub(super) fn set(programs: &Programs) -> Result<Self> {
        let page = workspace::scratch().join("demo");
        fs::create_dir_all(&page).with_context(|| format!("make {}", page.display()))?;
        fs::write(page.join("index.html"), "a page\n").context("write the page")?;
        let (near, far, web) = (Host::new(), Host::new(), Host::new());
        let (to_far, to_near) = Namespace::join(
            &near.namespace,
            "192.168.56.1/24",
            &far.namespace,
            "192.168.56.101/24",
        );
        near.namespace.add_address(&to_far, "fd56::1/64");
        far.namespace.add_address(&to_near, "fd56::101/64");
        let (_, to_near) =
            Namespace::join(&near.namespace, "192.168.57.1/24", &web.namespace, "192.168.57.80/24");
        web.namespace.add_address(&to_near, "192.168.57.81/24");
        let page = page.to_string_lossy().into_owned();
        let dns = web.start("python3", python(include_str!("dns.py"), &["192.168.57.80"; 2]));
        let http =
            web.start("python3", ["-u", "-m", "http.server", "80", "--directory", page.as_str()]);
        dns.wait_for_line("answering", DEADLINE);
        http.wait_for_line("Serving HTTP", DEADLINE);
        let traffic = near.start("python3", python(include_str!("traffic.py"), &["192.168.57.80"]));
        traffic.wait_for_line("going", DEADLINE);
        let mut stage = Self {
            traffic,
            servers: Vec::new(),
            _services: [dns, http],
            near,
            far,
            web,
            desk: Cgroup::new(),
            fwnet: programs.path("fwnet")?.to_owned(),
            tools: vec![
                ("tcpcli", programs.path("tcpcli")?.to_owned()),
                ("tcpserv", programs.path("tcpserv")?.to_owned()),
            ],
        };
        for server in &SERVERS {
            let running = Running::start(stage.command(server.place, server.line)?);
            stage.servers.push((server, running));
            let namespace = &stage.host(server.place).namespace;
            wait_until(DEADLINE, server.line, || {
                namespace.inside(|| TcpStream::connect(server.answers).is_ok())
            });
        }
        Ok(stage)
    }

    fn host(&self, place: Place) -> &Host {
        match place {
            Place::Near => &self.near,
            Place::Far => &self.far,
            Place::Web => &self.web,
        }
    }

    /// `line`, split at blanks, as a command on a machine. Our own programs are those that were just built.
    pub(super) fn command(&self, place: Place, line: &str) -> Result<Command> {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().context("an empty command line")?;
        let built = self.tools.iter().find(|(tool, _)| *tool == name);
        let program =
            built.map_or_else(|| OsString::from(name), |(_, path)| path.clone().into_os_string());
        let mut command = self.host(place).command(program);
        command.args(words);
        Ok(command)
    }

    /// The arguments that hold `fwnet run` to Near's cgroup and namespace.
    pub(super) fn bounds(&self) -> [String; 4] {
        [
            "--cgroup".into(),
            self.near.cgroup.path().display().to_string(),
            "--netns".into(),
            self.near.namespace.name().into(),
        ]
    }

    /// `fwnet run` with `flags`, within [`Stage::bounds`].
    pub(super) fn firewall(&self, flags: &str) -> Command {
        let mut command = self.desk.command(&self.fwnet);
        command.arg("run").args(flags.split_ascii_whitespace()).args(self.bounds());
        command
    }

    /// Connections that the server `line` at `place` has accepted so far.
    pub(super) fn accepted(&self, place: Place, line: &str) -> usize {
        let server = self.servers.iter().find(|(it, _)| it.place == place && it.line == line);
        let lines = server.map(|(_, running)| running.lines()).unwrap_or_default();
        lines.iter().filter(|line| line.starts_with("connect from")).count()
    }
}

/// Arguments of python3 that run `script`.
fn python<'a>(script: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [&["-c", script], arguments].concat()
}
