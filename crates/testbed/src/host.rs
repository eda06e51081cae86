//! A host: what a machine is to a firewall, a network namespace and a cgroup.

use crate::{Cgroup, Namespace, Running};
use std::ffi::OsStr;
use std::process::Command;

/// A machine in miniature. A program started by it lives in both its parts.
#[derive(Debug)]
pub struct Host {
    // Fields end in this order: the cgroup first, which ends the processes that were using the namespace.
    /// Where its processes live.
    pub cgroup: Cgroup,
    /// Where its network is.
    pub namespace: Namespace,
}

impl Host {
    /// A host whose network is its loopback only.
    ///
    /// # Panics
    /// As [`Cgroup::new`] and [`Namespace::new`].
    #[track_caller]
    #[expect(
        clippy::new_without_default,
        reason = "making a host changes the machine: no default does that"
    )]
    pub fn new() -> Self {
        Self { cgroup: Cgroup::new(), namespace: Namespace::new() }
    }

    /// A command that runs `program` on this host: it enters the cgroup, then the namespace, then becomes the program,
    /// so the program's very first socket belongs to both. Arguments may be added as to any [`Command`].
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.cgroup.command("nsenter");
        command.arg(self.namespace.enter_argument()).arg("--").arg(program);
        command
    }

    /// Starts `program` with `arguments` in the background.
    ///
    /// # Panics
    /// As [`Running::start`].
    #[track_caller]
    pub fn start<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Running {
        let mut command = self.command(program);
        command.args(arguments);
        Running::start(command)
    }
}
