//! lsm/bpf: nobody else gets hold of our links by their numbers, detaches them or changes their programs.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::bpf_cmd::{BPF_LINK_DETACH, BPF_LINK_GET_FD_BY_ID, BPF_LINK_UPDATE},
    helpers::generated::bpf_get_current_task,
    macros::lsm,
    programs::LsmContext,
};
use verdict::abi::{GUARDED_LINK, field};

use crate::{
    guard::{guard, number, pointer},
    maps::offset,
};

/// Arguments: the command, the kernel's copy of its attributes, their size; in Linux 7.3 whether the kernel asks itself.
/// Each of these commands has what it is about first in its attributes (include/uapi/linux/bpf.h).
#[lsm(hook = "bpf")]
pub(crate) fn bpf(ctx: LsmContext) -> i32 {
    let (command, attributes): (u32, *const c_void) = (ctx.arg(0), ctx.arg(1));
    match command {
        BPF_LINK_GET_FD_BY_ID => {
            let link: u32 = number(attributes as u64, 0);
            guard(GUARDED_LINK, 0, u64::from(link))
        }
        BPF_LINK_DETACH | BPF_LINK_UPDATE => {
            let link: u32 = link_of(number(attributes as u64, 0));
            guard(GUARDED_LINK, 0, u64::from(link))
        }
        _ => 0,
    }
}

/// The number of the link that a descriptor of the running task leads to. Of a descriptor of anything else it is some
/// number: the command will not work whatever that is.
#[inline(always)]
fn link_of(descriptor: u32) -> u32 {
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let files = pointer(task, offset::<{ field::FILES }>());
    let table = pointer(files, offset::<{ field::FILE_TABLE }>());
    let count: u32 = number(table, offset::<{ field::FILES_MAX }>());
    if descriptor >= count {
        return 0;
    }
    let array = pointer(table, offset::<{ field::FILE_ARRAY }>());
    let file = pointer(array, 8 * descriptor as usize);
    let link = pointer(file, offset::<{ field::PRIVATE }>());
    number(link, offset::<{ field::LINK_ID }>())
}
