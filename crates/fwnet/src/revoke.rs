//! Ends the existing connections that a swap of images revokes, in every network namespace: by sock_diag(7), and listeners
//! of MPTCP by a descriptor of theirs.
//!
//! Two looks at least, because a connection that the old image was just asked about is in no list yet when the first one
//! is made; and more while there is something to end, because a program may listen again. Whose sockets they are is
//! looked up before they end: many a program ends with its connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use agent::{
    connections::{Connection, Connections, Scope, Stage},
    revoke::{Existing, Revoked, Swap},
};
use image::{At, Image};
use kernel::{Door, Event, Held, Netns, Sockets, Stamps, boottime};
use verdict::{
    Decision, Endpoint, Judgement, RuleNumber, Verdict,
    abi::Owner,
    image_flags,
    layout::{FLAG_SUBJECTS, RULE_REVOKE},
};

use crate::{
    connections::{Listed, Look, sockets as held_sockets},
    orders::Ready,
};

/// Looks that are taken at most. Nobody wins against a program that listens again and again; its port stays denied.
const LOOKS_MAX: u32 = 8;
/// Looks that are taken at least.
const LOOKS_MIN: u32 = 2;

/// A swap that has happened, and what is asked for existing connections.
#[derive(Clone)]
pub(crate) struct Sweep<'a> {
    /// The image that was in force, at a moment when it was; without one everything was allowed.
    pub(crate) old: Option<At<'a>>,
    /// The image that came into force, at that moment.
    pub(crate) new: At<'a>,
    /// What came into force since, asked before each look: what it allows is left alone.
    pub(crate) since: &'a (dyn Fn() -> Option<Arc<Ready>> + Sync),
    /// What was asked for.
    pub(crate) existing: Existing,
    /// Which sockets the firewall judges.
    pub(crate) judged: Judged,
    /// Who made which socket, where that was entered.
    pub(crate) stamps: Option<&'a Stamps>,
    /// Connections that are never ended.
    pub(crate) protected: Vec<(Endpoint, Endpoint)>,
}

/// Where a firewall judges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Id of the cgroup it is attached to; `None` is the root.
    pub(crate) cgroup: Option<u64>,
    /// Inodes of the network namespaces that it is attached to.
    pub(crate) namespaces: BTreeSet<u64>,
}

impl Judged {
    /// The same as a scope of sockets.
    pub(crate) fn scope(&self) -> Scope {
        let namespaces = Some(self.namespaces.iter().copied().collect());
        Scope { cgroup: self.cgroup, namespaces }
    }
}

/// A connection that was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// What is told of it: both ends, the oldest process that held it, and the rule of the new image that denies it.
    pub(crate) event: Event,
    /// Whether nobody was at the other end: it listened.
    pub(crate) listened: bool,
    /// Name of its network namespace.
    pub(crate) namespace: String,
}

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// What was ended, in the order of the looks.
    pub(crate) ended: Vec<Ended>,
    /// What could not be ended or looked at, one sentence each.
    pub(crate) failed: Vec<String>,
    /// Looks that were taken; 0 where nothing could be revoked.
    pub(crate) looks: u32,
}

impl Sweep<'_> {
    /// Ends what the swap revokes in these namespaces.
    pub(crate) fn run(&self, namespaces: &[Netns]) -> Swept {
        let mut swept = Swept::default();
        let mut failed = BTreeSet::new();
        while swept.looks < LOOKS_MAX {
            let ended = self.look(namespaces, &mut failed);
            swept.looks += 1;
            let nothing = ended.is_empty();
            swept.ended.extend(ended);
            if nothing && swept.looks >= LOOKS_MIN {
                break;
            }
        }
        swept.failed = failed.into_iter().collect();
        swept
    }

    /// One look: what is to end, ended.
    fn look(&self, namespaces: &[Netns], failed: &mut BTreeSet<String>) -> Vec<Ended> {
        let never = AtomicBool::new(false);
        let listed = Listed::at(namespaces, &never);
        let asks = |image: At<'_>| image_flags(&image) & FLAG_SUBJECTS != 0;
        let with_holders = asks(self.new) || self.old.is_some_and(asks);
        let by_cookie: BTreeMap<u64, kernel::Socket> =
            listed.sockets.iter().map(|&(_, socket)| (socket.cookie, socket)).collect();
        let mut look = listed.look(with_holders, self.stamps, &never);
        failed.append(&mut look.gaps.drain(..).collect());
        let scope = self.judged.scope();
        let since = (self.since)();
        let swap = Swap {
            old: self.old,
            new: self.new,
            since: since.as_ref().map(|ready| ready.now()),
            existing: self.existing,
            scope: &scope,
            protected: &self.protected,
        };
        let revoked = swap.revoked(&look.connections);
        if !with_holders && !revoked.is_empty() {
            look.find_holders(&revoked, &never);
        }
        let mut by_namespace: BTreeMap<usize, Vec<Revoked>> = BTreeMap::new();
        for revoked in revoked {
            let connection = look.connections.list.get(revoked.connection);
            let index = connection.map_or(0, |connection| connection.socket.namespace);
            by_namespace.entry(index).or_default().push(revoked);
        }
        let mut ended = Vec::new();
        for (index, revoked) in by_namespace {
            let inode = look.connections.namespaces.get(index).map_or(0, |known| known.inode);
            let Some(namespace) = namespaces.iter().find(|known| known.inode() == inode) else {
                continue;
            };
            ended.extend(destroy(namespace, &revoked, &look, &by_cookie, failed));
        }
        ended.iter().filter_map(|revoked| told(&look, namespaces, *revoked)).collect()
    }
}

