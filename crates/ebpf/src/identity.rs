//! Whose a socket is: what was stamped when it was made, else what the kernel can still tell.

use core::ptr::null_mut;

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::{
        bpf_probe_read_kernel,
        generated::{
            bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_current_comm,
            bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_uid_gid,
            bpf_sk_storage_get, bpf_skc_to_mptcp_sock,
        },
    },
};
use verdict::{
    Subject,
    abi::{
        FEATURE_ANCESTORS, FEATURE_CURRENT, FEATURE_EXE, FEATURE_MPTCP, GENERATIONS, Owner, Stamp,
        field,
    },
    limits::ANCESTORS_MAX,
};

use crate::{
    evidence,
    maps::{OWNERS, OWNERS_APART, exe_offset, has, offset},
    sock::Sock,
};

/// The stamp of `sk`, which may be null; `cookie` is asked for the socket's only where it needs to be known.
///
/// The stamp counts before the running task: a connection can be opened by whoever holds the descriptor, and an extra
/// MPTCP subflow is opened by a kernel thread, on an address that the peer announced.
#[inline(always)]
pub(crate) fn stamp_of<'a>(sk: *mut bpf_sock, cookie: impl Fn() -> u64) -> Option<&'a Stamp> {
    if sk.is_null() {
        return None;
    }
    let mut stamp = stamp(sk.cast());
    if stamp.is_none() && has(FEATURE_MPTCP) {
        // SAFETY: `sk` is a socket of this context and not null.
        let mptcp = unsafe { bpf_skc_to_mptcp_sock(sk.cast()) };
        if !mptcp.is_null() {
            stamp = self::stamp(mptcp.cast()).or_else(|| apart(cookie_of(mptcp as u64)?));
        }
    }
    stamp.or_else(|| apart(cookie()))
}

/// The cookie of a socket whose address this is; no helper tells it to programs of cgroups but that of their own socket. It was
/// asked for when the socket was stamped.
#[inline(always)]
fn cookie_of(sk: u64) -> Option<u64> {
    let offset = offset::<{ field::COOKIE }>() as u32;
    if offset == field::UNKNOWN { None } else { number(sk, offset) }
}

/// The stamp of a socket that an LSM hook is given. Such a program cannot go from a subflow to its MPTCP socket
/// (`bpf_skc_to_mptcp_sock` takes no pointer of its kind); of all hooks but one it is given that itself. A function of its
/// own: see [`stamp_current`].
#[inline(never)]
pub(crate) fn stamp_of_sock<'a>(sk: Sock) -> Option<&'a Stamp> {
    stamp(sk.as_ptr().cast()).or_else(|| apart(sk.cookie()))
}

/// The stamp of the socket of a cgroup_sock context.
#[inline(always)]
pub(crate) fn stamp_of_new<'a>(sock: *mut bpf_sock, cookie: u64) -> Option<&'a Stamp> {
    stamp(sock.cast()).or_else(|| apart(cookie))
}

