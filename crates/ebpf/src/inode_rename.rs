//! lsm/inode_rename: nobody else gives our pins other names, puts others in their place, or moves their directories.

use core::ffi::c_void;

use aya_ebpf::{macros::lsm, programs::LsmContext};
use verdict::abi::field;

use crate::{
    guard::{guard_directory, pointer},
    maps::offset,
};

/// Arguments: the old directory's inode and the entry there, the new directory's inode and the entry there.
#[lsm(hook = "inode_rename")]
pub(crate) fn inode_rename(ctx: LsmContext) -> i32 {
    let entry: *const c_void = ctx.arg(1);
    let moved = pointer(entry as u64, offset::<{ field::INODE }>());
    let [one, other, third] = [ctx.arg(0), ctx.arg(2), moved as *const c_void].map(guard_directory);
    if one != 0 || other != 0 || third != 0 { -1 } else { 0 }
}
