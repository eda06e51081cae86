//! What the guard keeps from other programs: our links and maps by their numbers, our pins by their directories.
//!
//! Everything is entered whether or not the guard's hooks are in place: it costs nothing, and they may come later.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use aya::maps::{HashMap, MapData, MapError};
use verdict::abi::{GUARDED_DIRECTORY, GUARDED_LINK, GUARDED_MAP, Guarded};
use zerocopy::IntoBytes as _;

use super::{LoadError, take};
use crate::{executable::device_and_inode, object::Pins, sys};

/// A [`Guarded`] as the map has it.
type Key = [u8; size_of::<Guarded>()];

/// The table that the guard's programs look into.
pub(super) struct Guard(HashMap<MapData, Key, u64>);

impl Guard {
    /// The table in `pins`; every map there is guarded from now on.
    pub(super) fn of(pins: &Pins) -> Result<Self, LoadError> {
        let mut guard = Self(take(pins, "GUARDED")?);
        let system = |source| LoadError::System { what: "guard the maps", source };
        for (_, path) in pins.paths() {
            let map = sys::pinned(&path).map_err(system)?;
            guard.enter(GUARDED_MAP, map.as_fd()).map_err(system)?;
        }
        Ok(guard)
    }

    /// Guards a link.
    pub(super) fn link(&mut self, link: BorrowedFd<'_>) -> io::Result<()> {
        self.enter(GUARDED_LINK, link)
    }

    /// A link that is given up.
    pub(super) fn forget(&mut self, link: BorrowedFd<'_>) {
        if let Ok(id) = sys::object_id(link) {
            // Where it never was it need not go.
            let _gone = self.0.remove(&key(GUARDED_LINK, 0, u64::from(id)));
        }
    }

    /// Guards what is in a directory of pins.
    pub(super) fn directory(&mut self, path: &Path) -> io::Result<()> {
        let (device, inode) = device_and_inode(&File::open(path)?)?;
        self.insert(key(GUARDED_DIRECTORY, device, inode))
    }

    fn enter(&mut self, kind: u32, object: BorrowedFd<'_>) -> io::Result<()> {
        let id = sys::object_id(object)?;
        self.insert(key(kind, 0, u64::from(id)))
    }

    fn insert(&mut self, key: Key) -> io::Result<()> {
        self.0.insert(key, 1, 0).map_err(|error: MapError| io::Error::other(error))
    }
}

fn key(kind: u32, device: u32, id: u64) -> Key {
    let key = Guarded { kind, device, id };
    key.as_bytes().try_into().expect("the array is as long as the type")
}
