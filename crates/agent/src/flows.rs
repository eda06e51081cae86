//! Flows as they are recorded: those that are alike once, with their number and the time of the first and the last.
//!
//! A record speaks of names that outlive what the kernel numbers: the path of an executable, the path of a cgroup, the id
//! of a rule. [`Named`] gives them numbers again, so that a policy can be asked about them later and elsewhere.

mod named;

use std::net::IpAddr;

use jiff::Timestamp;
use policy::{Way, syntax::Answer};
use serde::{Deserialize, Serialize};
use verdict::{Direction, Endpoint, Flow, Protocol, Subject, Verdict};

pub use named::Named;

use crate::{
    connections::{Container, place},
    prefix::canonical,
};

/// Whose flows they are, as far as anybody knew.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Process {
    /// User id, in the initial user namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
    /// Group id, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// Absolute path of the executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// Path of the cgroup below the mount of its hierarchy: `/system.slice/nginx.service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The network namespace by a name that a rule can use: `host`, its name, or a path; the namespace of the socket, where
    /// it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
}

impl Process {
    /// The systemd unit.
    pub fn unit(&self) -> Option<String> {
        self.cgroup.as_deref().and_then(place::unit)
    }

    /// The container.
    pub fn container(&self) -> Option<Container> {
        self.cgroup.as_deref().and_then(place::container)
    }
}

/// What flows have in common that are recorded together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Kind {
    /// `out` where this host connects, `in` where it accepts.
    pub direction: Way,
    /// IP protocol number.
    pub protocol: u8,
    /// The local address; inbound only, where it takes part in the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// The peer's address.
    pub remote: IpAddr,
    /// The server's port; 0 where the protocol has none.
    pub port: u16,
    /// Whose flow it was here.
    #[serde(default)]
    pub process: Process,
    /// What was enforced.
    pub verdict: Answer,
    /// By which rule's id.
    pub rule: String,
    /// What the rules in audit would have had it be.
    pub would: Answer,
    /// By which rule's id.
    pub would_rule: String,
}

/// Flows that were alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What they have in common.
    #[serde(flatten)]
    pub kind: Kind,
    /// Name of a thread that had such a flow, as `/proc/PID/comm` has it; anyone can change it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Process id of the last one's owner; 0 is unknown.
    #[serde(default)]
    pub pid: u32,
    /// How many.
    pub count: u64,
    /// When the first was judged.
    pub first: Timestamp,
    /// When the last was judged.
    pub last: Timestamp,
}

/// Bytes of a kind's digest.
pub const DIGEST_BYTES: usize = 16;

impl Kind {
    /// The flow that was judged, by a process that is known as `subject`.
    pub fn flow(&self, subject: Subject) -> Flow {
        let local = self.local.map(canonical).unwrap_or_default();
        let remote = canonical(self.remote);
        let (local_port, remote_port) = match self.direction {
            Way::Out => (0, self.port),
            Way::In => (self.port, 0),
        };
        Flow {
            direction: match self.direction {
                Way::Out => Direction::Out,
                Way::In => Direction::In,
            },
            protocol: Protocol(self.protocol),
            local: Endpoint { address: local, port: local_port },
            remote: Endpoint { address: remote, port: remote_port },
            subject,
        }
    }

    /// Tells kinds apart: equal kinds have equal digests, different ones in practice never.
    pub fn digest(&self) -> [u8; DIGEST_BYTES] {
        let text = serde_json::to_vec(self).expect("a kind is numbers and strings");
        let mut digest = [0; DIGEST_BYTES];
        blake3::Hasher::new().update(&text).finalize_xof().fill(&mut digest);
        digest
    }
}

impl Record {
    /// Adds more of the same kind.
    pub fn add(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        if other.last >= self.last {
            self.last = other.last;
            self.pid = other.pid;
            self.name.clone_from(&other.name);
        }
        self.first = self.first.min(other.first);
    }
}

/// The word of a verdict.
pub fn answer(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Allow => Answer::Allow,
        Verdict::Deny => Answer::Deny,
    }
}

/// The word of a direction.
pub fn way(direction: Direction) -> Way {
    match direction {
        Direction::Out => Way::Out,
        Direction::In => Way::In,
    }
}
