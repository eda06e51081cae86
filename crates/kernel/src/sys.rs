//! The few bpf(2) commands that the loader library does not offer, as safe functions over descriptors.

use std::{
    ffi::CString,
    io,
    mem::zeroed,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    time::Duration,
};

use aya_obj::generated::{
    bpf_attach_type, bpf_attr, bpf_attr__bindgen_ty_3, bpf_cmd, bpf_link_info, bpf_map_type,
    bpf_prog_info, bpf_prog_type, bpf_stats_type,
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

/// `BPF_PROG_LOAD` of the least program for the security hook with this function: it sets the one value (8 bytes) of `map`
/// to 1, and lets the call go on.
pub(crate) fn noting_program(map: BorrowedFd<'_>, function: u32) -> io::Result<OwnedFd> {
    /// An instruction (Documentation/bpf/standardization/instruction-set.rst): opcode, destination and source registers,
    /// offset, immediate.
    #[repr(C)]
    struct Instruction(u8, u8, i16, i32);
    const LOAD_LONG: u8 = 0x18;
    /// As the source register of the above: the value of the map whose descriptor is the immediate.
    const MAP_VALUE: u8 = 2 << 4;
    const STORE_LONG: u8 = 0x7a;
    const MOVE: u8 = 0xb7;
    const EXIT: u8 = 0x95;
    let program = [
        Instruction(LOAD_LONG, 1 | MAP_VALUE, 0, map.as_raw_fd()),
        Instruction(0, 0, 0, 0),
        Instruction(STORE_LONG, 1, 0, 1),
        Instruction(MOVE, 0, 0, 0),
        Instruction(EXIT, 0, 0, 0),
    ];
    let mut attributes = attributes();
    // SAFETY: the fields of the program's arm, all plain numbers; the pointers are to `program` and a literal, which
    // outlive the call.
    let load = unsafe { &mut attributes.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_LSM as u32;
    load.expected_attach_type = bpf_attach_type::BPF_LSM_MAC as u32;
    load.attach_btf_id = function;
    load.insn_cnt = program.len().try_into().map_err(io::Error::other)?;
    load.insns = program.as_ptr() as u64;
    load.license = c"GPL".as_ptr() as u64;
    owned(bpf(bpf_cmd::BPF_PROG_LOAD, &mut attributes)?)
}

/// `BPF_RAW_TRACEPOINT_OPEN` of a program whose tracepoint or security hook was named when it was loaded.
pub(crate) fn tracepoint_open(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attributes = attributes();
    attributes.raw_tracepoint.prog_fd = raw(program);
    owned(bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attributes)?)
}

/// `BPF_LINK_UPDATE`: replaces the program of a cgroup's or network namespace's link, at once for whoever comes next.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = attributes();
    attributes.link_update.link_fd = raw(link);
    attributes.link_update.__bindgen_anon_1.new_prog_fd = raw(program);
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attributes).map(drop)
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    /// Its id.
    pub(crate) id: u32,
    /// The id of its program.
    pub(crate) program: u32,
    /// The id of the cgroup, or the inode of the network namespace, that it is attached to; 0 once that is gone or the
    /// link was detached. Of a tracepoint's link nothing that means anything.
    pub(crate) target: u64,
}

/// `BPF_OBJ_GET_INFO_BY_FD` of a link of a cgroup or, with `netns`, of a network namespace.
pub(crate) fn link_info(link: BorrowedFd<'_>, netns: bool) -> io::Result<LinkInfo> {
    // SAFETY: plain data without invalid bit patterns.
    let mut info: bpf_link_info = unsafe { zeroed() };
    // SAFETY: of plain data any bytes are valid.
    unsafe { tell(link, &mut info) }?;
    // SAFETY: both arms are plain numbers and the whole union was zeroed before the kernel wrote one of them.
    let target = unsafe {
        if netns {
            info.__bindgen_anon_1.netns.netns_ino.into()
        } else {
            info.__bindgen_anon_1.cgroup.cgroup_id
        }
    };
    Ok(LinkInfo { id: info.id, program: info.prog_id, target })
}

/// `BPF_LINK_GET_NEXT_ID`: the numbers of all links of the machine.
pub(crate) fn links() -> io::Result<Vec<u32>> {
    numbers(bpf_cmd::BPF_LINK_GET_NEXT_ID)
}

