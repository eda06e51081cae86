//! From what was read to sockets with their owners.

use std::collections::BTreeMap;

use verdict::{Direction, Endpoint, Protocol, Subject, limits::ANCESTORS_MAX};

use super::{Cgroup, Connection, Connections, KnownBy, Namespace, Process, Socket, Stage, covers};

/// What was read of a host, in any order.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Where sockets were looked for.
    pub namespaces: Vec<Namespace>,
    /// Processes that hold sockets.
    pub processes: Vec<Process>,
    /// Which socket, by inode, is held by which process, by its index.
    pub held: Vec<(u32, usize)>,
    /// Who made a socket, by its inode, as its stamp says; the namespace in there is not looked at.
    pub stamped: BTreeMap<u32, Subject>,
    /// The cgroups.
    pub cgroups: Vec<Cgroup>,
    /// The sockets.
    pub sockets: Vec<Socket>,
}

impl Facts {
    /// Puts the facts together.
    pub fn connections(self) -> Connections {
        let Self { namespaces, processes, mut held, stamped, mut cgroups, sockets } = self;
        cgroups.sort_unstable_by_key(|cgroup| cgroup.id);
        let age = |index: usize| processes.get(index).map(|process| (process.started, process.pid));
        held.sort_unstable_by_key(|&(inode, process)| (inode, age(process), process));
        held.dedup();
        let made = Made {
            namespaces: &namespaces,
            processes: &processes,
            held: &held,
            stamped: &stamped,
            cgroups: &cgroups,
        };
        let mut list: Vec<Connection> =
            whole(sockets).into_iter().map(|socket| made.connection(socket)).collect();
        list.sort_by_key(|connection| {
            let Socket { namespace, protocol, local, remote, cookie, .. } = connection.socket;
            (namespace, protocol, local, remote, cookie)
        });
        accepted(&mut list);
        Connections { namespaces, processes, cgroups, list }
    }
}

/// The sockets without those of MPTCP that stand for others of the list, which get what is known of the whole instead:
/// the kernel opens an MPTCP socket's connections itself, and no process holds them.
fn whole(sockets: Vec<Socket>) -> Vec<Socket> {
    let (wholes, mut rest): (Vec<_>, Vec<_>) = sockets.into_iter().partition(|one| one.mptcp);
    let mut by_token = BTreeMap::new();
    let mut by_claim: BTreeMap<(usize, Endpoint), Vec<usize>> = BTreeMap::new();
    for (index, one) in wholes.iter().enumerate() {
        if one.token != 0 {
            by_token.insert((one.namespace, one.token), index);
        } else if one.stage == Stage::Listening {
            by_claim.entry((one.namespace, one.local)).or_default().push(index);
        }
    }
    let mut shown = vec![false; wholes.len()];
    for one in rest.iter_mut().filter(|one| one.protocol == Protocol::TCP) {
        let index = match one.stage {
            Stage::Listening => {
                by_claim.get_mut(&(one.namespace, one.local)).and_then(|waiting| {
                    // One of several listeners that share the end; which one is all the same.
                    if waiting.len() > 1 { waiting.pop() } else { waiting.first().copied() }
                })
            }
            Stage::Bound | Stage::Opening | Stage::Open | Stage::Closing => {
                by_token.get(&(one.namespace, one.token)).copied()
            }
        };
        if let Some((index, of)) = index.and_then(|index| Some((index, wholes.get(index)?))) {
            (one.mptcp, one.inode) = (true, of.inode);
            (one.uid, one.cgroup) = (of.uid, of.cgroup);
            if let Some(shown) = shown.get_mut(index) {
                *shown = true;
            }
        }
    }
    let alone = wholes.into_iter().zip(shown).filter(|(_, shown)| !shown);
    rest.extend(alone.map(|(socket, _)| socket));
    rest
}

struct Made<'a> {
    namespaces: &'a [Namespace],
    processes: &'a [Process],
    /// By inode, then by age.
    held: &'a [(u32, usize)],
    /// By inode.
    stamped: &'a BTreeMap<u32, Subject>,
    /// By id.
    cgroups: &'a [Cgroup],
}

