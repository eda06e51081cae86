//! Whether anything began that may live in a new network namespace: cheaper to ask than to look at every process.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use crate::netns::NAMED;

/// A running process may change its namespace by itself (unshare(2)), which nothing tells: so one looks anyway, now and
/// then.
const AT_LEAST_EVERY: Duration = Duration::from_secs(10);

/// What was seen when it was last asked.
#[derive(Debug, Default)]
pub(crate) struct Births {
    seen: Option<(String, Vec<Option<SystemTime>>)>,
    looked: Option<Instant>,
}

impl Births {
    /// Makes the next answer "yes".
    pub(crate) fn ask_again(&mut self) {
        self.seen = None;
    }

    /// Whether a process began or a named namespace came or went since this was last asked, or nobody asked for long.
    pub(crate) fn any_since_last_asked(&mut self) -> bool {
        // The last field is the process id that was given last (proc(5)).
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let last = load.split_ascii_whitespace().next_back().unwrap_or_default().to_owned();
        let named = NAMED.map(|directory| Path::new(directory).metadata().ok()?.modified().ok());
        let seen = Some((last, named.to_vec()));
        let long_ago = self.looked.is_none_or(|looked| looked.elapsed() >= AT_LEAST_EVERY);
        if self.seen == seen && !long_ago {
            return false;
        }
        self.seen = seen;
        self.looked = Some(Instant::now());
        true
    }
}
