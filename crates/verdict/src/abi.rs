//! What crosses between the kernel programs and user space, besides the image: every type once, its size asserted.
//!
//! Change anything here and [`ABI`] must change with it: a test compares the digest of this file with the one recorded
//! beside it, and programs and maps of different numbers never mix.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::limits::ANCESTORS_MAX;

/// Version of everything in this file and of the image's format. Pinned maps of another number are not adopted.
pub const ABI: u32 = 8;

/// Slots of map `IMAGE` that images take turns in: the slot of a generation is its lower bits. Two are for the image in
/// force and the one that follows at its end, two for the next ones while they are staged.
pub const SLOTS: u32 = 4;
/// The slot behind them: what is in force in lockdown.
pub const LOCKDOWN_SLOT: u32 = SLOTS;

/// Lines of the lockdown image: 1 MiB, of which the roots of both address tables take half; enough for a failsafe set of
/// thousands of prefixes.
pub const LOCKDOWN_LINES: u32 = 16_384;

/// The one value of map `CONTROL`, mapped into user space. Each field is read once by a program and written by one
/// aligned store. The first three fields stay where they are in every ABI, so that lockdown works whoever loaded the
/// programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Control {
    /// Counts the images. The one in force is in slot `generation % SLOTS`, unless its end has come: see `until_ns`.
    pub generation: u32,
    /// `REPORT_*`
    pub report: u32,
    /// `STANCE_*`
    pub stance: u32,
    /// Zero.
    pub padding: u32,
    /// For each slot when its image ends, CLOCK_BOOTTIME nanoseconds; 0 is never. From then on the image of the following
    /// generation is in force, with nobody's help: the one before a policy that was not confirmed in time.
    pub until_ns: [u64; SLOTS as usize],
}

const _: () =
    assert!(size_of::<Control>() == 16 + 8 * SLOTS as usize, "Control has no hidden padding");

/// The image of the generation is in force.
pub const STANCE_POLICY: u32 = 0;
/// The lockdown image is in force, whatever the policy is.
pub const STANCE_LOCKDOWN: u32 = 1;

/// Report allowed flows too.
pub const REPORT_ALLOWED: u32 = 1 << 0;
/// Count every judged flow in map `FLOWS`.
pub const REPORT_FLOWS: u32 = 1 << 1;
/// `lsm/inet_conn_request` is in place: TCP that comes in and that `sk_lookup` does not reset is counted and reported
/// there, and dropped there where its rule says so.
pub const REPORT_AT_REQUEST: u32 = 1 << 2;

/// `bpf_set_retval` exists: a denied call gets the errno that its rule asks for (5.18 and later; EPERM before).
pub const FEATURE_RETVAL: u32 = 1 << 0;
/// The socket programs may ask for the current process.
pub const FEATURE_CURRENT: u32 = 1 << 1;
/// `bpf_skc_to_mptcp_sock` exists: a connection that the kernel opens for an MPTCP socket is its owner's.
pub const FEATURE_MPTCP: u32 = 1 << 2;
/// The tripwire is wanted: judged sockets are marked.
pub const FEATURE_TRIPWIRE: u32 = 1 << 3;

/// The kernel's structures lead from a task to its executable.
pub const FEATURE_EXE: u32 = 1 << 4;

/// The cgroups above a process's own can be asked for.
pub const FEATURE_ANCESTORS: u32 = 1 << 5;

/// The pointers from a task to its executable's inode, and the numbers there, as byte offsets: `task_struct.mm`,
/// `mm_struct.exe_file`, `file.f_inode`, `inode.i_ino`, `inode.i_sb`, `super_block.s_dev`, `super_block.s_magic`,
/// `inode.i_generation`.
pub const EXE_PATH: usize = 8;

/// File systems that tell a file's generation to user space (FS_IOC_GETVERSION), by the numbers of
/// include/uapi/linux/magic.h: ext2 to ext4, XFS, Btrfs, F2FS. On all others a generation counts as 0.
pub const GENERATIONS: [u64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010];

