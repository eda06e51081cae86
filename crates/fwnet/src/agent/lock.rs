//! One agent for each state directory: flock(2) on a file in it, which names the holder. The kernel gives the lock back
//! when the process ends, however it ends.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Seek, Write},
    path::Path,
};

use anyhow::{Context, bail};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// The name of the file.
const NAME: &str = "agent.lock";

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
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // The holder writes its id right after it took the lock; until then there may be another's.
                let _read = file.read_to_string(&mut holder);
                bail!("another agent (process {}) holds {}", holder.trim(), state.display());
            }
            Err(errno) => return Err(errno).with_context(|| format!("lock {}", path.display())),
        }
        // The lock is what counts; on a full disk nobody is named.
        let _named = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}
