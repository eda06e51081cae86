//! Pieces on disk, each under its name, so that after a reboot nothing is fetched that is here.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use ::agent::sync::Digest;
use ::fleet::whole;

use super::asked::spelled;

/// The directory of them, in that of the membership.
const DIRECTORY: &str = "pieces";

/// Where they are.
#[derive(Clone, Debug)]
pub(super) struct Pieces(PathBuf);

impl Pieces {
    /// Those of a membership's directory.
    pub(super) fn of(directory: &Path) -> Self {
        Self(directory.join(DIRECTORY))
    }

    /// All that are there. Whoever takes them looks whether they fit their names; what cannot be read is fetched again.
    pub(super) fn load(&self) -> Vec<(Digest, Vec<u8>)> {
        let files = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let named = files.filter_map(|file| {
            let name = blake3::Hash::from_hex(file.file_name().to_str()?).ok()?;
            Some((*name.as_bytes(), fs::read(file.path()).ok()?))
        });
        named.collect()
    }

    /// Writes one.
    ///
    /// # Errors
    /// If it cannot be written: it is fetched again after a restart.
    pub(super) fn keep(&self, name: &Digest, bytes: &[u8]) -> io::Result<()> {
        whole::directory(&self.0)?;
        whole::write(&self.0, &spelled(name), bytes)
    }

    /// Removes one.
    pub(super) fn forget(&self, name: &Digest) {
        // One that stays is forgotten after the next start.
        let _removed = fs::remove_file(self.0.join(spelled(name)));
    }
}
