//! Waiting for a condition instead of for a time, and the one thing that every test here needs: root.

use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at: short beside anything a test waits for, long beside the look itself.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Returns as soon as `condition` holds; it is looked at once even if `deadline` (from now) is zero.
///
/// # Panics
/// When `deadline` passes first; the message names `what` was waited for.
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Says at once, and in one line, why nothing here can work without root.
///
/// # Panics
/// Unless the effective user is root.
#[track_caller]
pub fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this needs root: network namespaces, cgroups and BPF programs are made by root only (try `sudo -E`)"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic;

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        wait_until(Duration::from_secs(5), "the third look", || {
            looks += 1;
            looks == 3
        });
        assert_eq!(looks, 3);
    }

    #[test]
    fn a_missed_deadline_names_what_was_waited_for() {
        let panic =
            panic::catch_unwind(|| wait_until(Duration::ZERO, "rain in the desert", || false));
        let message = panic.expect_err("the deadline is past");
        let message = message.downcast_ref::<String>().expect("a formatted message");
        assert!(message.contains("rain in the desert"), "{message}");
    }
}
