//! Events for people and for machines: what is known of one, and how it is spelled.

mod community_id;
pub(crate) mod ecs;
mod notice;
pub(crate) mod ocsf;
pub(crate) mod text;
pub(crate) mod whose;

use std::{
    io::{self, Write},
    sync::Arc,
};

use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp};
use kernel::Event;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use verdict::{Direction, Endpoint, Protocol, Verdict, abi::Owner};

pub(crate) use self::notice::Notice;
use self::whose::Whose;
use crate::{cli::Output, orders::Reason};

/// What is known about an event.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The kernel's part.
    pub(crate) event: Event,
    /// When, by the wall clock.
    pub(crate) time: Timestamp,
    /// Whose socket, if anybody knows.
    pub(crate) owner: Option<Owner>,
    /// The cgroup's path below the mount.
    pub(crate) cgroup: Option<Arc<str>>,
    /// Path of the executable.
    pub(crate) exe: Option<Arc<str>>,
    /// The rule that decided.
    pub(crate) rule: Arc<Reason>,
    /// The rule that would have decided if those in audit were enforced.
    pub(crate) would: Arc<Reason>,
    /// Version of the policy.
    pub(crate) version: u64,
    /// This machine.
    pub(crate) host: Arc<str>,
}

/// Whose names machines read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Those of the Elastic Common Schema
    #[default]
    Ecs,
    /// Those of the Open Cybersecurity Schema Framework
    Ocsf,
}

impl Format {
    /// The event as one object.
    pub(crate) fn event(self, seen: &Seen) -> Value {
        match self {
            Self::Ecs => ecs::event(seen),
            Self::Ocsf => ocsf::event(seen),
        }
    }
}

impl Seen {
    /// Who connects and who accepts.
    pub(crate) fn ends(&self) -> (Endpoint, Endpoint) {
        match self.event.direction {
            Direction::Out => (self.event.local, self.event.remote),
            Direction::In => (self.event.remote, self.event.local),
        }
    }

    /// Name of the thread, as far as it can be read.
    pub(crate) fn process_name(&self) -> Option<String> {
        self.owner.map(|owner| comm(owner.comm))
    }
}

/// Prints events to standard output.
pub(crate) struct Reporter {
    output: Output,
    format: Format,
    debug: u8,
    host: Arc<str>,
    whose: Whose,
    closed: bool,
}

impl Reporter {
    /// `debug` 0 prints denials only, 1 and 2 every connection.
    pub(crate) fn new(output: Output, format: Format, debug: u8) -> Self {
        Self { output, format, debug, host: host_name(), whose: Whose::here(), closed: false }
    }

    /// Whether anybody reads what is printed: a reader that went away does not end enforcement.
    pub(crate) fn closed(&self) -> bool {
        self.closed
    }

    /// Prints the lines that the module printed when it was loaded. JSON has no such lines.
    pub(crate) fn parameters(&mut self, lines: &[String]) {
        if self.output == Output::Text {
            let text: String = lines.iter().map(|line| format!("! {line}\n")).collect();
            self.write(&text);
        }
    }

    /// Prints one event; the two rules are the one that decided and the one that would have.
    pub(crate) fn event(
        &mut self,
        event: &Event,
        owner: Option<Owner>,
        [rule, would]: [Reason; 2],
        version: u64,
    ) {
        let owner = event.owner.or(owner);
        let seen = Seen {
            event: *event,
            time: wall_time(event.time_ns),
            owner,
            cgroup: owner.and_then(|owner| self.whose.cgroup(owner.cgroup)),
            exe: owner.and_then(|owner| self.whose.exe(owner.exe, owner.pid)),
            rule: rule.into(),
            would: would.into(),
            version,
            host: Arc::clone(&self.host),
        };
        let text = match self.output {
            Output::Text => text::lines(&seen, self.debug),
            Output::Json => format!("{}\n", self.format.event(&seen)),
        };
        self.write(&text);
    }

    fn write(&mut self, text: &str) {
        if self.closed || text.is_empty() {
            return;
        }
        let mut standard = io::stdout().lock();
        if standard.write_all(text.as_bytes()).and_then(|()| standard.flush()).is_err() {
            self.closed = true;
            eprintln!("fwnet: standard output is closed; still enforcing, no longer reporting");
        }
    }
}

/// What this machine calls itself.
pub(crate) fn host_name() -> Arc<str> {
    rustix::system::uname().nodename().to_string_lossy().into()
}

/// The kernel's time since boot as wall time.
pub(crate) fn wall_time(boot_ns: u64) -> Timestamp {
    let now = clock_gettime(ClockId::Boottime);
    let now_ns = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    let ago = i64::try_from(now_ns - i128::from(boot_ns)).unwrap_or(0);
    Timestamp::now() - SignedDuration::from_nanos(ago)
}

/// A thread's name, as the kernel keeps it.
pub(crate) fn comm(bytes: [u8; 16]) -> String {
    let name = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// "denied" or "allowed".
pub(crate) fn past(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allowed",
        Verdict::Deny => "denied",
    }
}

/// The IANA keyword of a protocol in lower case, else its number.
pub(crate) fn transport(protocol: Protocol) -> String {
    match protocol {
        Protocol::TCP => "tcp".into(),
        Protocol::UDP => "udp".into(),
        Protocol::SCTP => "sctp".into(),
        Protocol::UDPLITE => "udplite".into(),
        Protocol::ICMP => "icmp".into(),
        Protocol::ICMPV6 => "ipv6-icmp".into(),
        Protocol(number) => number.to_string(),
    }
}

#[cfg(test)]
mod tests;
