//! Ways around the hooks that are more than one way of making a call: sockets from before or from elsewhere, odd states of
//! the kernel, and what another root process can do. A list, as of doors; the matrix goes each of them.

use crate::door::{Extent, Side};

/// One way around.
#[derive(Clone, Copy, Debug)]
pub struct Detour {
    /// Its name: as of a door, and of no door.
    pub name: &'static str,
    /// Which side goes it.
    pub side: Side,
    /// What is done, and what the kernel makes of it.
    pub note: &'static str,
    /// As of a door: the hooks that close it, any one of them. Empty where no hook can.
    pub judged_by: &'static [&'static str],
    /// Whether those see it only where the firewall is attached to the root of the cgroup tree.
    pub at_root: bool,
}

impl Detour {
    /// How far it is open where `hooks` are in place, at the root of the cgroup tree.
    pub fn extent(&self, hooks: &[&str]) -> Extent {
        match self.judged_by.iter().any(|hook| hooks.contains(hook)) {
            true => Extent::Judged,
            false => Extent::Open,
        }
    }
}

const CONNECT: &[&str] = &["cgroup/connect4", "lsm/socket_connect"];
const SYN: &[&str] = &["sk_lookup", "lsm/inet_conn_request"];

/// Every way around that is known.
pub const DETOURS: &[Detour] = &[
    out("made-before", "a socket from before the programs were attached connects", CONNECT),
    out(
        "connected-before",
        "data on a connection from before: what is established is not looked at (a sweep ends it after a change)",
        &[],
    ),
    Detour {
        at_root: true,
        ..out(
            "socket-of-another",
            "a socket that a process of another cgroup made connects: the hooks of that cgroup run",
            CONNECT,
        )
    },
    out(
        "new-namespaces",
        "a process in a user and a network namespace of its own connects there",
        CONNECT,
    ),
    out(
        "options-full",
        "the socket's memory for options is full, so that nothing more can be stored on it",
        CONNECT,
    ),
    out(
        "overruled-below",
        "a program on a cgroup below takes the denial back by bpf_set_retval: ours runs after it",
        CONNECT,
    ),
    out(
        "overruled",
        "a program that another root process puts on the same cgroup later takes the denial back",
        &["lsm/socket_connect"],
    ),
    out(
        "map-opened",
        "another root process opens the table that says which rules are in force, to write",
        &["lsm/bpf_map"],
    ),
    out("pin-removed", "another root process removes the pin of a table", &["lsm/inode_unlink"]),
    out(
        "pin-renamed",
        "another root process gives the pin of a table another name",
        &["lsm/inode_rename"],
    ),
    out(
        "detached",
        "another root process detaches the program of cgroup/connect4",
        &["lsm/bpf", "lsm/socket_connect"],
    ),
    into("listening-before", "a listener from before the programs were attached", SYN),
    into(
        "queued-before",
        "a connection that waits to be accepted since before (a sweep ends it after a change)",
        &[],
    ),
    into(
        "listener-of-another",
        "a listener that a process of another cgroup made is accepted on",
        SYN,
    ),
    into(
        "itself",
        "a socket connects to its own address: there is no listener, and outbound it is allowed",
        &[],
    ),
    into(
        "syn-cookies",
        "net.ipv4.tcp_syncookies is 2: no request is kept, the connection comes with the ACK",
        SYN,
    ),
    into(
        "time-wait",
        "a peer comes again from the port of a connection that this end closed first: what waits there gives way",
        SYN,
    ),
    into(
        "stale-listener",
        "a port is claimed and let go, then becomes another socket's that never claimed it",
        SYN,
    ),
    into(
        "overruled-in",
        "a program that another root process attaches to sk_lookup chooses the listener, which overrides a denial there",
        &["lsm/inet_conn_request"],
    ),
    into(
        "new-namespaces-in",
        "a listener in a network namespace that sk_lookup is not attached to yet",
        &["lsm/inet_conn_request"],
    ),
];

const fn out(name: &'static str, note: &'static str, judged_by: &'static [&'static str]) -> Detour {
    Detour { name, side: Side::Out, note, judged_by, at_root: false }
}

const fn into(
    name: &'static str,
    note: &'static str,
    judged_by: &'static [&'static str],
) -> Detour {
    Detour { side: Side::In, ..out(name, note, judged_by) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::ALL;

    #[test]
    fn names_are_those_of_no_door() {
        for detour in DETOURS {
            assert!(ALL.iter().all(|door| door.name != detour.name), "{detour:?}");
            assert_eq!(DETOURS.iter().filter(|other| other.name == detour.name).count(), 1);
        }
    }
}