/// Stamps the socket of a sock_create context with the current task: on the socket itself, and where it has no room for
/// that, by its cookie. A function of its own, because the stack of its caller has no room for a stamp.
#[inline(never)]
pub(crate) fn stamp_current(sock: *mut bpf_sock, cookie: u64) {
    let mut stamp = Stamp::default();
    current(&mut stamp);
    // SAFETY: the context of a sock_create program is a socket; the map's value type is `Stamp`; the helper copies it.
    let kept = unsafe {
        bpf_sk_storage_get(
            (&raw const OWNERS).cast_mut().cast(),
            sock.cast(),
            (&raw mut stamp).cast(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
    };
    if kept.is_null() {
        evidence::refused();
        // An LRU map makes room; where even that fails the task that uses the socket is judged.
        let _kept = OWNERS_APART.insert(&cookie, &stamp, 0);
    }
}

#[inline(always)]
fn stamp<'a>(sk: *mut core::ffi::c_void) -> Option<&'a Stamp> {
    // SAFETY: callers pass a socket that the verifier knows as one; the value, if any, is a `Stamp` and stays while
    // the program runs.
    unsafe {
        let stamp: *const Stamp =
            bpf_sk_storage_get((&raw const OWNERS).cast_mut().cast(), sk, null_mut(), 0).cast();
        stamp.as_ref()
    }
}

#[inline(always)]
fn apart<'a>(cookie: u64) -> Option<&'a Stamp> {
    // SAFETY: the value stays while the program runs. It is written before the socket has a descriptor, and cookies are
    // not used again; what takes the place of an entry that had to go may be read half, once, as somebody else.
    unsafe { OWNERS_APART.get(cookie) }
}

/// The task that runs now.
#[inline(always)]
pub(crate) fn current(found: &mut Stamp) {
    current_owner(&mut found.owner);
    above(&mut found.above);
}

/// The task that runs now, without the cgroups above its own. A kernel thread is nobody: what it does it does for somebody
/// else, like the one that opens further subflows of MPTCP.
#[inline(always)]
pub(crate) fn current_owner(found: &mut Owner) {
    *found = Owner::default();
    if !has(FEATURE_CURRENT) {
        return;
    }
    // SAFETY: helpers without pointers.
    let (ids, users, cgroup) = unsafe {
        (bpf_get_current_pid_tgid(), bpf_get_current_uid_gid(), bpf_get_current_cgroup_id())
    };
    let exe = exe();
    if has(FEATURE_EXE) && exe == 0 {
        return;
    }
    found.cgroup = cgroup;
    found.exe = exe;
    found.pid = (ids >> 32) as u32;
    found.tid = ids as u32;
    found.uid = users as u32;
    found.gid = (users >> 32) as u32;
    // SAFETY: sixteen bytes to write to. Where the helper fails it has filled them with zeros.
    unsafe { bpf_get_current_comm(found.comm.as_mut_ptr().cast(), 16) };
}

/// Fills in what rules can ask of the running task. A function of its own: see [`stamp_current`].
#[inline(never)]
pub(crate) fn running(found: &mut Subject) {
    if !has(FEATURE_CURRENT) {
        return;
    }
    // SAFETY: helpers without pointers.
    let (users, cgroup) = unsafe { (bpf_get_current_uid_gid(), bpf_get_current_cgroup_id()) };
    found.uid = users as u32;
    found.gid = (users >> 32) as u32;
    found.exe = exe();
    found.cgroup = cgroup;
    above(&mut found.above);
}

/// Fills in what rules can ask of a stamp. No process has id 0, so that owner is nobody.
#[inline(always)]
pub(crate) fn stamped(stamp: &Stamp, found: &mut Subject) {
    let owner = &stamp.owner;
    if owner.pid == 0 {
        return;
    }
    found.uid = owner.uid;
    found.gid = owner.gid;
    found.exe = owner.exe;
    found.cgroup = owner.cgroup;
    found.above = stamp.above;
}

/// The cgroups of the running task from the deepest level that there is room for up to the one below the root. The kernel
/// answers 0 for a level below the task's own.
#[inline(always)]
fn above(above: &mut [u64; ANCESTORS_MAX]) {
    if has(FEATURE_ANCESTORS) {
        let mut level = ANCESTORS_MAX as i32;
        for id in above {
            // SAFETY: a helper without pointers.
            *id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
            level -= 1;
        }
    }
}

/// The executable of the running task; 0 where there is none (a kernel thread). The file is not held while we read, so
/// what a racing exec leaves may be either of the two. A function of its own: see [`stamp_current`].
#[inline(never)]
pub(crate) fn exe() -> u64 {
    if has(FEATURE_EXE) { exe_file().unwrap_or(0) } else { 0 }
}

#[inline(always)]
fn exe_file() -> Option<u64> {
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let file = pointer(pointer(task, exe_offset::<0>())?, exe_offset::<1>())?;
    let inode = pointer(file, exe_offset::<2>())?;
    let number_of_inode = number(inode, exe_offset::<3>())?;
    let system = pointer(inode, exe_offset::<4>())?;
    let device: u32 = number(system, exe_offset::<5>())?;
    let magic: u64 = number(system, exe_offset::<6>())?;
    let [ext, xfs, btrfs, f2fs] = GENERATIONS;
    let told = magic == ext || magic == xfs || magic == btrfs || magic == f2fs;
    let generation = if told { number(inode, exe_offset::<7>())? } else { 0 };
    Some(verdict::abi::exe(device, number_of_inode, generation))
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
