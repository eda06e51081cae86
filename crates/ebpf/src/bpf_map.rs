//! lsm/bpf_map: nobody else opens our maps to write, by their numbers or by their pins.

use core::ffi::c_void;

use aya_ebpf::{macros::lsm, programs::LsmContext};
use verdict::abi::{GUARDED_MAP, field};

use crate::{guard::guard, maps::offset, sock::load};

/// `FMODE_WRITE` (include/linux/fs.h).
const WRITE: u32 = 2;

/// Arguments: the map, what it is opened for.
#[lsm(hook = "bpf_map")]
pub(crate) fn bpf_map(ctx: LsmContext) -> i32 {
    let (map, mode): (*const c_void, u32) = (ctx.arg(0), ctx.arg(1));
    if mode & WRITE == 0 {
        return 0;
    }
    let id: u32 = load(map, offset::<{ field::MAP_ID }>());
    guard(GUARDED_MAP, 0, u64::from(id))
}