/// The numbers of all objects of a kind, by the command that goes from one to the next.
fn numbers(next: bpf_cmd) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    let mut last = 0;
    loop {
        let mut attributes = attributes();
        attributes.__bindgen_anon_6.__bindgen_anon_1.start_id = last;
        match bpf(next, &mut attributes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            answer => answer?,
        };
        // SAFETY: the arm that was filled in above and that the command writes its answer to.
        last = unsafe { attributes.__bindgen_anon_6.next_id };
        found.push(last);
    }
}

/// `BPF_MAP_GET_NEXT_ID`: the numbers of all maps of the machine.
pub(crate) fn maps() -> io::Result<Vec<u32>> {
    numbers(bpf_cmd::BPF_MAP_GET_NEXT_ID)
}

/// `BPF_MAP_GET_FD_BY_ID`: opens a map, whoever made it; to write too, unless `read_only`.
pub(crate) fn map(id: u32, read_only: bool) -> io::Result<OwnedFd> {
    let mut attributes = attributes();
    attributes.__bindgen_anon_6.__bindgen_anon_1.map_id = id;
    attributes.__bindgen_anon_6.open_flags = if read_only { BPF_F_RDONLY } else { 0 };
    owned(bpf(bpf_cmd::BPF_MAP_GET_FD_BY_ID, &mut attributes)?)
}

/// A map's name: 16 bytes from the seventh word of `bpf_map_info` on.
pub(crate) fn map_name(map: BorrowedFd<'_>) -> io::Result<String> {
    let words = info_words::<10>(map)?;
    let bytes: Vec<u8> = words[6..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// `BPF_LINK_GET_FD_BY_ID`: opens a link, whoever made it.
pub(crate) fn link(id: u32) -> io::Result<OwnedFd> {
    let mut attributes = attributes();
    attributes.__bindgen_anon_6.__bindgen_anon_1.link_id = id;
    owned(bpf(bpf_cmd::BPF_LINK_GET_FD_BY_ID, &mut attributes)?)
}

/// `BPF_LINK_DETACH`: takes a link's program from its place, whoever holds the link (Linux 5.9).
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = attributes();
    attributes.link_detach.link_fd = raw(link);
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attributes).map(drop)
}

/// The flag of bpf(2) of that name.
const BPF_F_RDONLY: u32 = 1 << 3;

/// Programs at one hook of a cgroup at most: `BPF_CGROUP_MAX_PROGS` in kernel/bpf/cgroup.c.
const CGROUP_PROGRAMS_MAX: usize = 64;

/// `BPF_PROG_QUERY`: the numbers of the programs that are attached to a cgroup itself, in the order in which they run.
pub(crate) fn cgroup_programs(
    cgroup: BorrowedFd<'_>,
    attach_type: bpf_attach_type,
) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; CGROUP_PROGRAMS_MAX];
    let mut attributes = attributes();
    attributes.query.__bindgen_anon_1.target_fd = raw(cgroup);
    attributes.query.attach_type = attach_type as u32;
    attributes.query.prog_ids = ids.as_mut_ptr() as u64;
    attributes.query.__bindgen_anon_2.prog_cnt = ids.len().try_into().map_err(io::Error::other)?;
    bpf(bpf_cmd::BPF_PROG_QUERY, &mut attributes)?;
    // SAFETY: the arm that was filled in above and that the command writes its count to.
    ids.truncate(unsafe { attributes.query.__bindgen_anon_2.prog_cnt } as usize);
    Ok(ids)
}

/// `BPF_PROG_GET_FD_BY_ID`: opens a program, whoever loaded it.
fn program(id: u32) -> io::Result<OwnedFd> {
    let mut attributes = attributes();
    attributes.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    owned(bpf(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attributes)?)
}

/// The tag of a program: a hash of its instructions, whoever loaded it under whatever name.
pub(crate) fn program_tag(id: u32) -> io::Result<[u8; 8]> {
    let program = program(id)?;
    let words = info_words::<4>(program.as_fd())?;
    let mut tag = [0; 8];
    tag[..4].copy_from_slice(&words[2].to_ne_bytes());
    tag[4..].copy_from_slice(&words[3].to_ne_bytes());
    Ok(tag)
}

/// `BPF_ENABLE_STATS`: until the descriptor is closed, run times and counts are kept.
pub(crate) fn enable_stats() -> io::Result<OwnedFd> {
    let mut attributes = attributes();
    attributes.enable_stats.type_ = bpf_stats_type::BPF_STATS_RUN_TIME as u32;
    owned(bpf(bpf_cmd::BPF_ENABLE_STATS, &mut attributes)?)
}