/// The number of an executable: its file's inode and generation, with the device above them as the kernel keeps it
/// (`super_block.s_dev`: 12 bits major, 20 bits minor, include/linux/kdev_t.h).
///
/// Whoever makes a file system of his own (FUSE) chooses its inode numbers freely. So the three numbers are not packed
/// but mixed one way (a block of ARX rounds with feed-forward, as in Davies-Meyer): no inode can be chosen to have the
/// number of another file.
#[inline(always)]
pub const fn exe(device: u32, inode: u64, generation: u32) -> u64 {
    let key = (device as u64) << 32 | generation as u64;
    let mut mixed = inode ^ key;
    let mut round = 0;
    while round < 4 {
        mixed = mixed.wrapping_add(key.rotate_left(16 * round)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^= mixed >> 29;
        mixed = mixed.wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^= mixed >> 32;
        round += 1;
    }
    mixed ^ inode
}

/// Whose a socket is: stamped when the socket is created, before its process holds the descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Owner {
    /// cgroup v2 id.
    pub cgroup: u64,
    /// The executable, see [`exe`]; 0 is unknown.
    pub exe: u64,
    /// Process id (thread group), in the initial pid namespace.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// User id, in the initial user namespace.
    pub uid: u32,
    /// Group id, likewise.
    pub gid: u32,
    /// Name of the thread as `/proc/PID/comm` shows it, zero padded; anyone can change it.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<Owner>() == 48, "Owner has no padding");

/// What stands on a socket (maps `OWNERS` and `OWNERS_APART`): its owner, and where the owner's cgroup is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Stamp {
    /// Whose it is.
    pub owner: Owner,
    /// Ids of the cgroups on the way from the root to the owner's, the deepest first, the root left out: its own, if it
    /// is not deeper than there is room, and those above it; 0 where the way is shorter.
    pub above: [u64; ANCESTORS_MAX],
}

const _: () = assert!(size_of::<Stamp>() == 48 + 8 * ANCESTORS_MAX, "Stamp has no padding");

/// Sockets whose stamp or claim is kept by their cookie, because the kernel refused it room on the socket itself: whoever
/// fills a socket's option memory (`net.core.optmem_max`) would otherwise be nobody. The least recently used goes first.
pub const APART_MAX: u32 = 8_192;

/// The one value of the per-CPU map `EVIDENCE`: what speaks of somebody who hides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Evidence {
    /// Stamps and claims that did not fit on their socket and are kept by cookie.
    pub refused: u64,
    /// Verdicts of an image with rules about processes, for a process that nobody knows.
    pub unknown: u64,
    /// Attempts of other programs to take away what is guarded.
    pub guarded: u64,
}

/// Key of map `LISTENERS`: a claimed local endpoint.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable,
)]
#[repr(C)]
pub struct ListenerKey {
    /// Network namespace cookie.
    pub netns: u64,
    /// Canonical address, upper half; all zero for "any address of either family".
    pub address_hi: u64,
    /// Canonical address, lower half.
    pub address_lo: u64,
    /// Local port, host byte order.
    pub port: u16,
    /// IP protocol.
    pub protocol: u8,
    /// Zero.
    pub padding: [u8; 5],
}

const _: () = assert!(size_of::<ListenerKey>() == 32, "ListenerKey has no hidden padding");

/// Value of map `LISTENERS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Listener {
    /// Cookie of the socket that claimed the endpoint last.
    pub socket: u64,
    /// Who claimed it.
    pub stamp: Stamp,
}

const _: () = assert!(size_of::<Listener>() == 8 + size_of::<Stamp>(), "Listener has no padding");

