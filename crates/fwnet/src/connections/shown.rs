//! The sockets as JSON, and as the agent's API answers: every name in full, nothing left to look up.

use std::collections::BTreeMap;

use agent::connections::{
    Connection, Connections, Container, Judged, Scope, Stage, watch::WatchList,
};
use image::At;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use verdict::{Direction, Endpoint, Protocol, RuleNumber};

use crate::{names::Names, orders::Reason, prefix::standard};

/// Everything that one look found.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(as = Sockets)]
pub(crate) struct Report {
    /// Whether the look was broken off: then something may be missing.
    pub(crate) interrupted: bool,
    /// What could not be looked at, and what is odd about the watch list.
    pub(crate) notes: Vec<String>,
    /// How many.
    pub(crate) counts: Counts,
    /// The sockets.
    pub(crate) connections: Vec<Row>,
}

/// How many sockets there are.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(as = SocketCounts)]
pub(crate) struct Counts {
    /// All that were looked at.
    pub(crate) sockets: usize,
    /// Those that the policy denies.
    pub(crate) denied: usize,
    /// Those with a port on the watch list.
    pub(crate) watched: usize,
}

/// One socket.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Socket)]
pub(crate) struct Row {
    /// `tcp`, `udp`, or another protocol's name or number.
    pub(crate) protocol: String,
    /// Whether it is MPTCP.
    pub(crate) mptcp: bool,
    /// `listening`, `bound`, `opening`, `open` or `closing`.
    pub(crate) state: String,
    /// `out` if this host asked for the connection, `in` if the peer did or nobody has yet; null where that is unknown.
    pub(crate) direction: Option<String>,
    /// This host's end.
    pub(crate) local: End,
    /// The peer's end, if there is one.
    pub(crate) remote: Option<End>,
    /// Connections that wait to be accepted.
    pub(crate) waiting: u32,
    /// Its user.
    pub(crate) user: User,
    /// The processes that hold it, the oldest first.
    pub(crate) processes: Vec<Holder>,
    /// The systemd unit it was created in.
    pub(crate) unit: Option<String>,
    /// The container it was created in.
    pub(crate) container: Option<Place>,
    /// The cgroup it was created in.
    pub(crate) cgroup: Group,
    /// Its network namespace.
    pub(crate) namespace: Space,
    /// The kernel's cookie for it, in decimal: JSON numbers are not exact that far.
    pub(crate) cookie: String,
    /// Inode of its descriptor; 0 where no process holds it.
    pub(crate) inode: u32,
    /// What the policy says of it; null where there is none, and where it is not judged.
    pub(crate) verdict: Option<Said>,
    /// Why its port is on the watch list, if it is.
    pub(crate) watched: Option<Watch>,
}

/// An address and a port.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = SocketEnd)]
pub(crate) struct End {
    /// In standard notation.
    pub(crate) address: String,
    /// The port.
    pub(crate) port: u16,
}

/// A user.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = SocketUser)]
pub(crate) struct User {
    /// The uid.
    pub(crate) id: u32,
    /// The name, if the machine knows one.
    pub(crate) name: Option<String>,
}

/// A process that holds a socket.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = SocketHolder)]
pub(crate) struct Holder {
    /// Its id.
    pub(crate) pid: u32,
    /// Its name, which it can choose.
    pub(crate) name: String,
    /// Path of its executable.
    pub(crate) exe: Option<String>,
    /// Its arguments.
    pub(crate) command: String,
}

/// A container.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = SocketContainer)]
pub(crate) struct Place {
    /// `docker`, `podman`, `containerd`, `cri-o`, `kubernetes`, `lxc` or `machine`.
    pub(crate) runtime: String,
    /// Its id or name.
    pub(crate) id: String,
}

/// A cgroup.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = SocketCgroup)]
pub(crate) struct Group {
    /// Its id; 0 is unknown.
    pub(crate) id: u64,
    /// Its path; null where it is gone.
    pub(crate) path: Option<String>,
}

/// A network namespace.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = SocketNamespace)]
pub(crate) struct Space {
    /// Its inode.
    pub(crate) inode: u64,
    /// Name or path.
    pub(crate) name: String,
}

/// What a policy says.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = SocketVerdict)]
pub(crate) struct Said {
    /// `allow` or `deny`.
    pub(crate) enforced: String,
    /// In which direction it was asked.
    pub(crate) direction: String,
    /// By what is known whose it is: `stamp` (who made it), `holder` (the process that holds it), `oldest holder` (of
    /// several that differ), `socket` (its user and cgroup alone). Of what was accepted it is the listener's.
    #[serde(default)]
    pub(crate) known_by: String,
    /// The deciding rule.
    pub(crate) rule: String,
    /// What it says.
    pub(crate) text: Option<String>,
    /// File and line.
    pub(crate) place: Option<String>,
    /// Why it exists.
    pub(crate) reason: Option<String>,
}

/// Why a port is watched.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = SocketWatch)]
pub(crate) struct Watch {
    /// The port.
    pub(crate) port: u16,
    /// `local` or `remote`.
    pub(crate) end: String,
    /// The reason in the list.
    pub(crate) reason: String,
}

