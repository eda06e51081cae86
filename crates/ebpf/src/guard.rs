//! What the guard's hooks have in common: what is guarded, and who may touch it all the same.
//!
//! It keeps a root process that does not mean us, or means no good but has only bpf(2), from taking enforcement away. It
//! is no wall against root, who can run our own program, or load a module.

use core::ffi::c_void;

use aya_ebpf::helpers::{
    bpf_probe_read_kernel, bpf_probe_read_kernel_str_bytes, generated::bpf_get_current_task,
};
use verdict::abi::{Guarded, KEEPER_NAME_MAX, field};

use crate::{
    evidence,
    maps::{GUARDED, exe_offset, keeper, offset},
};

/// What whoever is kept from it gets.
const EPERM: i32 = 1;

/// The return code for an attempt of the running task on something.
#[inline(always)]
pub(crate) fn guard(kind: u32, device: u32, id: u64) -> i32 {
    let key = Guarded { kind, device, id };
    if GUARDED.get_ptr(&key).is_none() || is_keeper() {
        return 0;
    }
    evidence::guarded();
    -EPERM
}

/// Whether the running task runs the program that stands where the loader stood, or none at all: the kernel itself.
#[inline(never)]
fn is_keeper() -> bool {
    let keeper = keeper();
    if keeper.length == 0 {
        return true;
    }
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let memory = pointer(task, exe_offset::<0>() as usize);
    if memory == 0 {
        return true;
    }
    let file = pointer(memory, exe_offset::<1>() as usize);
    let entry = pointer(file, offset::<{ field::FILE_PATH }>() + offset::<{ field::DENTRY }>());
    let directory =
        pointer(pointer(entry, offset::<{ field::PARENT }>()), offset::<{ field::INODE }>());
    let system = pointer(directory, exe_offset::<4>() as usize);
    let inode: u64 = number(directory, exe_offset::<3>() as usize);
    let device: u32 = number(system, exe_offset::<5>() as usize);
    if file == 0 || inode != keeper.directory || device != keeper.device {
        return false;
    }
    let text = pointer(entry, offset::<{ field::NAME }>() + offset::<{ field::NAME_TEXT }>());
    let mut name = [0u8; KEEPER_NAME_MAX];
    // SAFETY: the helper reads memory of the kernel and answers with an error where there is none.
    let read = unsafe { bpf_probe_read_kernel_str_bytes(text as *const u8, &mut name) };
    read.is_ok() && name == keeper.name
}

/// A pointer in a structure of the kernel; 0 where there is no memory.
#[inline(always)]
pub(crate) fn pointer(structure: u64, offset: usize) -> u64 {
    number(structure, offset)
}

/// A number in a structure of the kernel; 0 where there is no memory.
#[inline(always)]
pub(crate) fn number<T: Default>(structure: u64, offset: usize) -> T {
    let address = structure.wrapping_add(offset as u64) as *const T;
    // SAFETY: the helper reads memory of the kernel and answers with an error where there is none.
    unsafe { bpf_probe_read_kernel(address) }.unwrap_or_default()
}

/// The return code for an attempt on an entry of the directory with this `struct inode`.
#[inline(always)]
pub(crate) fn guard_directory(directory: *const c_void) -> i32 {
    let directory = directory as u64;
    let system = pointer(directory, exe_offset::<4>() as usize);
    let device = number(system, exe_offset::<5>() as usize);
    let inode = number(directory, exe_offset::<3>() as usize);
    guard(verdict::abi::GUARDED_DIRECTORY, device, inode)
}
