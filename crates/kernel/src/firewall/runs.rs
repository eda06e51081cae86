//! How long and how often the programs ran, where the kernel counts that (`kernel.bpf_stats_enabled`).

use std::{fs, io, os::fd::OwnedFd, time::Duration};

use super::Firewall;
use crate::{hook::Hook, sys};

/// The switch (Documentation/admin-guide/sysctl/kernel.rst); it costs each run of any program some ten nanoseconds.
const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// What the kernel counted of one attached program since it was loaded, as far as the switch was on.
#[derive(Clone, Copy, Debug)]
pub struct Runs {
    /// Which hook's program.
    pub hook: &'static Hook,
    /// Its number; another program of the same hook counts from zero.
    pub program: u32,
    /// How long it ran in all.
    pub time: Duration,
    /// How often.
    pub count: u64,
}

/// While one lives the kernel counts the runs of every program (`BPF_ENABLE_STATS`, Linux 5.8), whoever else switches that
/// on or off.
#[derive(Debug)]
pub struct Counting(#[expect(dead_code, reason = "held, not read")] OwnedFd);

impl Counting {
    /// Begins.
    ///
    /// # Errors
    /// Those of bpf(2).
    pub fn begin() -> io::Result<Self> {
        sys::enable_stats().map(Self)
    }
}

impl Firewall {
    /// The runs of every attached program; `None` where the kernel does not count them now. A link that is gone is left
    /// out.
    pub fn runs(&self) -> Option<Vec<Runs>> {
        let on = fs::read_to_string(SWITCH).is_ok_and(|switch| switch.trim() == "1");
        on.then(|| self.each_run())
    }

    /// The same while `_counting` has the kernel count, whatever the switch says.
    pub fn runs_counted(&self, _counting: &Counting) -> Vec<Runs> {
        self.each_run()
    }

    fn each_run(&self) -> Vec<Runs> {
        let each = self.links.iter();
        each.filter_map(|attached| {
            let program = attached.program()?;
            let (time, count) = sys::program_runs(program).ok()?;
            Some(Runs { hook: attached.hook, program, time, count })
        })
        .collect()
    }
}
