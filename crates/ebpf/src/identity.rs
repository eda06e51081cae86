//! Whose a socket is: what was stamped when it was made, else what the kernel can still tell.

use core::ptr::null_mut;

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::{
        bpf_get_current_comm, bpf_probe_read_kernel,
        generated::{
            bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task,
            bpf_get_current_uid_gid, bpf_sk_storage_get, bpf_skc_to_mptcp_sock,
        },
    },
};
use verdict::{
    Subject,
    abi::{FEATURE_CURRENT, FEATURE_EXE, FEATURE_MPTCP, Owner, REPORT_FLOWS},
    layout::FLAG_SUBJECTS,
};

use crate::maps::{OWNERS, Slot, exe_path, has};

/// The owner of `sk`, which may be null.
///
/// The stamp counts before the running task: a connection can be opened by whoever holds the descriptor, and an extra
/// MPTCP subflow is opened by a kernel thread, on an address that the peer announced.
#[inline(always)]
pub(crate) fn owner_of(sk: *mut bpf_sock) -> Owner {
    if !sk.is_null() {
        if let Some(owner) = stamp(sk.cast()) {
            return owner;
        }
        if has(FEATURE_MPTCP) {
            // SAFETY: `sk` is a socket of this context and not null.
            let mptcp = unsafe { bpf_skc_to_mptcp_sock(sk.cast()) };
            if !mptcp.is_null()
                && let Some(owner) = stamp(mptcp.cast())
            {
                return owner;
            }
        }
    }
    current()
}

/// The owner of the socket of a cgroup_sock context.
#[inline(always)]
pub(crate) fn owner_of_new(sock: *mut bpf_sock) -> Owner {
    stamp(sock.cast()).unwrap_or_else(current)
}

/// Stamps the socket of a sock_create context with the current task. A socket that cannot be stamped is judged by the
/// task that uses it.
#[inline(always)]
pub(crate) fn stamp_current(sock: *mut bpf_sock) {
    let mut owner = current();
    // SAFETY: the context of a sock_create program is a socket; the map's value type is `Owner`; the helper copies it.
    unsafe {
        bpf_sk_storage_get(
            (&raw const OWNERS).cast_mut().cast(),
            sock.cast(),
            (&raw mut owner).cast(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        );
    }
}

#[inline(always)]
fn stamp(sk: *mut core::ffi::c_void) -> Option<Owner> {
    // SAFETY: callers pass a socket that the verifier knows as one; the value, if any, is an `Owner` and stays while
    // the program runs.
    unsafe {
        let owner: *const Owner =
            bpf_sk_storage_get((&raw const OWNERS).cast_mut().cast(), sk, null_mut(), 0).cast();
        owner.as_ref().copied()
    }
}

/// The task that runs now.
#[inline(always)]
fn current() -> Owner {
    if !has(FEATURE_CURRENT) {
        return Owner::default();
    }
    // SAFETY: helpers without pointers.
    let (ids, users, cgroup) = unsafe {
        (bpf_get_current_pid_tgid(), bpf_get_current_uid_gid(), bpf_get_current_cgroup_id())
    };
    Owner {
        cgroup,
        pid: (ids >> 32) as u32,
        tid: ids as u32,
        uid: users as u32,
        gid: (users >> 32) as u32,
        exe: exe().unwrap_or(0),
        comm: bpf_get_current_comm().unwrap_or_default(),
    }
}

/// The executable of the running task; nothing where neither a rule nor a reader of flows asks for it, or where there is
/// none (a kernel thread). The file is not held while we read, so what a racing exec leaves may be either of the two.
#[inline(always)]
fn exe() -> Option<u64> {
    if !has(FEATURE_EXE) {
        return None;
    }
    let slot = Slot::in_force()?;
    if slot.flags & FLAG_SUBJECTS == 0 && slot.report & REPORT_FLOWS == 0 {
        return None;
    }
    let [mm, exe_file, f_inode, i_ino, i_sb, s_dev] = exe_path();
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let inode = pointer(pointer(pointer(task, mm)?, exe_file)?, f_inode)?;
    let device: u32 = number(pointer(inode, i_sb)?, s_dev)?;
    Some(verdict::abi::exe(device, number(inode, i_ino)?))
}

#[inline(always)]
fn pointer(structure: u64, offset: u32) -> Option<u64> {
    number(structure, offset).filter(|&pointer: &u64| pointer != 0)
}

#[inline(always)]
fn number<T>(structure: u64, offset: u32) -> Option<T> {
    let address = structure.wrapping_add(u64::from(offset)) as *const T;
    // SAFETY: the helper reads memory of the kernel and answers with an error where there is none.
    unsafe { bpf_probe_read_kernel(address) }.ok()
}

/// The part of an owner that rules can ask for. No process has id 0, so that owner is nobody.
#[inline(always)]
pub(crate) fn subject(owner: &Owner) -> Subject {
    if owner.pid == 0 {
        return Subject::UNKNOWN;
    }
    Subject { uid: owner.uid, gid: owner.gid, exe: owner.exe, cgroup: owner.cgroup }
}
