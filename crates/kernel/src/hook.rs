//! The hooks: which program goes where, what it covers, and what is open without it. `doctor` prints this table.

use aya_obj::generated::bpf_attach_type;
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
        },
    ];

    /// Whether an image with `flags` needs this hook.
    pub(crate) fn needed(&self, flags: u32, tripwire: bool) -> bool {
        match self.need {
            Need::Always => true,
            Need::Image(flag) => flags & flag != 0,
            Need::Tripwire => tripwire,
        }
    }
}
