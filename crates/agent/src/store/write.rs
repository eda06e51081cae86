//! How files of the state change: a new file beside, made certain, then one rename, made certain.

use std::{collections::BTreeSet, io};

use super::{Disk, inspect::Inspected};

/// Ends the name of a file that is being written.
pub(super) const NEW: &str = ".new";
/// Ends the name of the good file before the present one.
pub(super) const LAST: &str = ".last";
/// Ends the name under which a file is kept that could not be used.
const UNUSABLE: &str = ".unusable";

/// A file that is written to see whether that can be done.
pub(super) const PROBE: &str = "probe";

/// The name of the good file before `file`.
pub(super) fn last(file: &str) -> String {
    format!("{file}{LAST}")
}

/// Why a change was not written. Nothing is changed then, neither on disk nor in memory.
#[derive(Debug, thiserror::Error)]
#[error("write {file}; nothing is changed")]
pub struct WriteError {
    /// The file.
    pub file: String,
    /// What the disk said.
    #[source]
    pub source: io::Error,
}

impl WriteError {
    /// With its source, on one line.
    pub(super) fn sentence(&self) -> String {
        format!("{self}: {}", self.source)
    }
}

/// The directory, and which of its files are whole.
#[derive(Debug)]
pub(super) struct Writer<D> {
    disk: D,
    good: BTreeSet<String>,
    bad: BTreeSet<String>,
    /// What may be undone by a loss of power, since the directory could not be made certain.
    uncertain: Option<String>,
}

impl<D: Disk> Writer<D> {
    pub(super) fn new<P>(disk: D, inspected: &Inspected<P>) -> Self {
        Self { disk, good: inspected.good.clone(), bad: inspected.bad.clone(), uncertain: None }
    }

    pub(super) fn disk(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Whether there is such a file, and it is whole.
    pub(super) fn is_good(&self, file: &str) -> bool {
        self.good.contains(file)
    }

    /// Puts a file in the place of another one. If `keep`, the one that was there stays as `file.last`. One that was
    /// not whole stays as `file.unusable` instead, and the last good one is not touched.
    pub(super) fn replace(
        &mut self,
        file: &str,
        bytes: &[u8],
        keep: bool,
    ) -> Result<(), WriteError> {
        let new = format!("{file}{NEW}");
        let prepared = self.prepare(file, &new, bytes, keep);
        let renamed = prepared.and_then(|()| self.disk.rename(&new, file));
        if let Err(source) = renamed {
            // A full disk has room again once the half-written file is gone; if that fails too, the next write or the
            // next start removes it.
            let _removed = self.disk.remove(&new);
            return Err(failed(file)(source));
        }
        self.bad.remove(file);
        self.good.insert(file.to_owned());
        self.settle(file);
        Ok(())
    }

    fn prepare(&mut self, file: &str, new: &str, bytes: &[u8], keep: bool) -> io::Result<()> {
        self.disk.remove(new)?;
        self.disk.write(new, bytes)?;
        self.disk.sync(new)?;
        if self.bad.contains(file) {
            self.second_name(file, &format!("{file}{UNUSABLE}"))
        } else if keep && self.is_good(file) {
            self.second_name(file, &last(file))
        } else {
            Ok(())
        }
    }

    /// Gives a file a second name, which may be taken. Both names are certain afterwards.
    pub(super) fn link(&mut self, from: &str, to: &str) -> Result<(), WriteError> {
        self.second_name(from, to).and_then(|()| self.disk.sync_directory()).map_err(failed(to))
    }

    fn second_name(&mut self, from: &str, to: &str) -> io::Result<()> {
        let new = format!("{to}{NEW}");
        self.disk.remove(&new)?;
        self.disk.link(from, &new)?;
        // A rename between two names of one file does nothing and leaves both (rename(2)).
        self.disk.rename(&new, to)?;
        self.disk.remove(&new)
    }

    /// Removes a name.
    pub(super) fn remove(&mut self, file: &str) -> Result<(), WriteError> {
        self.disk.remove(file).map_err(failed(file))?;
        self.good.remove(file);
        self.bad.remove(file);
        self.settle(file);
        Ok(())
    }

    /// Whether the disk can be written at all.
    pub(super) fn probe(&mut self) -> Result<(), WriteError> {
        let tried = self.disk.remove(PROBE).and_then(|()| self.disk.write(PROBE, b"probe"));
        tried.and_then(|()| self.disk.remove(PROBE)).map_err(failed(PROBE))
    }

    /// What may be undone by a loss of power.
    pub(super) fn uncertain(&self) -> Option<&str> {
        self.uncertain.as_deref()
    }

    /// Makes certain what was done to a file. It is done, whether or not that succeeds.
    fn settle(&mut self, file: &str) {
        let said = |error| format!("{file} is written, but a loss of power may undo it: {error}");
        self.uncertain = self.disk.sync_directory().err().map(said);
    }
}

fn failed(file: &str) -> impl FnOnce(io::Error) -> WriteError {
    let file = file.to_owned();
    |source| WriteError { file, source }
}