/// Key of map `EXCHANGES`: an allowed datagram between a local port and a peer, whichever way it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Exchange {
    /// Network namespace cookie.
    pub netns: u64,
    /// Canonical address of the peer, upper half.
    pub peer_hi: u64,
    /// Canonical address of the peer, lower half.
    pub peer_lo: u64,
    /// Local port, host byte order.
    pub local_port: u16,
    /// The peer's port, host byte order.
    pub peer_port: u16,
    /// Zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<Exchange>() == 32, "Exchange has no hidden padding");

/// How long a datagram counts as an answer to one that was allowed: a minute, as NAT devices keep their mappings at
/// least two (RFC 4787, 4.3) and every answer begins it anew.
pub const ANSWER_NS: u64 = 60_000_000_000;

/// Exchanges that are remembered; the least recently used one goes first.
pub const EXCHANGES_MAX: u32 = 65_536;

/// Which hook reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Hook {
    /// cgroup/connect4 and connect6
    Connect = 1,
    /// cgroup/sendmsg4 and sendmsg6
    Send = 2,
    /// cgroup/bind4 and bind6
    Bind = 3,
    /// sk_lookup
    Lookup = 4,
    /// cgroup/sock_create
    Create = 5,
    /// tp_btf/inet_sock_set_state
    Tripwire = 6,
    /// lsm/socket_listen
    Listen = 7,
    /// lsm/inet_conn_request
    Request = 8,
    /// lsm/socket_accept, on a port that is closed to every peer: nobody waits there, and nobody comes.
    Accept = 9,
    /// lsm/socket_accept, where somebody waits or may come whom the process may not take: the listener has to end, or it
    /// would try again and again.
    Jammed = 10,
}

/// Fields of the kernel's structures that the programs of the LSM tier read: indices of their offsets in `OFFSETS`, which
/// the loader sets from the running kernel's BTF.
pub mod field {
    /// `socket.sk`
    pub const SOCKET_SK: usize = 0;
    /// `sock_common.skc_family`
    pub const FAMILY: usize = 1;
    /// `sock_common.skc_num`: the local port, host byte order; of a request the port that the peer asked for.
    pub const NUM: usize = 2;
    /// `sock_common.skc_dport`: the remote port, network byte order.
    pub const DPORT: usize = 3;
    /// `sock_common.skc_daddr`: the remote IPv4 address.
    pub const DADDR: usize = 4;
    /// `sock_common.skc_rcv_saddr`: the local IPv4 address.
    pub const SADDR: usize = 5;
    /// `sock_common.skc_v6_daddr`: the remote IPv6 address.
    pub const DADDR6: usize = 6;
    /// `sock_common.skc_v6_rcv_saddr`: the local IPv6 address.
    pub const SADDR6: usize = 7;
    /// `sock_common.skc_net`: the network namespace.
    pub const NET: usize = 8;
    /// `net.net_cookie`
    pub const NET_COOKIE: usize = 9;
    /// `sock.sk_protocol`
    pub const PROTOCOL: usize = 10;
    /// `sock.sk_type`
    pub const TYPE: usize = 11;
    /// `sock.sk_ack_backlog`: connections that wait to be accepted.
    pub const BACKLOG: usize = 12;
    /// `sk_buff.cb`, in which TCP keeps a `tcp_skb_cb`.
    pub const CB: usize = 13;
    /// `tcp_skb_cb.tcp_flags`
    pub const TCP_FLAGS: usize = 14;
    /// `task_struct.nsproxy`
    pub const NSPROXY: usize = 15;
    /// `nsproxy.net_ns`
    pub const NET_NS: usize = 16;
    /// `file.f_path`
    pub const FILE_PATH: usize = 17;
    /// `path.dentry`
    pub const DENTRY: usize = 18;
    /// `dentry.d_parent`
    pub const PARENT: usize = 19;
    /// `dentry.d_inode`
    pub const INODE: usize = 20;
    /// `dentry.d_name`
    pub const NAME: usize = 21;
    /// `qstr.name`
    pub const NAME_TEXT: usize = 22;
    /// `bpf_map.id`
    pub const MAP_ID: usize = 23;
    /// `bpf_link.id`
    pub const LINK_ID: usize = 24;
    /// `task_struct.files`
    pub const FILES: usize = 25;
    /// `files_struct.fdt`
    pub const FILE_TABLE: usize = 26;
    /// `fdtable.max_fds`
    pub const FILES_MAX: usize = 27;
    /// `fdtable.fd`
    pub const FILE_ARRAY: usize = 28;
    /// `file.private_data`
    pub const PRIVATE: usize = 29;
    /// `sock_common.skc_state`
    pub const STATE: usize = 30;
    /// `sock_common.skc_cookie`: 0 before it was asked for.
    pub const COOKIE: usize = 31;
    /// How many they are.
    pub const COUNT: usize = 32;

