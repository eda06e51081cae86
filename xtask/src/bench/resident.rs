//! An agent as it resides on a host: `fwnet up` until `fwnet down`, with its state in a directory that goes with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use testbed::{Cgroup, Directory, Host, Namespace};

use crate::programs::Programs;

/// Nothing that an agent does by itself takes nearly as long.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long an agent is watched, and the share of a processor that one takes which has something to do.
const WATCH: Duration = Duration::from_secs(1);
const BUSY: f64 = 0.01;

/// Where one agent at a time lives, and the program that it is.
pub(super) struct Residence {
    /// Not where it judges.
    desk: Cgroup,
    directory: Directory,
    fwnet: PathBuf,
}

/// An agent that goes, with everything that it attached, when this value does.
pub(super) struct Resident(Arc<Residence>);

impl Drop for Resident {
    fn drop(&mut self) {
        if let Err(error) = self.0.fwnet(&["down"]) {
            eprintln!("fwnet down: {error:#}");
        }
    }
}

/// Processor time that the process of an agent has had, in seconds.
pub(super) fn processor(pid: u32) -> Result<f64> {
    // Each thread has its own count.
    let mut all = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = fs::read_to_string(task?.path().join("schedstat"))?;
        all += stat.split_whitespace().next().context("a field")?.parse::<f64>()? / 1e9;
    }
    Ok(all)
}

impl Residence {
    pub(super) fn new(programs: &Programs) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            desk: Cgroup::new(),
            directory: Directory::new(),
            fwnet: programs.path("fwnet")?.to_owned(),
        }))
    }

    /// Where its files are.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where the agent keeps its kernel objects.
    pub(super) fn bpffs(&self) -> PathBuf {
        self.directory.path().join("bpf")
    }

    /// A verb of fwnet, which must work; what it printed.
    pub(super) fn fwnet(&self, verb: &[&str]) -> Result<String> {
        let mut command = self.desk.command(&self.fwnet);
        command.args(verb).arg("--socket").arg(self.directory.path().join("agent.sock"));
        let output = command.stdin(Stdio::null()).output().context("start fwnet")?;
        ensure!(
            output.status.success(),
            "fwnet {}: {}: {}",
            verb.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The agent's process.
    pub(super) fn pid(&self) -> Result<u32> {
        let status: serde_json::Value =
            serde_json::from_str(&self.fwnet(&["status", "-o", "json"])?)?;
        let pid = status["pid"].as_u64().context("the agent's process in its status")?;
        Ok(u32::try_from(pid)?)
    }

    /// Waits until the agent has done what it does by itself after a change: it gets slots ready for the next one.
    pub(super) fn calm(&self) -> Result<()> {
        let pid = self.pid()?;
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            let before = processor(pid)?;
            thread::sleep(WATCH);
            if processor(pid)? - before < BUSY * WATCH.as_secs_f64() {
                return Ok(());
            }
        }
        bail!("the agent was busy for {} s", DEADLINE.as_secs())
    }

    /// Starts the agent with `policy` for all of `host`; `flags` are further ones of `fwnet up`.
    pub(super) fn up(
        self: &Arc<Self>,
        host: &Host,
        policy: &str,
        flags: &[&str],
    ) -> Result<Resident> {
        self.up_at(&host.cgroup, &host.namespace, policy, flags)
    }

    /// The same for who connects in a cgroup, and for what comes into a namespace.
    pub(super) fn up_at(
        self: &Arc<Self>,
        cgroup: &Cgroup,
        namespace: &Namespace,
        policy: &str,
        flags: &[&str],
    ) -> Result<Resident> {
        let state = self.directory.path().join("state").display().to_string();
        let bpffs = self.bpffs().display().to_string();
        let cgroup = cgroup.path().display().to_string();
        let netns = namespace.path().display().to_string();
        let mut verb = vec!["up", "--policy", policy, "--cgroup", &cgroup, "--netns", &netns];
        verb.extend(["--state", &state, "--bpffs", &bpffs]);
        verb.extend(flags);
        self.fwnet(&verb)?;
        Ok(Resident(Arc::clone(self)))
    }
}
