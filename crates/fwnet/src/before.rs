//! Whose sockets are that were there before the programs looked: found out once, from sock_diag(7) and /proc/PID/fd, and
//! entered where the programs look.
//!
//! The user and the cgroup are those a socket was made with, as the kernel keeps them; group, executable and process are
//! those of its oldest holder. What no process holds that can be looked into (a socket on its way in a message, the
//! kernel's own) stays unknown, and rules about processes do not hold for it.

use std::{collections::BTreeMap, path::Path, sync::atomic::AtomicBool};

use ::agent::connections::{Connection, Connections, Stage};
use kernel::{Firewall, Known, Stranger};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use verdict::{
    Protocol,
    abi::{Owner, Stamp},
};

use crate::connections::{Look, everywhere, sockets};

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Before {
    /// Sockets whose owner is known by now.
    pub(crate) known: u64,
    /// Of those, how many are known by their cookie only, because their process let nobody at them: 8,192 are remembered,
    /// the least recently used goes first.
    pub(crate) by_cookie: u64,
    /// Sockets that listen or take datagrams, of which nobody can tell whose they are.
    pub(crate) unknown: u64,
}

impl Before {
    /// Looks where that is due, and enters what is found. Takes as long as a dump of all sockets and a walk through all
    /// processes: milliseconds on a small machine.
    pub(crate) fn where_due(firewall: &mut Firewall) -> Option<Self> {
        firewall.wants_strangers().then(|| Self::introduce(firewall))
    }

    /// What whoever enforces should know of it.
    pub(crate) fn note(&self) -> Option<String> {
        let unknown = match self.unknown {
            0 => return None,
            1 => "it is not known whose 1 socket from before is".to_owned(),
            some => format!("it is not known whose {some} sockets from before are"),
        };
        Some(format!("{unknown}: no rule about processes holds for what comes in there"))
    }

    fn introduce(firewall: &mut Firewall) -> Self {
        let mut connections = Look::at(&everywhere(), &AtomicBool::new(false)).connections;
        connections.keep_below(firewall.cgroup().id());
        let descriptors = descriptors(&connections);
        let mut before = Self::default();
        for connection in &connections.list {
            match stranger(&connections, connection, &descriptors) {
                Some(stranger) => match firewall.introduce(&stranger) {
                    Ok(Known::Already | Known::Stamped) => before.known += 1,
                    Ok(Known::Apart) => {
                        before.known += 1;
                        before.by_cookie += 1;
                    }
                    Err(_full) => before.unknown += 1,
                },
                None if claims(connection) => before.unknown += 1,
                // It waits to be accepted, or is judged as whoever listens there.
                None => {}
            }
        }
        before
    }
}

/// Whether rules about what comes in are about it.
fn claims(connection: &Connection) -> bool {
    let bound = matches!(connection.socket.stage, Stage::Listening | Stage::Bound);
    bound && connection.socket.local.port != 0
}

/// Under which descriptor a process holds a socket: by process id and inode.
fn descriptors(connections: &Connections) -> BTreeMap<(u32, u32), u32> {
    let mut found = BTreeMap::new();
    for process in &connections.processes {
        let held = sockets(Path::new(&format!("/proc/{}", process.pid)));
        for (descriptor, inode) in held.into_iter().flatten() {
            found.entry((process.pid, inode)).or_insert(descriptor);
        }
    }
    found
}

/// A socket with its owner; `None` where nobody is known to hold it.
fn stranger(
    connections: &Connections,
    connection: &Connection,
    descriptors: &BTreeMap<(u32, u32), u32>,
) -> Option<Stranger> {
    let process = connections.process(connection)?;
    let namespace = connections.namespace(connection)?;
    let socket = &connection.socket;
    let descriptor = *descriptors.get(&(process.pid, socket.inode))?;
    let [subject, _] = connection.subjects;
    let mut comm = [0; 16];
    for (to, from) in comm.iter_mut().take(15).zip(process.name.bytes()) {
        *to = from;
    }
    let owner = Owner {
        cgroup: subject.cgroup,
        exe: subject.exe,
        pid: process.pid,
        tid: process.pid,
        uid: subject.uid,
        gid: subject.gid,
        comm,
    };
    let ported = matches!(socket.protocol, Protocol::TCP | Protocol::UDP);
    let claim = claims(connection) && ported;
    Some(Stranger {
        cookie: socket.cookie,
        inode: socket.inode,
        held: (process.pid, descriptor),
        claim: claim.then_some((namespace.cookie, socket.protocol, socket.local)),
        stamp: Stamp { owner, above: subject.above },
    })
}
