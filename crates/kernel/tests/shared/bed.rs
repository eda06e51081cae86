//! A namespace and a cgroup of the test's own, and programs attached there.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as its test does")]

use std::sync::{Mutex, MutexGuard, PoisonError};

use kernel::{Attachments, Cgroup, Netns};
use testbed::{Cgroup as TestCgroup, Namespace};

/// A visit moves the whole process, so tests that share one (cargo test) must not overlap.
static ALONE: Mutex<()> = Mutex::new(());

/// Where one test attaches, alone in its process.
pub(crate) struct Bed {
    pub(crate) namespace: Namespace,
    pub(crate) cgroup: TestCgroup,
    _alone: MutexGuard<'static, ()>,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { namespace: Namespace::new(), cgroup: TestCgroup::new(), _alone: alone }
    }

    /// The namespace as programs are attached to it.
    pub(crate) fn netns(&self) -> Netns {
        Netns::open(self.namespace.name()).unwrap()
    }

    /// To the cgroup and the namespace, with nothing wanted besides.
    pub(crate) fn attachments(&self) -> Attachments {
        Attachments {
            cgroup: Cgroup::open(self.cgroup.path()).unwrap(),
            namespaces: vec![self.netns()].into(),
            tripwire: false,
            report_allowed: false,
            count_flows: false,
            accept_errno: None,
        }
    }

    /// Does `work` where it is judged.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let _visit = self.cgroup.enter_current_process();
        self.namespace.inside(work)
    }
}
