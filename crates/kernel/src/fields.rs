//! Which fields of the kernel's structures programs of the LSM tier and the tripwire read, and those that look for the owner
//! of an MPTCP subflow, and where the running kernel has them.
//!
//! A field that is missing, or not as wide as it is read, is an offset that nobody knows: a program of the LSM tier
//! that reads it is not loaded, and the others do without. No offset is ever guessed.

use verdict::abi::{
    EXE_PATH,
    field::{self, UNKNOWN},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::btf::Btf;

/// A field that a program reads.
#[derive(Debug)]
pub struct Wanted {
    /// Index of its offset in what the programs are loaded with.
    number: usize,
    /// The structure.
    pub structure: &'static str,
    /// Its member.
    pub name: &'static str,
    /// How wide it is, in bytes: any of these.
    pub sizes: &'static [u32],
}

const fn wanted(
    number: usize,
    structure: &'static str,
    name: &'static str,
    sizes: &'static [u32],
) -> Wanted {
    Wanted { number, structure, name, sizes }
}

/// All of them, in the order of their numbers.
const ALL: [Wanted; field::COUNT] = [
    wanted(field::SOCKET_SK, "socket", "sk", &[8]),
    wanted(field::FAMILY, "sock_common", "skc_family", &[2]),
    wanted(field::NUM, "sock_common", "skc_num", &[2]),
    wanted(field::DPORT, "sock_common", "skc_dport", &[2]),
    wanted(field::DADDR, "sock_common", "skc_daddr", &[4]),
    wanted(field::SADDR, "sock_common", "skc_rcv_saddr", &[4]),
    wanted(field::DADDR6, "sock_common", "skc_v6_daddr", &[16]),
    wanted(field::SADDR6, "sock_common", "skc_v6_rcv_saddr", &[16]),
    wanted(field::NET, "sock_common", "skc_net", &[8]),
    wanted(field::NET_COOKIE, "net", "net_cookie", &[8]),
    // Until Linux 5.6 these two were bit fields of one word.
    wanted(field::PROTOCOL, "sock", "sk_protocol", &[2]),
    wanted(field::TYPE, "sock", "sk_type", &[2]),
    wanted(field::BACKLOG, "sock", "sk_ack_backlog", &[4]),
    wanted(field::CB, "sk_buff", "cb", &[48]),
    // The flags that are looked at are in the first byte of either.
    wanted(field::TCP_FLAGS, "tcp_skb_cb", "tcp_flags", &[1, 2]),
    wanted(field::NSPROXY, "task_struct", "nsproxy", &[8]),
    wanted(field::NET_NS, "nsproxy", "net_ns", &[8]),
    wanted(field::FILE_PATH, "file", "f_path", &[16]),
    wanted(field::DENTRY, "path", "dentry", &[8]),
    wanted(field::PARENT, "dentry", "d_parent", &[8]),
    wanted(field::INODE, "dentry", "d_inode", &[8]),
    wanted(field::NAME, "dentry", "d_name", &[16]),
    wanted(field::NAME_TEXT, "qstr", "name", &[8]),
    wanted(field::MAP_ID, "bpf_map", "id", &[4]),
    wanted(field::LINK_ID, "bpf_link", "id", &[4]),
    wanted(field::FILES, "task_struct", "files", &[8]),
    wanted(field::FILE_TABLE, "files_struct", "fdt", &[8]),
    wanted(field::FILES_MAX, "fdtable", "max_fds", &[4]),
    wanted(field::FILE_ARRAY, "fdtable", "fd", &[8]),
    wanted(field::PRIVATE, "file", "private_data", &[8]),
    wanted(field::STATE, "sock_common", "skc_state", &[1]),
    wanted(field::COOKIE, "sock_common", "skc_cookie", &[8]),
];

/// This end of a socket or of what is asked of one, and its network namespace.
const HERE: &[usize] =
    &[field::FAMILY, field::NUM, field::SADDR, field::SADDR6, field::NET, field::NET_COOKIE];
/// The other end.
const THERE: &[usize] = &[field::DPORT, field::DADDR, field::DADDR6];
/// Which socket a hook is given, and what goes over the wire for it.
const MADE: &[usize] = &[field::SOCKET_SK, field::PROTOCOL, field::TYPE];

/// What a program reads of a socket that a hook is given.
pub(crate) const SOCKET: &[&[usize]] = &[HERE, THERE, MADE];
/// And of a listener.
pub(crate) const LISTENER: &[&[usize]] = &[HERE, MADE, &[field::BACKLOG, field::STATE]];
/// Of a connection that is asked for.
pub(crate) const REQUEST: &[&[usize]] = &[HERE, THERE, &[field::CB, field::TCP_FLAGS]];
/// Of the running task's network namespace.
pub(crate) const TASK: &[&[usize]] = &[&[field::NSPROXY, field::NET_NS, field::NET_COOKIE]];

/// What tells which program a task runs.
const PROGRAM: &[usize] =
    &[field::FILE_PATH, field::DENTRY, field::PARENT, field::INODE, field::NAME, field::NAME_TEXT];
/// For the guard of links.
pub(crate) const LINKS: &[&[usize]] = &[
    PROGRAM,
    &[
        field::LINK_ID,
        field::FILES,
        field::FILE_TABLE,
        field::FILES_MAX,
        field::FILE_ARRAY,
        field::PRIVATE,
    ],
];
/// For that of maps.
pub(crate) const MAPS: &[&[usize]] = &[PROGRAM, &[field::MAP_ID]];
/// For that of pins.
pub(crate) const PINS: &[&[usize]] = &[PROGRAM];

/// Structures that others begin with, which a pointer is therefore one to: at offset 0, or nothing can be read.
const BEGINNINGS: [(&str, &str); 2] = [("sock", "__sk_common"), ("request_sock", "__req_common")];

/// The fields as one kernel has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
pub struct Fields([u32; field::COUNT]);

impl Fields {
    /// Nothing is known.
    pub(crate) const NONE: Self = Self([UNKNOWN; field::COUNT]);

    /// Of the running kernel; of one without BTF none is known.
    #[must_use]
    pub fn running() -> Self {
        Btf::running().map_or(Self::NONE, |btf| Self::of(&btf))
    }

    /// As `btf` tells.
    #[must_use]
    pub fn of(btf: &Btf) -> Self {
        let first = |&(structure, name): &(&str, &str)| {
            btf.field(structure, name).is_some_and(|field| field.offset == 0)
        };
        if !BEGINNINGS.iter().all(first) {
            return Self::NONE;
        }
        Self(ALL.each_ref().map(|wanted| {
            btf.field(wanted.structure, wanted.name)
                .filter(|field| wanted.sizes.contains(&field.size))
                .map_or(UNKNOWN, |field| field.offset)
        }))
    }

    /// Each field and its offset in bytes; `None` where it is not there or of another size.
    pub fn list(&self) -> impl Iterator<Item = (&'static Wanted, Option<u32>)> {
        ALL.iter().map(|wanted| (wanted, Some(self.0[wanted.number]).filter(|at| *at != UNKNOWN)))
    }

    /// The first of these that is not known.
    pub(crate) fn missing(&self, numbers: &[&[usize]]) -> Option<&'static Wanted> {
        numbers
            .iter()
            .copied()
            .flatten()
            .find(|&&number| self.0[number] == UNKNOWN)
            .map(|&number| &ALL[number])
    }

    /// As the programs are loaded with them. Where one is not known no program that reads it is loaded.
    pub(crate) fn offsets(&self) -> &[u32] {
        &self.0
    }
}

