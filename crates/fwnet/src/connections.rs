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

use agent::connections::{Connections, Facts, Namespace, Socket, Stage};
use kernel::{Netns, Sockets, State, Wanted};

pub(crate) use namespaces::everywhere;
pub(crate) use table::text;

/// What was found, and what could not be looked at.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// The sockets.
    pub(crate) connections: Connections,
    /// One sentence for each thing that could not be looked at.
    pub(crate) gaps: Vec<String>,
}

impl Look {
    /// Looks at the sockets of `namespaces`, until `stop` is set: then what is known so far is returned.
    pub(crate) fn at(namespaces: &[Netns], stop: &AtomicBool) -> Self {
        let mut facts = Facts::default();
        let mut gaps = Vec::new();
        for namespace in namespaces {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let index = facts.namespaces.len();
            match Sockets::of(namespace).list(Wanted::All) {
                Ok(sockets) => {
                    facts.sockets.extend(sockets.iter().map(|socket| taken(socket, index)));
                    let (inode, name) = (namespace.inode(), namespace.name().to_owned());
                    facts.namespaces.push(Namespace { inode, name });
                }
                Err(error) => gaps.push(format!("{:#}", anyhow::Error::from(error))),
            }
        }
        if !stop.load(Ordering::Relaxed) {
            let walk = processes::holders(&facts.sockets, stop);
            (facts.processes, facts.held) = (walk.processes, walk.held);
            if walk.hidden > 0 {
                gaps.push(format!(
                    "{} processes do not show what they hold (run as root to see whose sockets are whose)",
                    walk.hidden
                ));
            }
            facts.cgroups = cgroups::of(&facts.sockets);
        }
        Self { connections: facts.connections(), gaps }
    }
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
