//! A policy file that a test writes and changes, and `fwnet run` that reads it.

use std::{
    env, fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::process::{Pid, Signal, kill_process};
use testbed::{Cgroup, Host, Namespace};

use crate::shared::Enforcing;

/// A policy in a directory of its own, which goes with it.
#[derive(Debug)]
pub(crate) struct Document {
    directory: PathBuf,
}

impl Document {
    pub(crate) fn new(text: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory =
            env::temp_dir().join(format!("fwnet-policy-{}-{count}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let document = Self { directory };
        document.write(text);
        document
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join("p.fwnet")
    }

    /// Replaces the text at once, as an editor does: nobody reads half of it.
    pub(crate) fn write(&self, text: &str) {
        let new = self.directory.join("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, self.path()).unwrap();
    }

    /// Enforces it on a host, whose name is `me` in it.
    #[track_caller]
    pub(crate) fn enforce(&self, host: &Host, arguments: &[&str]) -> Enforcing {
        self.enforce_in(&host.cgroup, &[&host.namespace], arguments)
    }

    /// Enforces it on a cgroup and in namespaces.
    #[track_caller]
    pub(crate) fn enforce_in(
        &self,
        cgroup: &Cgroup,
        namespaces: &[&Namespace],
        arguments: &[&str],
    ) -> Enforcing {
        let path = self.path();
        let mut all = vec!["--policy", path.to_str().unwrap()];
        all.extend(arguments);
        Enforcing::start(cgroup, namespaces, &all)
    }

    /// Changes the text and has it read again; waits until it is in force as this version. The first version is 1.
    #[track_caller]
    pub(crate) fn swap(&self, enforcing: &Enforcing, policy: &str, version: u32) {
        self.write(policy);
        let pid = i32::try_from(enforcing.pid()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
        enforcing.line(&format!("(version {version})"));
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        // What stays in the directory for temporary files does no harm.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
