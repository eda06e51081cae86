//! The sockets of this machine with whose they are: what is read for it, and how it is shown.
//!
//! Reading is one dump for each protocol of each network namespace, one walk over /proc/PID/fd, and one walk over the
//! cgroups as far as sockets need it. What ends meanwhile is left out.

mod cgroups;
mod namespaces;
mod processes;
pub(crate) mod shown;
mod table;

use std::sync::atomic::{AtomicBool, Ordering};

use agent::{
    connections::{Connections, Facts, Namespace, Socket, Stage},
    revoke::Revoked,
};
use kernel::{Netns, Sockets, Stamps, State, Wanted};
use verdict::{
    Subject,
    abi::{Owner, Stamp},
};

pub(crate) use namespaces::everywhere;
pub(crate) use processes::sockets;
pub(crate) use table::text;

/// What was found, and what could not be looked at.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// The sockets.
    pub(crate) connections: Connections,
    /// One sentence for each thing that could not be looked at.
    pub(crate) gaps: Vec<String>,
}

/// Sockets as the kernel lists them, nothing else looked up yet.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Where they are.
    namespaces: Vec<Namespace>,
    /// Index of the namespace, and the socket.
    pub(crate) sockets: Vec<(usize, kernel::Socket)>,
    gaps: Vec<String>,
}

impl Listed {
    /// Those of `namespaces`, until `stop` is set.
    pub(crate) fn at(namespaces: &[Netns], stop: &AtomicBool) -> Self {
        let mut listed = Self::default();
        for namespace in namespaces {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let index = listed.namespaces.len();
            match Sockets::of(namespace).list(Wanted::All) {
                Ok(sockets) => {
                    listed.sockets.extend(sockets.into_iter().map(|socket| (index, socket)));
                    let (inode, name) = (namespace.inode(), namespace.name().to_owned());
                    let cookie = namespace.cookie();
                    listed.namespaces.push(Namespace { inode, cookie, name });
                }
                Err(error) => listed.gaps.push(format!("{:#}", anyhow::Error::from(error))),
            }
        }
        listed
    }

    /// Looks up the cgroups, and the processes too if they are wanted; then `stamps` say who made a socket that somebody
    /// holds.
    pub(crate) fn look(
        self,
        with_holders: bool,
        stamps: Option<&Stamps>,
        stop: &AtomicBool,
    ) -> Look {
        let Self { namespaces, sockets, mut gaps } = self;
        let sockets: Vec<Socket> =
            sockets.iter().map(|(index, socket)| taken(socket, *index)).collect();
        let mut facts = Facts { namespaces, sockets, ..Facts::default() };
        if with_holders && !stop.load(Ordering::Relaxed) {
            let inodes = facts.sockets.iter().map(|socket| socket.inode).collect();
            let walk = processes::holders(&inodes, stop);
            (facts.processes, facts.held) = (walk.processes, walk.held);
            for (inode, held) in &walk.places {
                let stamp = stamps.and_then(|stamps| stamps.of(held));
                facts.stamped.extend(stamp.map(|stamp| (*inode, made_by(&stamp))));
            }
            if walk.hidden > 0 {
                gaps.push(format!(
                    "{} processes do not show what they hold (run as root to see whose sockets are whose)",
                    walk.hidden
                ));
            }
        }
        facts.cgroups = cgroups::of(&facts.sockets);
        Look { connections: facts.connections(), gaps }
    }
}

impl Look {
    /// Looks at the sockets of `namespaces` and everything that is known of them, until `stop` is set: then what is
    /// known so far is returned.
    pub(crate) fn at(namespaces: &[Netns], stop: &AtomicBool) -> Self {
        Self::stamped(namespaces, None, stop)
    }

    /// The same, where `stamps` say who made a socket.
    pub(crate) fn stamped(
        namespaces: &[Netns],
        stamps: Option<&Stamps>,
        stop: &AtomicBool,
    ) -> Self {
        Listed::at(namespaces, stop).look(true, stamps, stop)
    }

    /// Looks up who holds these connections, for a look without holders.
    pub(crate) fn find_holders(&mut self, revoked: &[Revoked], stop: &AtomicBool) {
        let list = &mut self.connections.list;
        let inode = |revoked: &Revoked| Some(list.get(revoked.connection)?.socket.inode);
        let inodes = revoked.iter().filter_map(inode).filter(|&inode| inode != 0).collect();
        let mut walk = processes::holders(&inodes, stop);
        walk.held.sort_unstable();
        let age = |&process: &usize| {
            walk.processes.get(process).map(|process| (process.started, process.pid))
        };
        for revoked in revoked {
            let Some(connection) = list.get_mut(revoked.connection) else { continue };
            let inode = connection.socket.inode;
            let first = walk.held.partition_point(|&(held, _)| held < inode);
            let own = walk.held.get(first..).unwrap_or_default();
            connection.holders =
                own.iter().take_while(|held| held.0 == inode).map(|held| held.1).collect();
            connection.holders.sort_by_key(age);
            connection.holders.dedup();
        }
        self.connections.processes = walk.processes;
    }
}

fn made_by(stamp: &Stamp) -> Subject {
    let Stamp { owner, above } = *stamp;
    let Owner { cgroup, exe, uid, gid, pid: _, tid: _, comm: _ } = owner;
    Subject { uid, gid, exe, cgroup, above, ..Subject::UNKNOWN }
}

fn taken(socket: &kernel::Socket, namespace: usize) -> Socket {
    Socket {
        protocol: socket.protocol,
        mptcp: socket.mptcp,
        stage: match socket.state {
            State::Listen => Stage::Listening,
            State::Closed => Stage::Bound,
            State::SynSent | State::SynReceived => Stage::Opening,
            State::Established => Stage::Open,
            State::FinWait1
            | State::FinWait2
            | State::TimeWait
            | State::CloseWait
            | State::LastAck
            | State::Closing => Stage::Closing,
        },
        local: socket.local,
        remote: socket.remote,
        cookie: socket.cookie,
        uid: socket.uid,
        inode: socket.inode,
        cgroup: socket.cgroup,
        opened: socket.opened,
        waiting: if socket.state == State::Listen { socket.waiting } else { 0 },
        token: socket.token,
        namespace,
    }
}

/// A socket of which nothing matters but its cgroup.
#[cfg(test)]
fn tests_socket(cgroup: u64) -> Socket {
    let end = verdict::Endpoint::default();
    Socket {
        protocol: verdict::Protocol::TCP,
        mptcp: false,
        stage: Stage::Open,
        local: end,
        remote: end,
        cookie: 0,
        uid: 0,
        inode: 0,
        cgroup,
        opened: None,
        waiting: 0,
        token: 0,
        namespace: 0,
    }
}