/// Whether any rule of a new image revokes, or everything is to; else there is no need to look.
pub(crate) fn may_revoke(existing: Existing, new: &Image) -> bool {
    let flags = |rule| verdict::rule_flags(RuleNumber(rule), &new.at(0));
    let rules = u16::try_from(new.rules()).unwrap_or(u16::MAX);
    match existing {
        Existing::Keep => false,
        Existing::Revoke => true,
        Existing::ByRule => (0..rules).any(|rule| flags(rule) & RULE_REVOKE != 0),
    }
}

/// Ends connections of one namespace, and returns those that did not end before by themselves.
fn destroy(
    namespace: &Netns,
    revoked: &[Revoked],
    look: &Look,
    by_cookie: &BTreeMap<u64, kernel::Socket>,
    failed: &mut BTreeSet<String>,
) -> Vec<Revoked> {
    let list = &look.connections.list;
    let by_hand = |revoked: &&Revoked| {
        let connection = list.get(revoked.connection);
        connection.is_some_and(|it| it.socket.mptcp && it.socket.stage == Stage::Listening)
    };
    let (listeners, others): (Vec<&Revoked>, Vec<&Revoked>) = revoked.iter().partition(by_hand);
    let (revoked, sockets): (Vec<Revoked>, Vec<kernel::Socket>) = others
        .into_iter()
        .filter_map(|revoked| {
            let connection: &Connection = list.get(revoked.connection)?;
            Some((*revoked, *by_cookie.get(&connection.socket.cookie)?))
        })
        .unzip();
    let outcomes = match Sockets::of(namespace).destroy_all(&sockets) {
        Ok(outcomes) => outcomes,
        Err(error) => {
            failed.insert(format!("{:#}", anyhow::Error::from(error)));
            return Vec::new();
        }
    };
    let outcomes = revoked.into_iter().zip(outcomes);
    let by_hand = listeners.into_iter().map(|revoked| {
        let connection = list.get(revoked.connection);
        (*revoked, connection.map_or(Ok(()), |it| end_listener(&look.connections, it)))
    });
    let mut ended = Vec::new();
    for (revoked, outcome) in outcomes.chain(by_hand) {
        match outcome {
            Ok(()) => ended.push(revoked),
            // It has ended by itself.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                failed.insert(format!("end a socket in {}: {error}", namespace.name()));
            }
        }
    }
    ended
}

/// Ends a listener of MPTCP, by a descriptor of whoever holds it.
fn end_listener(connections: &Connections, connection: &Connection) -> io::Result<()> {
    let inode = connection.socket.inode;
    let mut outcome = Err(io::Error::other("it is not known who holds this listener of MPTCP"));
    for process in connections.holders(connection) {
        let Ok(held) = held_sockets(Path::new(&format!("/proc/{}", process.pid))) else { continue };
        for (descriptor, _) in held.filter(|&(_, held)| held == inode) {
            outcome = Held { pid: process.pid, descriptor, inode }.end_listener();
            if outcome.is_ok() {
                return outcome;
            }
        }
    }
    outcome
}

/// What is told of one that was ended.
fn told(look: &Look, namespaces: &[Netns], revoked: Revoked) -> Option<Ended> {
    let connections = &look.connections;
    let connection = connections.list.get(revoked.connection)?;
    let socket = connection.socket;
    let namespace = connections.namespace(connection)?;
    let cookie = namespaces.iter().find(|known| known.inode() == namespace.inode);
    let owner = connections.process(connection).map(|process| Owner {
        cgroup: socket.cgroup,
        exe: process.exe_id,
        pid: process.pid,
        tid: process.pid,
        uid: socket.uid,
        gid: process.gid,
        comm: comm(&process.name),
    });
    let denied = Judgement { verdict: Verdict::Deny, rule: revoked.rule };
    let event = Event {
        time_ns: boottime(),
        socket: socket.cookie,
        netns: cookie.map_or(0, Netns::cookie),
        door: Door::Sweep,
        direction: revoked.direction,
        protocol: socket.protocol,
        local: socket.local,
        remote: socket.remote,
        decision: Decision { enforced: denied, would: denied },
        generation: None,
        owner,
    };
    let listened = socket.stage == Stage::Listening;
    Some(Ended { event, listened, namespace: namespace.name.clone() })
}

/// A name as the kernel keeps it: 15 bytes and a zero.
fn comm(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    bytes
}

#[cfg(test)]
mod tests;
