//! The few bpf(2) commands that the loader library does not offer, as safe functions over descriptors.

use std::{
    io,
    mem::zeroed,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use aya_obj::generated::{
    bpf_attach_type, bpf_attr, bpf_attr__bindgen_ty_3, bpf_cmd, bpf_map_type,
};
use zerocopy::{FromBytes, IntoBytes};

/// bpf(2). The attributes that a command reads must be filled in, pointers in them valid for the call.
fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<libc::c_long> {
    // SAFETY: the callers below fill in the fields that their command reads; the kernel copies `size_of::<bpf_attr>()`
    // bytes in, all of them initialised because every attribute starts zeroed.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn attributes() -> bpf_attr {
    // SAFETY: a union of plain data without invalid bit patterns.
    unsafe { zeroed() }
}

/// Takes the descriptor that a command returned.
fn owned(descriptor: libc::c_long) -> io::Result<OwnedFd> {
    let raw = RawFd::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn raw(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

/// `BPF_LINK_CREATE`: attaches until the last descriptor of the link is closed. A cgroup link joins what others have
/// attached there (it counts as `BPF_F_ALLOW_MULTI`).
pub(crate) fn link_create(
    program: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    attach_type: bpf_attach_type,
) -> io::Result<OwnedFd> {
    let mut attributes = attributes();
    attributes.link_create.__bindgen_anon_1.prog_fd = raw(program);
    attributes.link_create.__bindgen_anon_2.target_fd = raw(target);
    attributes.link_create.attach_type = attach_type as u32;
    owned(bpf(bpf_cmd::BPF_LINK_CREATE, &mut attributes)?)
}

/// `BPF_RAW_TRACEPOINT_OPEN` of a program whose tracepoint was named when it was loaded.
pub(crate) fn tracepoint_open(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attributes = attributes();
    attributes.raw_tracepoint.prog_fd = raw(program);
    owned(bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attributes)?)
}

/// `BPF_MAP_CREATE` of an array of one four-byte value, or of one such array.
fn array_create(inner: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let mut attributes = attributes();
    let kind = match inner {
        Some(_) => bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS,
        None => bpf_map_type::BPF_MAP_TYPE_ARRAY,
    };
    // SAFETY: the fields of the map_create arm, all plain numbers; the arm is the one that the command reads.
    let create = unsafe { &mut attributes.__bindgen_anon_1 };
    create.map_type = kind as u32;
    create.key_size = 4;
    create.value_size = 4;
    create.max_entries = 1;
    create.inner_map_fd = inner.map_or(0, raw);
    owned(bpf(bpf_cmd::BPF_MAP_CREATE, &mut attributes)?)
}

/// Where a walk through a hash map stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walk {
    /// At its beginning.
    Start,
    /// At this bucket.
    At(u32),
    /// Through.
    Done,
}

/// `BPF_MAP_LOOKUP_AND_DELETE_BATCH` on a hash map: takes entries out until `keys` or `values` is full. Returns how many,
/// and where to go on. `ENOSPC` where one bucket alone has more entries than there is room for.
///
/// `K` and `V` are the map's key and value: the kernel writes as many bytes as the map was created with.
pub(crate) fn take_batch<K, V>(
    map: BorrowedFd<'_>,
    walk: Walk,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<(usize, Walk)>
where
    K: FromBytes + IntoBytes,
    V: FromBytes + IntoBytes,
{
    let from = match walk {
        Walk::Start => None,
        Walk::At(bucket) => Some(bucket),
        Walk::Done => return Ok((0, Walk::Done)),
    };
    let mut to = 0u32;
    let room = u32::try_from(keys.len().min(values.len())).unwrap_or(u32::MAX);
    let mut attributes = attributes();
    attributes.batch = bpf_attr__bindgen_ty_3 {
        in_batch: from.as_ref().map_or(0, |bucket| (&raw const *bucket) as u64),
        out_batch: (&raw mut to) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: room,
        map_fd: raw(map),
        elem_flags: 0,
        flags: 0,
    };
    let done = match bpf(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_BATCH, &mut attributes) {
        Ok(_) => false,
        // The end of the map: what was found before it counts.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
        Err(error) => return Err(error),
    };
    // SAFETY: the arm that was filled in above and that the command writes its count to.
    let count = unsafe { attributes.batch.count }.min(room) as usize;
    Ok((count, if done { Walk::Done } else { Walk::At(to) }))
}

/// Waits until every program that was running has ended.
///
/// An update of an array of maps waits for an RCU grace period before it returns (`maybe_wait_bpf_programs` in
/// kernel/bpf/syscall.c), and the programs of this crate are not sleepable, so each of them runs inside one RCU section.
#[derive(Debug)]
pub(crate) struct Barrier {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl Barrier {
    pub(crate) fn new() -> io::Result<Self> {
        use std::os::fd::AsFd;
        let inner = array_create(None)?;
        Ok(Self { outer: array_create(Some(inner.as_fd()))?, inner })
    }

    pub(crate) fn wait(&self) -> io::Result<()> {
        use std::os::fd::AsFd;
        let (key, value) = (0u32, raw(self.inner.as_fd()));
        let mut attributes = attributes();
        // SAFETY: the fields of the map_elem arm; the pointers are to the two locals, which outlive the call and have
        // the sizes that the map was created with.
        let update = unsafe { &mut attributes.__bindgen_anon_2 };
        update.map_fd = raw(self.outer.as_fd());
        update.key = (&raw const key) as u64;
        update.__bindgen_anon_1.value = (&raw const value) as u64;
        bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attributes).map(drop)
    }
}
