//! What is told on standard output, and the time that it is told with.

use std::io::{Write as _, stdout};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::Failure;

/// A line of JSON.
pub(crate) fn say(what: &impl Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_string(what)?;
    line.push('\n');
    let mut out = stdout().lock();
    out.write_all(line.as_bytes())?;
    Ok(out.flush()?)
}

/// Microseconds of CLOCK_MONOTONIC, which all processes of a machine share.
pub(crate) fn now_us() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).expect("the clock began at 0");
    part(time.tv_sec) * 1_000_000 + part(time.tv_nsec) / 1_000
}
