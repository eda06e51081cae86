//! A storm of connects: many attempts through one door from several threads, each closed at once with a reset, counted by
//! what came of them. Load for tests of enforcement, of counters and of leaks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, connect, socket};

use crate::door::{Attempt, Door};
use crate::error::{DoorError, errno_name};
use crate::out::open;

/// Threads of one storm.
pub const THREADS_MAX: u32 = 1024;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// The way out.
    pub door: &'static Door,
    /// Where to.
    pub target: SocketAddr,
    /// Attempts in all.
    pub count: u64,
    /// Threads that share them, at least one and at most [`THREADS_MAX`].
    pub threads: u32,
    /// When one attempt gives up.
    pub timeout: Duration,
}

/// What came of it. `connected` and all of `failed` add up to `attempts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts made.
    pub attempts: u64,
    /// Those that connected.
    pub connected: u64,
    /// The others, by the name of the errno, or `timeout`, or `unsupported`.
    pub failed: BTreeMap<String, u64>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Tally {
    fn count(&mut self, result: &Result<(), DoorError>) {
        self.attempts += 1;
        match result {
            Ok(()) => self.connected += 1,
            Err(error) => *self.failed.entry(key(error)).or_default() += 1,
        }
    }

    fn add(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.connected += other.connected;
        for (key, count) in &other.failed {
            *self.failed.entry(key.clone()).or_default() += count;
        }
    }
}

/// Makes all attempts and counts them.
///
/// # Panics
/// If a thread cannot be started.
pub fn run(storm: &Storm) -> Tally {
    let started = Instant::now();
    let threads = u64::from(storm.threads.clamp(1, THREADS_MAX));
    let mut whole = thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|thread| {
                let share = storm.count / threads + u64::from(thread < storm.count % threads);
                scope.spawn(move || attempts(storm, share))
            })
            .collect();
        parts.into_iter().fold(Tally::default(), |mut whole, part| {
            whole.add(&part.join().expect("attempts do not panic"));
            whole
        })
    });
    whole.elapsed = started.elapsed();
    whole
}

/// Connects to `target` by TCP `count` times, as fast as one thread can, with one socket: a call that the kernel refuses
/// leaves it as it was. For what is denied; the first call that is not refused ends it.
///
/// # Panics
/// If no socket can be made.
pub fn hammer(target: SocketAddr, count: u64) -> Tally {
    let started = Instant::now();
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None).expect("a socket can be made");
    let mut refusals: BTreeMap<i32, u64> = BTreeMap::new();
    let mut tally = Tally::default();
    while tally.attempts < count {
        tally.attempts += 1;
        match connect(&socket, &target) {
            Ok(()) => {
                tally.connected += 1;
                break;
            }
            Err(errno) => *refusals.entry(errno.raw_os_error()).or_default() += 1,
        }
    }
    tally.failed = refusals.into_iter().map(|(errno, count)| (errno_name(errno), count)).collect();
    tally.elapsed = started.elapsed();
    tally
}

fn attempts(storm: &Storm, share: u64) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..share {
        let result = open(storm.door, &Attempt::new(storm.target, storm.timeout))
            .and_then(crate::Opened::reset);
        tally.count(&result);
    }
    tally
}

/// The name under which an error is counted.
pub(crate) fn key(error: &DoorError) -> String {
    match error {
        DoorError::Refused { errno, .. } => errno_name(*errno),
        DoorError::TimedOut { .. } => "timeout".to_owned(),
        DoorError::Unsupported { .. } => "unsupported".to_owned(),
    }
}