/// How long and how often a program ran, as far as the kernel counted that.
pub(crate) fn program_runs(id: u32) -> io::Result<(Duration, u64)> {
    let program = program(id)?;
    // SAFETY: plain data without invalid bit patterns; pointers in it that are zero are not written through.
    let mut info: bpf_prog_info = unsafe { zeroed() };
    // SAFETY: of plain data any bytes are valid.
    unsafe { tell(program.as_fd(), &mut info) }?;
    Ok((Duration::from_nanos(info.run_time_ns), info.run_cnt))
}

/// The number of a map, program or link: what each of their infos has in its second word.
pub(crate) fn object_id(object: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(info_words::<2>(object)?[1])
}

/// The first words of what `BPF_OBJ_GET_INFO_BY_FD` tells: type and number, and of a program its tag.
fn info_words<const WORDS: usize>(object: BorrowedFd<'_>) -> io::Result<[u32; WORDS]> {
    let mut words = [0u32; WORDS];
    // SAFETY: of numbers any bytes are valid.
    unsafe { tell(object, &mut words) }?;
    Ok(words)
}

/// `BPF_OBJ_GET_INFO_BY_FD`: what the kernel tells of a map, program or link, as much of it as `info` has room for.
///
/// # Safety
/// `info` is plain data of which any bytes are valid, and each pointer in it is zero or may be written through.
unsafe fn tell<T>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attributes = attributes();
    attributes.info.bpf_fd = raw(object);
    attributes.info.info_len = size_of::<T>().try_into().map_err(io::Error::other)?;
    attributes.info.info = (&raw mut *info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attributes).map(|_zero| ())
}

/// `BPF_OBJ_PIN`: gives a map, program or link a name in a BPF file system.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = attributes();
    attributes.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attributes.__bindgen_anon_4.bpf_fd = raw(object);
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attributes).map(drop)
}

/// `BPF_OBJ_GET`: opens what is pinned.
pub(crate) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = attributes();
    attributes.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    owned(bpf(bpf_cmd::BPF_OBJ_GET, &mut attributes)?)
}

/// `BPF_MAP_CREATE` of an array of one value.
pub(crate) fn array_create(value_size: u32, inner: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let mut attributes = attributes();
    let kind = match inner {
        Some(_) => bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS,
        None => bpf_map_type::BPF_MAP_TYPE_ARRAY,
    };
    // SAFETY: the fields of the map_create arm, all plain numbers; the arm is the one that the command reads.
    let create = unsafe { &mut attributes.__bindgen_anon_1 };
    create.map_type = kind as u32;
    create.key_size = 4;
    create.value_size = value_size;
    create.max_entries = 1;
    create.inner_map_fd = inner.map_or(0, raw);
    owned(bpf(bpf_cmd::BPF_MAP_CREATE, &mut attributes)?)
}

/// The one value of a map that `array_create` made, as long as it was created.
pub(crate) fn array_get(map: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut value = vec![0; value_size(map)?];
    array_value(map, &mut value, false)?;
    Ok(value)
}

/// Writes that value.
///
/// # Errors
/// Also where the map was created for values of another size.
pub(crate) fn array_set(map: BorrowedFd<'_>, mut value: Vec<u8>) -> io::Result<()> {
    if value.len() != value_size(map)? {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the map is of another make"));
    }
    array_value(map, &mut value, true)
}

/// The size of a map's values: the fourth word of `bpf_map_info`.
fn value_size(map: BorrowedFd<'_>) -> io::Result<usize> {
    usize::try_from(info_words::<4>(map)?[3]).map_err(io::Error::other)
}

/// `value` is as long as the map's values: the kernel reads or writes that many bytes.
fn array_value(map: BorrowedFd<'_>, value: &mut [u8], write: bool) -> io::Result<()> {
    let key = 0u32;
    let mut attributes = attributes();
    // SAFETY: the fields of the map_elem arm; the pointers are to `key` and `value`, which outlive the call.
    let element = unsafe { &mut attributes.__bindgen_anon_2 };
    element.map_fd = raw(map);
    element.key = (&raw const key) as u64;
    element.__bindgen_anon_1.value = value.as_mut_ptr() as u64;
    let command = if write { bpf_cmd::BPF_MAP_UPDATE_ELEM } else { bpf_cmd::BPF_MAP_LOOKUP_ELEM };
    bpf(command, &mut attributes).map(drop)
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
        let inner = array_create(4, None)?;
        Ok(Self { outer: array_create(4, Some(inner.as_fd()))?, inner })
    }

    pub(crate) fn wait(&self) -> io::Result<()> {
        let mut value = self.inner.as_raw_fd().to_ne_bytes();
        array_value(self.outer.as_fd(), &mut value, true)
    }
}