    /// Stands for the offset of a field that this kernel does not have, or not as wide as it is read.
    pub const UNKNOWN: u32 = u32::MAX;
}

/// Network namespaces that can be named, where not all of them are judged.
pub const NAMESPACES_MAX: u32 = 65_536;

/// Key of map `GUARDED`: what no program but fwnet may take away.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable,
)]
#[repr(C)]
pub struct Guarded {
    /// `GUARDED_*`
    pub kind: u32,
    /// The device of a directory as the kernel keeps it (`super_block.s_dev`); else 0.
    pub device: u32,
    /// The number of a link or map, the inode of a directory.
    pub id: u64,
}

const _: () = assert!(size_of::<Guarded>() == 16, "Guarded has no hidden padding");

/// A link: nobody else opens it by its number, detaches it or changes its program.
pub const GUARDED_LINK: u32 = 1;
/// A map: nobody else opens it to write.
pub const GUARDED_MAP: u32 = 2;
/// A directory of pins: nobody else removes or renames what is in it.
pub const GUARDED_DIRECTORY: u32 = 3;
/// Entries of map `GUARDED`: a link for each hook in each network namespace, a few maps and directories.
pub const GUARDED_MAX: u32 = 131_072;

/// Where the program is that may do what the guard keeps from all others: in which directory, under which name. An upgrade
/// puts another file in its place, which is then the one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Keeper {
    /// The directory's inode.
    pub directory: u64,
    /// The directory's device as the kernel keeps it.
    pub device: u32,
    /// Bytes of the name; 0: nobody is kept from anything.
    pub length: u32,
    /// The name, zero padded.
    pub name: [u8; KEEPER_NAME_MAX],
}

/// Bytes of a program's name that the guard compares.
pub const KEEPER_NAME_MAX: usize = 32;

const _: () = assert!(size_of::<Keeper>() == 48, "Keeper has no hidden padding");

/// One record of the ring buffer `EVENTS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Event {
    /// CLOCK_BOOTTIME, nanoseconds.
    pub time_ns: u64,
    /// Cookie of the socket; 0 where the hook has none.
    pub socket: u64,
    /// Network namespace cookie; 0 where unknown.
    pub netns: u64,
    /// Canonical local address, upper half.
    pub local_hi: u64,
    /// Canonical local address, lower half.
    pub local_lo: u64,
    /// Canonical remote address, upper half.
    pub remote_hi: u64,
    /// Canonical remote address, lower half.
    pub remote_lo: u64,
    /// Whose socket it is; all zero where unknown.
    pub owner: Owner,
    /// The verdict's [`Cell`](crate::Cell).
    pub cell: u32,
    /// Generation of the image that judged, unless `slot` says it was the lockdown image.
    pub generation: u32,
    /// Local port, host byte order.
    pub local_port: u16,
    /// Remote port, host byte order.
    pub remote_port: u16,
    /// [`Hook`]
    pub hook: u8,
    /// [`Direction`](crate::Direction)
    pub direction: u8,
    /// IP protocol.
    pub protocol: u8,
    /// The slot of the image that judged.
    pub slot: u8,
}

const _: () = assert!(size_of::<Event>() == 120, "Event has no hidden padding");

