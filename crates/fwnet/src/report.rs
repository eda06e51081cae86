//! Events for people and for machines.

mod json;
mod text;

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use jiff::{SignedDuration, Timestamp};
use kernel::{CgroupTree, Event};
use rustix::time::{ClockId, clock_gettime};
use verdict::{Verdict, abi::Owner};

use crate::{cli::Output, orders::Reason};

/// What is known about an event besides what the kernel sent.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    /// The kernel's part.
    pub(crate) event: &'a Event,
    /// When, by the wall clock.
    pub(crate) time: Timestamp,
    /// Whose socket, if anybody knows.
    pub(crate) owner: Option<Owner>,
    /// The cgroup's path below the mount.
    pub(crate) cgroup: Option<String>,
    /// The rule that decided.
    pub(crate) rule: &'a Reason,
    /// Version of the policy.
    pub(crate) version: u64,
    /// This machine.
    pub(crate) host: &'a str,
}

/// Prints events to standard output.
pub(crate) struct Reporter {
    output: Output,
    debug: u8,
    host: String,
    tree: Option<CgroupTree>,
    cgroups: BTreeMap<u64, Option<String>>,
    closed: bool,
}

/// Paths remembered before starting over: cgroups come and go on a busy machine.
const CGROUPS_MAX: usize = 4_096;

impl Reporter {
    /// `debug` 0 prints denials only, 1 and 2 every connection.
    pub(crate) fn new(output: Output, debug: u8) -> Self {
        Self {
            output,
            debug,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            tree: CgroupTree::mounted().ok(),
            cgroups: BTreeMap::new(),
            closed: false,
        }
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

    /// Prints one event.
    pub(crate) fn event(
        &mut self,
        event: &Event,
        owner: Option<Owner>,
        rule: &Reason,
        version: u64,
    ) {
        let owner = event.owner.or(owner);
        let cgroup = owner.and_then(|owner| self.cgroup(owner.cgroup));
        let host = std::mem::take(&mut self.host);
        let seen = Seen {
            event,
            time: wall_time(event.time_ns),
            owner,
            cgroup,
            rule,
            version,
            host: &host,
        };
        let text = match self.output {
            Output::Text => text::lines(&seen, self.debug),
            Output::Json => json::line(&seen),
        };
        self.host = host;
        self.write(&text);
    }

    fn cgroup(&mut self, id: u64) -> Option<String> {
        if self.cgroups.len() >= CGROUPS_MAX {
            self.cgroups.clear();
        }
        let tree = self.tree.as_ref()?;
        self.cgroups.entry(id).or_insert_with(|| tree.path_of(id)).clone()
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

/// The kernel's time since boot as wall time.
fn wall_time(boot_ns: u64) -> Timestamp {
    let now = clock_gettime(ClockId::Boottime);
    let now_ns = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    let ago = i64::try_from(now_ns - i128::from(boot_ns)).unwrap_or(0);
    Timestamp::now() - SignedDuration::from_nanos(ago)
}

/// "denied" or "allowed".
pub(crate) fn past(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allowed",
        Verdict::Deny => "denied",
    }
}
