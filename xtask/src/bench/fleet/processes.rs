//! What the kernel says of processes.

use anyhow::{Context as _, Result};
use rustix::param::clock_ticks_per_second;
use std::fs;

/// Processor time that processes have had, in seconds, threads that have ended included (proc(5), fields 14 and 15 of
/// `/proc/PID/stat`). Receiving over loopback is the sender's work there, for each server alike.
pub(super) fn processor_s(pids: &[u32]) -> Result<f64> {
    pids.iter().map(|pid| one(*pid)).sum()
}

fn one(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the program runs")?;
    let (_, fields) = stat.rsplit_once(')').context("the name in /proc/PID/stat")?;
    let fields: Vec<_> = fields.split_ascii_whitespace().collect();
    let ticks = |place: usize| -> Result<f64> {
        Ok(fields.get(place).context("a field of /proc/PID/stat")?.parse()?)
    };
    #[expect(clippy::cast_precision_loss, reason = "100, as a rule")]
    Ok((ticks(11)? + ticks(12)?) / clock_ticks_per_second() as f64)
}

/// Their resident memory, in KiB.
pub(super) fn resident_kib(pids: &[u32]) -> Result<f64> {
    let one = |pid: &u32| -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("it runs")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_ascii_whitespace().next());
        Ok(number.context("VmRSS in /proc/PID/status")?.parse()?)
    };
    pids.iter().map(one).sum()
}