/// What sockets are compared with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Against<'a> {
    /// The image at a moment, and where its rules come from.
    pub(crate) image: Option<(At<'a>, &'a [Reason])>,
    /// Which sockets it judges.
    pub(crate) scope: Option<&'a Scope>,
    /// Ports to watch for.
    pub(crate) watch: Option<&'a WatchList>,
}

impl Row {
    /// Whether there is anything to find.
    pub(crate) fn is_found(&self) -> bool {
        self.is_denied() || self.watched.is_some()
    }

    /// Whether the policy denies it.
    pub(crate) fn is_denied(&self) -> bool {
        self.verdict.as_ref().is_some_and(|said| said.enforced == "deny")
    }
}

impl Report {
    /// Takes over what an agent says of the same sockets.
    pub(crate) fn take_verdicts(&mut self, agents: Self) {
        let mut said: BTreeMap<String, Option<Said>> =
            agents.connections.into_iter().map(|row| (row.cookie, row.verdict)).collect();
        for row in &mut self.connections {
            row.verdict = said.remove(&row.cookie).flatten();
        }
        self.counts.denied = self.connections.iter().filter(|row| row.is_denied()).count();
    }

    /// All of `connections`, each compared.
    pub(crate) fn of(connections: &Connections, against: Against<'_>, names: &Names) -> Self {
        let every = Scope::default();
        let scope = against.scope.unwrap_or(&every);
        let rows: Vec<Row> = connections
            .list
            .iter()
            .map(|connection| row(connections, connection, against, scope, names))
            .collect();
        let counts = Counts {
            sockets: rows.len(),
            denied: rows.iter().filter(|row| row.is_denied()).count(),
            watched: rows.iter().filter(|row| row.watched.is_some()).count(),
        };
        Self { interrupted: false, notes: Vec::new(), counts, connections: rows }
    }
}

fn row(
    connections: &Connections,
    connection: &Connection,
    against: Against<'_>,
    scope: &Scope,
    names: &Names,
) -> Row {
    let socket = &connection.socket;
    let waits = matches!(socket.stage, Stage::Listening | Stage::Bound);
    let holders = connection.holders.iter().filter_map(|&index| connections.processes.get(index));
    let verdict = against.image.and_then(|(image, reasons)| {
        let judged = scope.case(connections, connection)?.judge(&image);
        Some(said(judged, connection, reasons))
    });
    let watched = against.watch.and_then(|list| list.watches(socket));
    Row {
        protocol: protocol(socket.protocol),
        mptcp: socket.mptcp,
        state: socket.stage.word().to_owned(),
        direction: connection.direction.map(|direction| way(direction).to_owned()),
        local: end(socket.local),
        remote: (!waits).then(|| end(socket.remote)),
        waiting: socket.waiting,
        user: User { id: socket.uid, name: names.user_of(socket.uid).map(str::to_owned) },
        processes: holders
            .map(|process| Holder {
                pid: process.pid,
                name: process.name.clone(),
                exe: process.exe.clone(),
                command: process.command.clone(),
            })
            .collect(),
        unit: connections.unit(connection),
        container: connections
            .container(connection)
            .map(|Container { runtime, id }| Place { runtime: runtime.word().to_owned(), id }),
        cgroup: Group {
            id: socket.cgroup,
            path: connections.cgroup(connection).map(|cgroup| cgroup.path.clone()),
        },
        namespace: connections.namespace(connection).map_or_else(
            || Space { inode: 0, name: String::new() },
            |namespace| Space { inode: namespace.inode, name: namespace.name.clone() },
        ),
        cookie: socket.cookie.to_string(),
        inode: socket.inode,
        verdict,
        watched: watched.map(|(watched, end)| Watch {
            port: watched.port,
            end: end.word().to_owned(),
            reason: watched.reason.clone(),
        }),
    }
}

fn said(judged: Judged, connection: &Connection, reasons: &[Reason]) -> Said {
    let Reason { id, text, place, reason } = named(judged.judgement.rule, reasons);
    let enforced = if judged.denies() { "deny" } else { "allow" };
    let direction = way(judged.direction).to_owned();
    let [out, into] = connection.known_by;
    let known_by = if judged.direction == Direction::Out { out } else { into };
    let (enforced, known_by) = (enforced.to_owned(), known_by.words().to_owned());
    Said { enforced, direction, known_by, rule: id, text, place, reason }
}

/// Where a rule comes from; its number, where that is not known.
pub(crate) fn named(rule: RuleNumber, reasons: &[Reason]) -> Reason {
    reasons
        .get(usize::from(rule.0))
        .cloned()
        .unwrap_or_else(|| Reason { id: format!("rule {}", rule.0), ..Reason::default() })
}

/// `out` or `in`.
pub(crate) fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => "out",
        Direction::In => "in",
    }
}

/// The name of a protocol, else its number.
pub(crate) fn protocol(protocol: Protocol) -> String {
    match protocol {
        Protocol::TCP => "tcp".into(),
        Protocol::UDP => "udp".into(),
        Protocol::SCTP => "sctp".into(),
        Protocol::UDPLITE => "udplite".into(),
        Protocol::ICMP => "icmp".into(),
        Protocol::ICMPV6 => "icmpv6".into(),
        Protocol::RAW => "raw".into(),
        Protocol(number) => number.to_string(),
    }
}

fn end(end: Endpoint) -> End {
    End { address: standard(end.address).to_string(), port: end.port }
}
