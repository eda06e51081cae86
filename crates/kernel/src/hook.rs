//! The hooks: which program goes where, what it covers, and what is open without it. `doctor` prints this table.

use aya_obj::generated::bpf_attach_type;

use crate::fields;
use verdict::layout::{FLAG_CLOSED, FLAG_DATAGRAMS, FLAG_INBOUND, FLAG_PROTOCOLS, FLAG_SUBJECTS};

/// What a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// A cgroup: every process below it.
    Cgroup,
    /// One network namespace.
    Netns,
    /// The whole machine.
    Host,
}

/// One hook.
#[derive(Debug)]
pub struct Hook {
    /// The name by which the kernel's documentation knows it.
    pub name: &'static str,
    /// What it is attached to.
    pub scope: Scope,
    /// What it judges or keeps.
    pub covers: &'static str,
    /// What is open where it cannot be loaded.
    pub without: &'static str,
    /// Whether nothing is enforced without it: then its absence is an error, else a line in the status.
    pub required: bool,
    pub(crate) program: &'static str,
    pub(crate) attach_type: bpf_attach_type,
    pub(crate) need: Need,
    /// For a program of the LSM tier: the hook as the kernel's list of them has it, and the fields that it reads.
    pub(crate) lsm: Option<Lsm>,
}

/// A program of the LSM tier.
#[derive(Debug)]
pub(crate) struct Lsm {
    /// As in include/linux/lsm_hook_defs.h.
    pub(crate) hook: &'static str,
    /// Numbers of [`verdict::abi::field`].
    pub(crate) fields: &'static [&'static [usize]],
    /// Whether it also reads which program a task runs (`EXE_OFFSETS`).
    pub(crate) programs: bool,
}

/// When a hook is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Always.
    Always,
    /// When the image has one of these flags.
    Image(u32),
    /// When the user asks for it.
    Tripwire,
}