/// The way from a task to its executable, see [`EXE_PATH`], in the order of its steps.
const EXECUTABLE: [Wanted; EXE_PATH] = [
    wanted(0, "task_struct", "mm", &[8]),
    wanted(1, "mm_struct", "exe_file", &[8]),
    wanted(2, "file", "f_inode", &[8]),
    wanted(3, "inode", "i_ino", &[8]),
    wanted(4, "inode", "i_sb", &[8]),
    wanted(5, "super_block", "s_dev", &[4]),
    wanted(6, "super_block", "s_magic", &[8]),
    wanted(7, "inode", "i_generation", &[4]),
];

/// That way in the running kernel; `None` where its BTF does not tell it, or the fields are not as wide as the programs read
/// them.
pub(crate) fn exe_offsets(btf: &Btf) -> Option<[u32; EXE_PATH]> {
    let mut offsets = [UNKNOWN; EXE_PATH];
    for wanted in &EXECUTABLE {
        let field = btf.field(wanted.structure, wanted.name);
        offsets[wanted.number] = field.filter(|it| wanted.sizes.contains(&it.size))?.offset;
    }
    Some(offsets)
}

/// Each field on the way to a task's executable and its offset in bytes, where the whole way is known.
pub(crate) fn executable(
    offsets: Option<[u32; EXE_PATH]>,
) -> impl Iterator<Item = (&'static Wanted, Option<u32>)> {
    EXECUTABLE.iter().map(move |wanted| (wanted, offsets.map(|it| it[wanted.number])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_the_order_of_its_numbers() {
        for (at, wanted) in ALL.iter().enumerate().chain(EXECUTABLE.iter().enumerate()) {
            assert_eq!(wanted.number, at, "{}.{}", wanted.structure, wanted.name);
        }
    }

    /// A kernel with the beginnings of its sockets and two fields, of which one is as wide as `family` says; the other
    /// structure begins with a socket only where `begins` says so.
    fn kernel(family: u32, begins: u32) -> Fields {
        use crate::btf::made::{btf, info};
        // At 1 `sock`, 6 `__sk_common`, 18 `request_sock`, 31 `__req_common`, 44 `sock_common`, 56 `skc_family`,
        // 67 `skc_num`.
        let strings =
            "\0sock\0__sk_common\0request_sock\0__req_common\0sock_common\0skc_family\0skc_num\0";
        let types: &[&[u32]] = &[
            &[0, info(1, 0), 2, 16],
            &[0, info(1, 0), family, 8 * family],
            &[44, info(4, 2), 16, 56, 2, 64, 67, 1, 0],
            &[1, info(4, 1), 16, 6, 3, 0],
            &[18, info(4, 1), 32, 31, 3, begins],
        ];
        Fields::of(&Btf::parse(btf(types, strings)).expect("well made"))
    }

    #[test]
    fn what_is_missing_or_of_another_size_is_named_and_nothing_is_guessed() {
        let known = |fields: &Fields| -> Vec<_> {
            fields.list().filter_map(|(wanted, at)| Some((wanted.name, at?))).collect()
        };
        let fields = kernel(2, 0);
        assert_eq!(known(&fields), [("skc_family", 8), ("skc_num", 0)]);
        assert!(fields.missing(&[&[field::FAMILY], &[field::NUM]]).is_none());
        let missing = fields.missing(&[&[field::FAMILY], &[field::NUM, field::DPORT]]);
        assert_eq!(
            missing.map(|wanted| (wanted.structure, wanted.name)),
            Some(("sock_common", "skc_dport"))
        );

        let wider = kernel(4, 0);
        assert_eq!(known(&wider), [("skc_num", 0)]);
        assert_eq!(wider.missing(&[&[field::FAMILY]]).map(|wanted| wanted.sizes), Some(&[2][..]));

        let elsewhere = kernel(2, 64);
        assert_eq!(known(&elsewhere), [], "a request does not begin as a socket does");
    }

    #[test]
    fn every_hook_of_the_tier_says_what_it_reads() {
        for hook in crate::Hook::ALL {
            let Some(lsm) = &hook.lsm else { continue };
            let missing = Fields::NONE.missing(lsm.fields);
            assert!(
                missing.is_some(),
                "{} would be loaded on a kernel that tells nothing",
                hook.name
            );
        }
    }

    #[test]
    fn the_running_kernel_has_them_all() {
        let fields = Fields::running();
        for (wanted, offset) in fields.list() {
            assert!(offset.is_some(), "{}.{}", wanted.structure, wanted.name);
        }
        let every: Vec<usize> = (0..field::COUNT).collect();
        assert!(fields.missing(&[&every]).is_none());
    }
}
