//! Names that tell whose a thing is, and the sweep that uses them.
//!
//! A name is `fwnet-bed-PID-START-COUNT`: the maker's process id, its start time (so that a reused id is not taken for
//! the maker) and a counter. It is used for network namespaces, cgroups and directories alike.

use crate::{cgroup, directory, namespace, process};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

const PREFIX: &str = "fwnet-bed";

/// The next name of this process. The first call sweeps.
///
/// # Panics
/// Unless root, see [`crate::require_root`].
#[track_caller]
pub(crate) fn next() -> String {
    static FIRST: Once = Once::new();
    static COUNT: AtomicU32 = AtomicU32::new(0);

    crate::require_root();
    FIRST.call_once(sweep);
    let pid = std::process::id();
    let start = process::start_time(pid).expect("a running process has a start time in /proc");
    format!("{PREFIX}-{pid}-{start}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Whether `name` was given by a process that no longer runs. Names that this crate did not give are nobody's.
pub(crate) fn is_left_over(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('-')) else {
        return false;
    };
    let mut parts = rest.split('-').map(str::parse::<u64>);
    let (Some(Ok(pid)), Some(Ok(start)), Some(Ok(_)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let Ok(pid) = u32::try_from(pid) else { return false };
    process::start_time(pid) != Some(start)
}

/// Removes the namespaces, cgroups and directories of makers that were killed, with every process left in them. Happens by itself
/// before the first of these is made in a process.
pub fn sweep() {
    namespace::sweep();
    cgroup::sweep();
    directory::sweep();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_are_unique_and_not_left_over() {
        let (first, second) = (next(), next());
        assert_ne!(first, second);
        assert!(!is_left_over(&first) && !is_left_over(&second));
    }

    #[test]
    fn only_names_of_dead_makers_are_left_over() {
        let pid = std::process::id();
        let start = process::start_time(pid).expect("this process runs");
        // The same id with another start time is another process; ids end at 4,194,304 (proc(5), pid_max).
        assert!(is_left_over(&format!("{PREFIX}-{pid}-{}-0", start + 1)));
        assert!(is_left_over(&format!("{PREFIX}-4194305-1-0")));
        for foreign in [
            "",
            "web",
            "fwnet-bed",
            "fwnet-bed-",
            "fwnet-bed-x-1-0",
            "fwnet-bed-4194305-1",
            "fwnet-bed-4194305-1-0-b",
        ] {
            assert!(!is_left_over(foreign), "{foreign}");
        }
    }
}
