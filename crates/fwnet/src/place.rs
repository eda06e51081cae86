//! Where a firewall is attached and how it is asked to behave there: the same words for `fwnet run`, for `fwnet up`, and
//! in the agent's state.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use kernel::{Attachments, Cgroup, Firewall, Namespaces, Netns};
use serde::{Deserialize, Serialize};
use verdict::Address;

use crate::legacy::Inbound;

/// A place as it is typed, and as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Args, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Judge the processes below this cgroup only, instead of the whole machine
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Option<PathBuf>,
    /// Judge what comes in in this network namespace (a name as `ip netns` knows it, or a path; repeatable); without it
    /// and without --cgroup, in every one that is found
    #[arg(long, value_name = "NAME|PATH")]
    pub(crate) netns: Vec<String>,
    /// What happens to denied connections that come in
    #[arg(long, value_enum, default_value_t = InboundFlag::Reject)]
    pub(crate) inbound: InboundFlag,
    /// Report TCP sockets that connect or listen without a verdict, and end those that may not; costs some 300 ns for each
    /// connection
    #[arg(long)]
    pub(crate) tripwire: bool,
    /// Let a denied port be listened on, and end accept() with this error, as the module of 2015 did; needs a kernel that
    /// runs security programs (fwnet doctor)
    #[arg(long, value_enum, value_name = "EIO|EPERM|EACCES", ignore_case = true)]
    #[serde(default)]
    pub(crate) accept_errno: Option<AcceptErrno>,
    /// Whether flows are counted by what they have in common.
    #[arg(skip)]
    #[serde(default)]
    pub(crate) count_flows: bool,
}

/// What happens to denied connections that come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum InboundFlag {
    /// The peer gets a reset
    Reject,
    /// What comes in is not judged
    Off,
}

impl From<InboundFlag> for Inbound {
    fn from(flag: InboundFlag) -> Self {
        match flag {
            InboundFlag::Reject => Self::Reject,
            InboundFlag::Off => Self::Off,
        }
    }
}

/// What accept() ends with on a denied port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[value(rename_all = "UPPER")]
pub(crate) enum AcceptErrno {
    /// Input/output error: the module's
    Eio,
    /// Firewall rules forbid connection (accept(2))
    Eperm,
    /// Permission denied
    Eacces,
}

impl From<AcceptErrno> for u16 {
    fn from(errno: AcceptErrno) -> Self {
        // asm-generic/errno-base.h
        match errno {
            AcceptErrno::Eio => 5,
            AcceptErrno::Eperm => 1,
            AcceptErrno::Eacces => 13,
        }
    }
}

impl Place {
    /// Whether every network namespace is wanted, those that are still to come among them.
    pub(crate) fn follows(&self) -> bool {
        self.cgroup.is_none() && self.netns.is_empty() && self.inbound == InboundFlag::Reject
    }

    /// Opens what the place names.
    ///
    /// # Errors
    /// Where there is no such cgroup or namespace.
    pub(crate) fn attachments(&self, report_allowed: bool) -> anyhow::Result<Attachments> {
        Ok(Attachments {
            cgroup: match &self.cgroup {
                Some(path) => Cgroup::open(path).context("--cgroup")?,
                None => Cgroup::root()?,
            },
            namespaces: match (self.inbound, self.follows()) {
                (InboundFlag::Off, _) => Namespaces::Named(Vec::new()),
                (InboundFlag::Reject, true) => Namespaces::All,
                (InboundFlag::Reject, false) => Namespaces::Named(self.named()?),
            },
            tripwire: self.tripwire,
            report_allowed,
            count_flows: self.count_flows,
            accept_errno: self.accept_errno.map(u16::from),
        })
    }

    /// The namespaces of the command line, each once.
    fn named(&self) -> anyhow::Result<Vec<Netns>> {
        let mut opened: Vec<Netns> = Vec::new();
        for name in &self.netns {
            let namespace = Netns::open(name).context("--netns")?;
            if opened.iter().all(|known| known.inode() != namespace.inode()) {
                opened.push(namespace);
            }
        }
        Ok(opened)
    }

    /// The namespaces whose addresses are this host's: the named ones, else our own.
    ///
    /// # Errors
    /// Where one is gone.
    pub(crate) fn namespaces(&self) -> anyhow::Result<Vec<Netns>> {
        let mut namespaces = self.named()?;
        if namespaces.is_empty() {
            namespaces.push(Netns::open("/proc/self/ns/net")?);
        }
        Ok(namespaces)
    }

    /// This host's addresses, which a policy may speak of, sorted, each once.
    ///
    /// # Errors
    /// Where a namespace is gone, or does not tell.
    pub(crate) fn addresses(&self) -> anyhow::Result<Vec<Address>> {
        let mut addresses = Vec::new();
        for namespace in &self.namespaces()? {
            let own = namespace.addresses();
            addresses.extend(
                own.with_context(|| format!("list the addresses in {}", namespace.name()))?,
            );
        }
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }

    /// Has what comes in judged in network namespaces that appeared since the last look, where all are wanted, and says
    /// where it cannot be.
    pub(crate) fn join_new(&self, firewall: &mut Firewall) {
        if !self.follows() {
            return;
        }
        for joined in firewall.follow() {
            if let Err(error) = joined.result {
                let error = anyhow::Error::from(error);
                eprintln!("fwnet: inbound is not judged in {}: {error:#}", joined.name);
            }
        }
    }
}
