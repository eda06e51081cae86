//! lsm/inode_unlink: nobody else removes our pins.

use aya_ebpf::{macros::lsm, programs::LsmContext};

use crate::guard::guard_directory;

/// Arguments: the directory's inode, the entry.
#[lsm(hook = "inode_unlink")]
pub(crate) fn inode_unlink(ctx: LsmContext) -> i32 {
    guard_directory(ctx.arg(0))
}