/// Key of map `FLOWS`: what flows have in common that are counted together.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable,
)]
#[repr(C)]
pub struct FlowKey {
    /// Canonical local address of an inbound flow, upper half; zero outbound, where it takes no part in a verdict.
    pub local_hi: u64,
    /// The same, lower half.
    pub local_lo: u64,
    /// Canonical remote address, upper half.
    pub remote_hi: u64,
    /// Canonical remote address, lower half.
    pub remote_lo: u64,
    /// Network namespace cookie; 0 where unknown.
    pub netns: u64,
    /// The subject's executable, see [`exe`]; 0 is unknown.
    pub exe: u64,
    /// The subject's cgroup v2 id; 0 is unknown.
    pub cgroup: u64,
    /// The subject's user id; `u32::MAX` is unknown.
    pub uid: u32,
    /// The subject's group id; `u32::MAX` is unknown.
    pub gid: u32,
    /// The verdict's [`Cell`](crate::Cell).
    pub cell: u32,
    /// Generation of the image that judged.
    pub generation: u32,
    /// The server's port, host byte order.
    pub service_port: u16,
    /// [`Direction`](crate::Direction)
    pub direction: u8,
    /// IP protocol.
    pub protocol: u8,
    /// The slot of the image that judged, see [`Event::slot`].
    pub slot: u32,
}

const _: () = assert!(size_of::<FlowKey>() == 80, "FlowKey has no hidden padding");

/// Value of map `FLOWS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct FlowCount {
    /// Flows.
    pub count: u64,
    /// When the first was judged, CLOCK_BOOTTIME nanoseconds.
    pub first_ns: u64,
    /// When the last was judged, likewise.
    pub last_ns: u64,
    /// Process id of the first one's owner; 0 is unknown.
    pub pid: u32,
    /// Zero.
    pub padding: u32,
    /// Name of the first one's thread, zero padded.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<FlowCount>() == 48, "FlowCount has no hidden padding");

/// Kinds of flows that are counted between two readings; the least recently used one goes first, and [`Losses::flows`]
/// tells how many flows went with it. Some 3 MiB of kernel memory.
pub const FLOWS_MAX: u32 = 16_384;

/// How often a ring buffer is written to: a token bucket for each CPU, and what did not get through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Bucket {
    /// Events not sent because the token bucket was empty.
    pub limited: u64,
    /// Events not sent because the ring buffer was full.
    pub overrun: u64,
    /// Tokens left, in nanoseconds of refill time.
    pub credit_ns: u64,
    /// When the bucket was last looked at, CLOCK_BOOTTIME nanoseconds.
    pub looked_ns: u64,
    /// When whoever waits for events was last woken, by the same clock.
    pub woken_ns: u64,
}

/// The one value of the per-CPU map `LOSSES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Losses {
    /// Of ring buffer `EVENTS`.
    pub events: Bucket,
    /// Of ring buffer `TAMPER`.
    pub tamper: Bucket,
    /// Flows that went into `FLOWS`: what is read from there in all is less by what was lost there.
    pub flows: u64,
}

/// Cost of one event in the token bucket: 1 ms / 10, so each CPU may report 10,000 events a second...
pub const EVENT_COST_NS: u64 = 100_000;
/// ...after a burst of this many.
pub const EVENT_BURST: u64 = 4_096;

/// For how long an event wakes nobody after one that did, on the same CPU: to wake somebody costs the process that
/// connects more than everything else. Whoever found events looks again after this time, until there are none.
pub const WAKE_NS: u64 = 10_000_000;

/// Size of ring buffer `TAMPER` in bytes: some 500 events.
pub const TAMPER_BYTES: u32 = 1 << 16;
/// Cost of one event in the bucket of `TAMPER`: 1,000 a second and CPU...
pub const TAMPER_COST_NS: u64 = 1_000_000;
/// ...after a burst of this many.
pub const TAMPER_BURST: u64 = 256;
