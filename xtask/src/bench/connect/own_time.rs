//! The programs' own time, as the kernel counts it when asked to (BPF_ENABLE_STATS of bpf(2)). The count itself costs
//! some 40 ns a run, all of which the empty program's own time is.

use anyhow::{Context as _, Result};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use std::fs;

/// Of one program while something ran.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnTime {
    pub runs: u64,
    pub time_ns: u64,
    /// Connections made meanwhile.
    pub cycles: u64,
}

#[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
impl OwnTime {
    /// Of one run; none where it never ran.
    pub(super) fn each_ns(self) -> Option<f64> {
        (self.runs > 0).then(|| self.time_ns as f64 / self.runs as f64)
    }

    pub(super) fn runs_per_cycle(self) -> f64 {
        self.runs as f64 / self.cycles.max(1) as f64
    }
}

/// A link that a process holds.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub id: u32,
    /// Its program's id and name.
    pub program: (u32, String),
}

/// The links of process `pid`, as its descriptors show them (proc(5), `/proc/PID/fdinfo`).
pub(super) fn links_of(pid: u32) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    let directory = format!("/proc/{pid}/fdinfo");
    for entry in fs::read_dir(&directory).with_context(|| format!("read {directory}"))?.flatten() {
        // One that was closed meanwhile is none.
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name))?;
            value.trim_start_matches(':').trim().parse::<u32>().ok()
        };
        if let (Some(id), Some(program)) = (field("link_id"), field("prog_id")) {
            links.push(Link { id, program: (program, name_of(program)?) });
        }
    }
    links.sort_by_key(|link| (link.program.0, link.id));
    Ok(links)
}

fn name_of(program: u32) -> Result<String> {
    let info = loaded_programs().flatten().find(|info| info.id() == program);
    let info = info.with_context(|| format!("find program {program}"))?;
    Ok(info.name_as_str().unwrap_or_default().to_owned())
}

/// How often each program ran and for how long while `work` ran. Counting ends with this call.
/// `work` says how many connections it made.
pub(super) fn during(
    programs: &[(u32, String)],
    work: impl FnOnce() -> Result<u64>,
) -> Result<Vec<(String, OwnTime)>> {
    let _counting = enable_stats(Stats::RunTime).context("make the kernel count programs' time")?;
    let before = now(programs)?;
    let cycles = work()?;
    let after = now(programs)?;
    let times = before.iter().zip(after).zip(programs).map(|((before, after), (_, name))| {
        let own = OwnTime {
            runs: after.runs.saturating_sub(before.runs),
            time_ns: after.time_ns.saturating_sub(before.time_ns),
            cycles,
        };
        (name.clone(), own)
    });
    Ok(times.collect())
}

fn now(programs: &[(u32, String)]) -> Result<Vec<OwnTime>> {
    let all: Vec<_> = loaded_programs().flatten().collect();
    let of = |(id, name): &(u32, String)| {
        let info = all.iter().find(|info| info.id() == *id);
        let info = info.with_context(|| format!("program {name} is gone"))?;
        let time_ns = u64::try_from(info.run_time().as_nanos()).context("its run time")?;
        Ok(OwnTime { runs: info.run_count(), time_ns, cycles: 0 })
    };
    programs.iter().map(of).collect()
}
