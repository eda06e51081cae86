//! Where an agent keeps what it has: with paths of their own, several live on one machine.

use std::{
    io,
    path::{Path, PathBuf},
};

use clap::Args;

/// Where an agent is found.
pub(crate) const SOCKET: &str = "/run/fwnet/agent.sock";
/// Where it keeps its state.
pub(crate) const STATE: &str = "/var/lib/fwnet";
/// Where it pins programs and maps.
pub(crate) const BPFFS: &str = "/sys/fs/bpf/fwnet";

/// The three places of one agent.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct Paths {
    /// Directory for the state: policies, lists, and where to attach
    #[arg(long, value_name = "DIR", default_value = STATE)]
    pub(crate) state: PathBuf,
    /// Directory in a BPF file system for what outlives the agent
    #[arg(long, value_name = "DIR", default_value = BPFFS)]
    pub(crate) bpffs: PathBuf,
    /// Socket of the agent's API
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    pub(crate) socket: PathBuf,
}

impl Paths {
    /// Whether all are those of the service.
    pub(crate) fn are_default(&self) -> bool {
        self.state.as_os_str() == STATE
            && self.bpffs.as_os_str() == BPFFS
            && self.socket.as_os_str() == SOCKET
    }

    /// The same places for whoever works in another directory.
    ///
    /// # Errors
    /// If a place is empty, or nobody knows where this process works.
    pub(crate) fn absolute(&self) -> io::Result<Self> {
        let absolute = |place: &Path| std::path::absolute(place);
        Ok(Self {
            state: absolute(&self.state)?,
            bpffs: absolute(&self.bpffs)?,
            socket: absolute(&self.socket)?,
        })
    }

    /// As arguments of a command line.
    pub(crate) fn arguments(&self) -> [&std::ffi::OsStr; 6] {
        [
            "--state".as_ref(),
            self.state.as_os_str(),
            "--bpffs".as_ref(),
            self.bpffs.as_os_str(),
            "--socket".as_ref(),
            self.socket.as_os_str(),
        ]
    }
}