impl Made<'_> {
    fn connection(&self, socket: Socket) -> Connection {
        let holders: Vec<usize> = if socket.inode == 0 {
            Vec::new()
        } else {
            let first = self.held.partition_point(|&(inode, _)| inode < socket.inode);
            let own = self.held.get(first..).unwrap_or_default();
            own.iter()
                .take_while(|(inode, _)| *inode == socket.inode)
                .map(|&(_, process)| process)
                .collect()
        };
        let cgroup = self.cgroups.binary_search_by_key(&socket.cgroup, |cgroup| cgroup.id).ok();
        let holder = holders.first().and_then(|&index| self.processes.get(index));
        let netns = self.namespaces.get(socket.namespace).map_or(0, |namespace| namespace.cookie);
        let by_holder = Subject {
            uid: socket.uid,
            gid: holder.map_or(u32::MAX, |process| process.gid),
            exe: holder.map_or(0, |process| process.exe_id),
            cgroup: socket.cgroup,
            above: cgroup.and_then(|at| self.cgroups.get(at)).map_or_else(Default::default, above),
            netns,
        };
        let stamp = self.stamped.get(&socket.inode).filter(|_| socket.inode != 0);
        let (subject, known_by) = match stamp {
            Some(stamp) => (Subject { netns, ..*stamp }, KnownBy::Stamp),
            None => (by_holder, self.known_by(&holders)),
        };
        let direction = match (socket.stage, socket.protocol) {
            (Stage::Listening | Stage::Bound, _) => Some(Direction::In),
            // A datagram socket has a peer because it called connect(), which was judged.
            (_, Protocol::UDP) => Some(Direction::Out),
            (_, _) => socket.opened,
        };
        let (subjects, known_by) = ([subject; 2], [known_by; 2]);
        Connection { socket, holders, cgroup, direction, subjects, known_by }
    }

    fn known_by(&self, holders: &[usize]) -> KnownBy {
        let mut told = holders.iter().filter_map(|&index| self.processes.get(index));
        let told_apart = |process: &Process| (process.gid, process.exe_id);
        match told.next() {
            None => KnownBy::Socket,
            Some(first) if told.all(|other| told_apart(other) == told_apart(first)) => {
                KnownBy::Holder
            }
            Some(_) => KnownBy::OldestHolder,
        }
    }
}

/// The cgroups on the way to one as the kernel stamps them: level [`ANCESTORS_MAX`] first, the root left out.
fn above(cgroup: &Cgroup) -> [u64; ANCESTORS_MAX] {
    let mut above = [0; ANCESTORS_MAX];
    for (level, id) in (1..=ANCESTORS_MAX).rev().zip(&mut above) {
        *id = cgroup.line.get(level).copied().unwrap_or(0);
    }
    above
}

/// A local end where somebody listens, and who that is.
struct Claim {
    local: Endpoint,
    subject: Subject,
    known_by: KnownBy,
}

/// Gives connections that were accepted the subject of who listens there, and takes those for accepted of which is not
/// known who opened them and at whose local end somebody listens.
fn accepted(list: &mut [Connection]) {
    let mut listeners: BTreeMap<(usize, Protocol, u16), Vec<Claim>> = BTreeMap::new();
    for connection in list.iter().filter(|connection| connection.socket.stage == Stage::Listening) {
        let Socket { namespace, protocol, local, .. } = connection.socket;
        let ([_, into], [_, known_by]) = (connection.subjects, connection.known_by);
        let claims = listeners.entry((namespace, protocol, local.port)).or_default();
        claims.push(Claim { local, subject: into, known_by });
    }
    // The more exact claim is the one that gets the connection.
    for claims in listeners.values_mut() {
        claims.sort_by_key(|claim| claim.local.address.is_unspecified());
    }
    for connection in list {
        let Socket { namespace, protocol, local, stage, .. } = connection.socket;
        if matches!(stage, Stage::Listening | Stage::Bound) || protocol == Protocol::UDP {
            continue;
        }
        let claims = listeners.get(&(namespace, protocol, local.port));
        let claim = claims.into_iter().flatten().find(|claim| covers(claim.local, local));
        if let Some(Claim { local: _, subject, known_by }) = claim {
            connection.subjects[1] = *subject;
            connection.known_by[1] = *known_by;
            connection.direction = connection.direction.or(Some(Direction::In));
        }
    }
}
