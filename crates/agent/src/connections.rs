//! The sockets of a host with whose they are: put together from what the kernel lists and what /proc shows.
//!
//! Nothing is looked up here: [`Facts`] are what was read, [`Connections`] is what follows from them. Whose a socket is says
//! the stamp that the kernel's programs gave it when it was made, where it has one. Elsewhere its user and cgroup are its
//! own, and its group and executable are those of the oldest process that holds it. For a connection that was accepted, all
//! of it is the listener's, because that is whom the kernel judges.

mod assemble;
mod case;
pub mod place;
pub mod watch;

use verdict::{Address, Direction, Endpoint, Flow, Protocol, Subject};

pub use assemble::Facts;
pub use case::{Case, Judged, Scope};
pub use place::{Container, Runtime};

/// What a socket is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It accepts connections.
    Listening,
    /// It has a port and no peer: a datagram socket that gets what comes, or a TCP socket that does nothing yet.
    Bound,
    /// A connection is being made.
    Opening,
    /// Connected.
    Open,
    /// At least one end is done.
    Closing,
}

impl Stage {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Listening => "listening",
            Self::Bound => "bound",
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Closing => "closing",
        }
    }
}

/// How it is known whose a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KnownBy {
    /// By its stamp: who made it.
    Stamp,
    /// By who holds it; where several do, rules cannot tell them apart.
    Holder,
    /// By the oldest one of several that hold it and differ in group or executable.
    OldestHolder,
    /// By the socket alone: user and cgroup, and nothing else.
    Socket,
}

impl KnownBy {
    /// The words for it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Stamp => "stamp",
            Self::Holder => "holder",
            Self::OldestHolder => "oldest holder",
            Self::Socket => "socket",
        }
    }
}

/// One socket as the kernel lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// What goes over the wire.
    pub protocol: Protocol,
    /// Whether it speaks MPTCP. In [`Facts`]: whether it is such a socket as a whole, not one of its connections.
    pub mptcp: bool,
    /// What it is there for.
    pub stage: Stage,
    /// This host's end.
    pub local: Endpoint,
    /// The peer's end; all zero where there is none.
    pub remote: Endpoint,
    /// The kernel's cookie for it, unique on the machine.
    pub cookie: u64,
    /// Its user.
    pub uid: u32,
    /// Inode of its descriptor; 0 where no process holds it.
    pub inode: u32,
    /// The cgroup that it was created in; 0 is unknown.
    pub cgroup: u64,
    /// Who asked for the connection, as the connection's own counts tell.
    pub opened: Option<Direction>,
    /// Connections that wait to be accepted, of a listener.
    pub waiting: u32,
    /// The local token of MPTCP, which a socket and its connections share; 0 where there is none.
    pub token: u32,
    /// Where: the index in [`Connections::namespaces`].
    pub namespace: usize,
}

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its inode, by which `lsns` knows it.
    pub inode: u64,
    /// Its cookie, by which rules know it; 0 is unknown.
    pub cookie: u64,
    /// Name or path.
    pub name: String,
}

/// A process that holds sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// When it began, in clock ticks since boot.
    pub started: u64,
    /// Its name, which it can choose freely.
    pub name: String,
    /// Path of its executable, if that can be read.
    pub exe: Option<String>,
    /// The executable's number, as rules know it; 0 is unknown.
    pub exe_id: u64,
    /// Its group.
    pub gid: u32,
    /// Its arguments, joined by blanks.
    pub command: String,
}

/// A cgroup that sockets were created in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its id.
    pub id: u64,
    /// Its path below the root of the hierarchy, which begins with `/`.
    pub path: String,
    /// Ids of the cgroups on the way from the root to it, the root first and itself last.
    pub line: Vec<u64>,
}

/// A socket with whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The socket.
    pub socket: Socket,
    /// Who holds it, the oldest first: indices in [`Connections::processes`].
    pub holders: Vec<usize>,
    /// Its cgroup: the index in [`Connections::cgroups`]; none where it is unknown or gone.
    pub cgroup: Option<usize>,
    /// Whether this host asked for the connection. Listeners and sockets that get what comes are [`Direction::In`].
    /// `None` where neither the kernel's counts nor a listener at its local end tell.
    pub direction: Option<Direction>,
    /// Whom the kernel judges where it connects, and where it accepts.
    pub subjects: [Subject; 2],
    /// How each of the two is known.
    pub known_by: [KnownBy; 2],
}

