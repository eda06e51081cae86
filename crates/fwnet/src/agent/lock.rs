//! One agent for each state directory: flock(2) on a file in it, which names the holder. The kernel gives the lock back
//! when the process ends, however it ends.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Seek, Write},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::process::Stat;

/// The name of the file.
const NAME: &str = "agent.lock";
/// How long the kernel may take to give back what a killed process held.
const EXIT_WITHIN: Duration = Duration::from_secs(2);

/// The lock, for as long as the value lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the state directory `state`.
    ///
    /// # Errors
    /// Where another process has it, by its id; or where the directory cannot be written.
    pub(crate) fn take(state: &Path) -> anyhow::Result<Self> {
        let path = state.join(NAME);
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = match opened {
            // What can be read only can be locked as well, and enforced.
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
                File::open(&path).or_else(|_absent| File::open(state))
            }
            opened => opened,
        }
        .with_context(|| path.display().to_string())?;
        let start = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) => {}
                Err(errno) => {
                    return Err(errno).with_context(|| format!("lock {}", path.display()));
                }
            }
            // The holder writes its id right after it took the lock; until then there may be another's.
            let mut holder = String::new();
            let _read = file.rewind().and_then(|()| file.read_to_string(&mut holder));
            let holder = holder.trim();
            if start.elapsed() >= EXIT_WITHIN || !is_exiting(holder) {
                bail!("another agent (process {holder}) holds {}", state.display());
            }
            thread::sleep(Duration::from_millis(5));
        }
        // The lock is what counts; on a full disk nobody is named.
        let _named = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

/// Whether a process has ended, though the kernel may still be giving back what it held: its main thread is a zombie, or
/// it is not there any more.
fn is_exiting(pid: &str) -> bool {
    let stat = pid.parse().ok().and_then(Stat::of);
    stat.is_none_or(Stat::has_ended)
}