impl Hook {
    /// Every hook that the object has a program for, in the order of attachment: what keeps tables comes before what
    /// judges by them.
    pub const ALL: &'static [Self] = &[
        Self {
            name: "cgroup/sock_create",
            scope: Scope::Cgroup,
            covers: "stamps each socket with its owner; refuses protocols that may reach nobody",
            without: "rules about processes judge the task that runs, which is a kernel thread for extra MPTCP subflows; raw sockets cannot be refused",
            required: false,
            program: "sock_create",
            attach_type: bpf_attach_type::BPF_CGROUP_INET_SOCK_CREATE,
            need: Need::Image(FLAG_SUBJECTS | FLAG_PROTOCOLS),
            lsm: None,
        },
        Self {
            name: "cgroup/sock_release",
            scope: Scope::Cgroup,
            covers: "takes closed sockets out of the table of listeners",
            without: "the table of listeners keeps stale entries until their port is claimed again",
            required: false,
            program: "sock_release",
            attach_type: bpf_attach_type::BPF_CGROUP_INET_SOCK_RELEASE,
            need: Need::Image(FLAG_INBOUND),
            lsm: None,
        },
        Self {
            name: "cgroup/post_bind4",
            scope: Scope::Cgroup,
            covers: "table of listeners, IPv4",
            without: "the process behind a denied inbound connection is not known",
            required: false,
            program: "post_bind4",
            attach_type: bpf_attach_type::BPF_CGROUP_INET4_POST_BIND,
            need: Need::Image(FLAG_INBOUND),
            lsm: None,
        },
        Self {
            name: "cgroup/post_bind6",
            scope: Scope::Cgroup,
            covers: "table of listeners, IPv6",
            without: "the process behind a denied inbound connection is not known",
            required: false,
            program: "post_bind6",
            attach_type: bpf_attach_type::BPF_CGROUP_INET6_POST_BIND,
            need: Need::Image(FLAG_INBOUND),
            lsm: None,
        },
        Self {
            name: "cgroup/connect4",
            scope: Scope::Cgroup,
            covers: "outbound IPv4: TCP by every door, connected UDP, ping sockets",
            without: "nothing is enforced outbound",
            required: true,
            program: "connect4",
            attach_type: bpf_attach_type::BPF_CGROUP_INET4_CONNECT,
            need: Need::Always,
            lsm: None,
        },
        Self {
            name: "cgroup/connect6",
            scope: Scope::Cgroup,
            covers: "outbound IPv6 and IPv4-mapped: TCP by every door, connected UDP, ping sockets",
            without: "nothing is enforced outbound for IPv6 sockets",
            required: true,
            program: "connect6",
            attach_type: bpf_attach_type::BPF_CGROUP_INET6_CONNECT,
            need: Need::Always,
            lsm: None,
        },
        Self {
            name: "cgroup/sendmsg4",
            scope: Scope::Cgroup,
            covers: "outbound datagrams that name their destination, IPv4 and IPv4-mapped",
            without: "unconnected UDP goes out unjudged",
            required: true,
            program: "sendmsg4",
            attach_type: bpf_attach_type::BPF_CGROUP_UDP4_SENDMSG,
            need: Need::Image(FLAG_DATAGRAMS),
            lsm: None,
        },
        Self {
            name: "cgroup/sendmsg6",
            scope: Scope::Cgroup,
            covers: "outbound datagrams that name their destination, IPv6",
            without: "unconnected UDP over IPv6 goes out unjudged",
            required: true,
            program: "sendmsg6",
            attach_type: bpf_attach_type::BPF_CGROUP_UDP6_SENDMSG,
            need: Need::Image(FLAG_DATAGRAMS),
            lsm: None,
        },
        Self {
            name: "cgroup/bind4",
            scope: Scope::Cgroup,
            covers: "an early error for claiming a port that no peer may reach, IPv4",
            without: "a server on a denied port starts and never gets a connection",
            required: false,
            program: "bind4",
            attach_type: bpf_attach_type::BPF_CGROUP_INET4_BIND,
            need: Need::Image(FLAG_CLOSED),
            lsm: None,
        },
        Self {
            name: "cgroup/bind6",
            scope: Scope::Cgroup,
            covers: "an early error for claiming a port that no peer may reach, IPv6",
            without: "a server on a denied port starts and never gets a connection",
            required: false,
            program: "bind6",
            attach_type: bpf_attach_type::BPF_CGROUP_INET6_BIND,
            need: Need::Image(FLAG_CLOSED),
            lsm: None,
        },
        Self {
            name: "sk_lookup",
            scope: Scope::Netns,
            covers: "inbound TCP and UDP in the network namespaces it is attached to: a reset before any socket exists",
            without: "nothing is enforced inbound",
            required: true,
            program: "lookup",
            attach_type: bpf_attach_type::BPF_SK_LOOKUP,
            need: Need::Image(FLAG_INBOUND),
            lsm: None,
        },
        Self {
            name: "lsm/socket_listen",
            scope: Scope::Host,
            covers: "listen() on a port that no peer may reach, with or without bind()",
            without: "listen() on a denied port succeeds where bind() was not called, and nothing comes to it",
            required: false,
            program: "socket_listen",
            attach_type: bpf_attach_type::BPF_LSM_MAC,
            need: Need::Image(FLAG_CLOSED | FLAG_SUBJECTS),
            lsm: Some(Lsm { hook: "socket_listen", fields: fields::LISTENER, programs: false }),
        },
        Self {
            name: "lsm/inet_conn_request",
            scope: Scope::Host,
            covers: "inbound TCP in every network namespace, with the identity of the listener itself; drops in silence where a rule asks for it",
            without: "a network namespace is judged inbound only once it is found; a denied peer always gets a reset",
            required: false,
            program: "inet_conn_request",
            attach_type: bpf_attach_type::BPF_LSM_MAC,
            need: Need::Image(FLAG_INBOUND),
            lsm: Some(Lsm { hook: "inet_conn_request", fields: fields::REQUEST, programs: false }),
        },
        Self {
            name: "lsm/socket_accept",
            scope: Scope::Host,
            covers: "accept() by a process that may not, on a listener that was handed to it or is older than the rules",
            without: "a process that a listener was handed to accepts what the listener's owner may",
            required: false,
            program: "socket_accept",
            attach_type: bpf_attach_type::BPF_LSM_MAC,
            need: Need::Image(FLAG_CLOSED),
            lsm: Some(Lsm { hook: "socket_accept", fields: fields::LISTENER, programs: false }),
        },
        Self {
            name: "lsm/socket_create",
            scope: Scope::Host,
            covers: "packet and XDP sockets where a rule denies raw sockets; a second lock on protocols that may reach nobody",
            without: "packet and XDP sockets cannot be refused (they need CAP_NET_RAW)",
            required: false,
            program: "socket_create",
            attach_type: bpf_attach_type::BPF_LSM_MAC,
            need: Need::Image(FLAG_PROTOCOLS),
            lsm: Some(Lsm { hook: "socket_create", fields: fields::TASK, programs: false }),
        },
        Self {
            name: "lsm/socket_connect",
            scope: Scope::Host,
            covers: "a second lock on connect(), which nobody can detach or overrule; SCTP, DCCP, UDP-Lite and raw sockets",
            without: "whoever detaches the connect hooks or overrules them opens connect(); SCTP, DCCP, UDP-Lite and raw sockets connect unjudged",
            required: false,
            program: "socket_connect",
            attach_type: bpf_attach_type::BPF_LSM_MAC,
            need: Need::Always,
            lsm: Some(Lsm { hook: "socket_connect", fields: fields::SOCKET, programs: false }),
        },
        Self {
            name: "lsm/bpf",
            scope: Scope::Host,
            covers: "tamper guard: no other program opens our links by number, detaches them or changes their programs",
            without: "another root process can detach the programs",
            required: false,
            program: "bpf",
            attach_type: bpf_attach_type::BPF_LSM_MAC,
            need: Need::Always,
            lsm: Some(Lsm { hook: "bpf", fields: fields::LINKS, programs: true }),
        },
        Self {
            name: "lsm/bpf_map",
            scope: Scope::Host,
            covers: "tamper guard: no other program opens our maps to write",
            without: "another root process can write the tables of rules",
            required: false,
            program: "bpf_map",
            attach_type: bpf_attach_type::BPF_LSM_MAC,
            need: Need::Always,
            lsm: Some(Lsm { hook: "bpf_map", fields: fields::MAPS, programs: true }),
        },
        Self {
            name: "lsm/inode_unlink",
            scope: Scope::Host,
            covers: "tamper guard: no other program removes our pins",
            without: "another root process can remove the pins, and with the last of them the programs",
            required: false,
            program: "inode_unlink",
            attach_type: bpf_attach_type::BPF_LSM_MAC,
            need: Need::Always,
            lsm: Some(Lsm { hook: "inode_unlink", fields: fields::PINS, programs: true }),
        },
        Self {
            name: "lsm/inode_rename",
            scope: Scope::Host,
            covers: "tamper guard: no other program renames or replaces our pins",
            without: "another root process can rename the pins",
            required: false,
            program: "inode_rename",
            attach_type: bpf_attach_type::BPF_LSM_MAC,
            need: Need::Always,
            lsm: Some(Lsm { hook: "inode_rename", fields: fields::PINS, programs: true }),
        },
        Self {
            name: "tp_btf/inet_sock_set_state",
            scope: Scope::Host,
            covers: "tripwire: a TCP socket that connects or listens without a verdict is reported and destroyed",
            without: "a way past the other hooks would not be noticed",
            required: false,
            program: "tripwire",
            attach_type: bpf_attach_type::BPF_TRACE_RAW_TP,
            need: Need::Tripwire,
            lsm: None,
        },
    ];

    /// Whether it is one of the LSM tier.
    pub fn is_lsm(&self) -> bool {
        self.lsm.is_some()
    }

    /// Whether an image with `flags` needs this hook.
    pub(crate) fn needed(&self, flags: u32, tripwire: bool) -> bool {
        match self.need {
            Need::Always => true,
            Need::Image(flag) => flags & flag != 0,
            Need::Tripwire => tripwire,
        }
    }
}