impl Connection {
    /// The flow that the kernel would judge if this connection were made again in `direction`.
    pub fn flow(&self, direction: Direction) -> Flow {
        let [out, into] = self.subjects;
        let Socket { protocol, local, remote, .. } = self.socket;
        let subject = if direction == Direction::Out { out } else { into };
        Flow { direction, protocol, local, remote, subject }
    }

    /// What rules are asked about it; `None` for a socket that is no connection and gets nothing.
    pub fn case(&self) -> Option<Case> {
        let portless = !matches!(self.socket.protocol, Protocol::TCP | Protocol::UDP);
        match (self.socket.stage, self.direction) {
            // What has no ports is judged when the socket is made (cgroup/sock_create), whoever the peer will be.
            _ if portless => {
                let nobody = Endpoint::default();
                let flow = self.flow(Direction::Out);
                Some(Case::Claim(Flow { local: nobody, remote: nobody, ..flow }))
            }
            (Stage::Bound, _) if self.socket.protocol == Protocol::TCP => None,
            (Stage::Listening | Stage::Bound, _) => {
                let flow = self.flow(Direction::In);
                Some(Case::Claim(Flow { remote: Endpoint::default(), ..flow }))
            }
            (_, Some(direction)) => Some(Case::Made(self.flow(direction))),
            (_, None) => Some(Case::Either(self.flow(Direction::Out), self.flow(Direction::In))),
        }
    }

    /// Whether it can be ended: there is something that goes on without being judged again.
    pub fn can_be_ended(&self) -> bool {
        match self.socket.protocol {
            Protocol::TCP => self.socket.stage != Stage::Bound,
            // Each datagram of an unconnected socket is judged by itself.
            Protocol::UDP => self.socket.stage == Stage::Open,
            Protocol(_) => false,
        }
    }
}

/// Whether sockets of a protocol go on when making one is newly denied, because nothing ends them: raw sockets (sock_diag
/// ends the first that has the protocol and the addresses, whosever it is: `raw_sock_get` in net/ipv4/raw_diag.c looks at no
/// cookie), SCTP (net/sctp/diag.c ends nothing), and what else has no ports.
pub fn is_beyond_revoking(protocol: Protocol) -> bool {
    !matches!(protocol, Protocol::TCP | Protocol::UDP)
}

/// The sockets of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Where they are.
    pub namespaces: Vec<Namespace>,
    /// Who holds them.
    pub processes: Vec<Process>,
    /// Where they were created, by id.
    pub cgroups: Vec<Cgroup>,
    /// The sockets, in the order of namespace, protocol, local and remote end.
    pub list: Vec<Connection>,
}

impl Connections {
    /// Leaves out the sockets that were not created in the cgroup of this id or below.
    pub fn keep_below(&mut self, above: u64) {
        let cgroups = &self.cgroups;
        self.list.retain(|connection| {
            let cgroup = connection.cgroup.and_then(|index| cgroups.get(index));
            cgroup.is_some_and(|cgroup| cgroup.line.contains(&above))
        });
    }

    /// Who is named first where one name is wanted: the oldest process that holds it.
    pub fn process(&self, connection: &Connection) -> Option<&Process> {
        self.processes.get(*connection.holders.first()?)
    }

    /// The processes that hold a socket, the oldest first.
    pub fn holders<'a>(&'a self, connection: &'a Connection) -> impl Iterator<Item = &'a Process> {
        connection.holders.iter().filter_map(|&index| self.processes.get(index))
    }

    /// The cgroup that it was created in.
    pub fn cgroup(&self, connection: &Connection) -> Option<&Cgroup> {
        self.cgroups.get(connection.cgroup?)
    }

    /// Where it is.
    pub fn namespace(&self, connection: &Connection) -> Option<&Namespace> {
        self.namespaces.get(connection.socket.namespace)
    }

    /// The unit that it was created in.
    pub fn unit(&self, connection: &Connection) -> Option<String> {
        place::unit(&self.cgroup(connection)?.path)
    }

    /// The container that it was created in.
    pub fn container(&self, connection: &Connection) -> Option<Container> {
        place::container(&self.cgroup(connection)?.path)
    }
}

/// Whether a claim on `claimed` takes what comes for `local`.
fn covers(claimed: Endpoint, local: Endpoint) -> bool {
    let any = |address: Address| address.is_unspecified();
    claimed.port == local.port && (claimed.address == local.address || any(claimed.address))
}

#[cfg(test)]
mod tests;
