//! Processes as `/proc` shows them: who lives, who sits in a namespace, and ending one without hitting another.
//!
//! A process id may be reused between the look and the kill. So the process is first held by a pidfd, then looked at,
//! then ended through that descriptor.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::path::Path;

/// Start time of a process in clock ticks since boot (proc(5), `/proc/PID/stat` field 22): with the id it names one
/// process for good. `None` if there is no such process.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name (field 2) is in parentheses and may contain both blanks and parentheses.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Every process, by id.
pub(crate) fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Ends process `pid` if `still` holds once no other process can take its id. The calling process is never ended.
pub(crate) fn end(pid: u32, still: impl FnOnce() -> bool) {
    if pid == std::process::id() {
        return;
    }
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    // A failure means that it is gone already, which is what was wanted.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if still() {
        let _ = pidfd_send_signal(&process, Signal::KILL);
    }
}

/// Whether process `pid` is in the network namespace that `path` holds.
pub(crate) fn in_namespace(pid: u32, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let (Ok(its), Ok(ours)) = (fs::metadata(format!("/proc/{pid}/ns/net")), fs::metadata(path))
    else {
        return false;
    };
    (its.dev(), its.ino()) == (ours.dev(), ours.ino())
}
