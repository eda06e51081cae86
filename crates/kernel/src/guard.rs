//! Who may do what the guard keeps from all others: the program that stands where ours stands.
//!
//! A file's own number would not do: an upgrade puts another file in its place, and that one has to go on with what this
//! one left. So it is the directory and the name.

use std::{env, fs::File, os::unix::ffi::OsStrExt as _};

use verdict::abi::{KEEPER_NAME_MAX, Keeper};

use crate::executable::device_and_inode;

/// The place of the running program; nobody's where it cannot be said: then nothing is kept from anybody.
pub(crate) fn own_place() -> Keeper {
    place().unwrap_or_default()
}

fn place() -> Option<Keeper> {
    let path = env::current_exe().ok()?;
    let name = path.file_name()?.as_bytes();
    // What was replaced while it runs is shown as deleted, and stood where the new one stands.
    let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
    let mut keeper = Keeper::default();
    keeper
        .name
        .get_mut(..name.len())
        .filter(|room| room.len() < KEEPER_NAME_MAX)?
        .copy_from_slice(name);
    keeper.length = u32::try_from(name.len()).ok()?;
    (keeper.device, keeper.directory) = device_and_inode(&File::open(path.parent()?).ok()?).ok()?;
    Some(keeper)
}
