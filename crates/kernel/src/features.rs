//! What this kernel offers the programs beyond the least: found out by loading, never by version.

use verdict::abi::{
    EXE_PATH, FEATURE_ANCESTORS, FEATURE_CURRENT, FEATURE_EXE, FEATURE_MPTCP, FEATURE_RETVAL,
};

use crate::{
    attach::{AttachError, load},
    btf::Btf,
    hook::Hook,
    object::{Numbers, ObjectError, open},
};

/// The optional features of the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features(pub(crate) u32);

const ALL: [(u32, &str); 5] = [
    (FEATURE_RETVAL, "errno of a denied call can be chosen"),
    (FEATURE_CURRENT, "the running task can be asked for"),
    (FEATURE_ANCESTORS, "rules about a unit or container hold for the cgroups below it"),
    (FEATURE_EXE, "the executable of a process is known"),
    (FEATURE_MPTCP, "extra MPTCP subflows are attributed to their owner"),
];

impl Features {
    /// Each feature and whether the kernel has it.
    pub fn list(self) -> impl Iterator<Item = (&'static str, bool)> {
        ALL.into_iter().map(move |(feature, name)| (name, self.0 & feature != 0))
    }

    /// Loads the connect program with all features, and where that fails with one at a time.
    pub(crate) fn probe() -> Result<Self, ObjectError> {
        let known = if exe_offsets().is_some() { u32::MAX } else { !FEATURE_EXE };
        let all = known & ALL.into_iter().fold(0, |all, (feature, _)| all | feature);
        if Self::loads(all)?.is_ok() {
            return Ok(Self(all));
        }
        let mut found = 0;
        for (feature, _) in ALL.into_iter().filter(|(feature, _)| feature & known != 0) {
            // What is told of the running task needs that there is one.
            if Self::loads(feature | found & FEATURE_CURRENT)?.is_ok() {
                found |= feature;
            }
        }
        Ok(Self(found))
    }

    fn loads(features: u32) -> Result<Result<(), AttachError>, ObjectError> {
        let mut object = open(&Numbers::probing(features), None)?;
        let connect = Hook::ALL
            .iter()
            .find(|hook| hook.program == "connect4")
            .expect("the table has the connect hook");
        Ok(load(&mut object, connect).map(drop))
    }
}

/// The way from a task to its executable in the running kernel; `None` where its BTF does not tell it, or the fields
/// are not as wide as the programs read them.
pub(crate) fn exe_offsets() -> Option<[u32; EXE_PATH]> {
    let btf = Btf::running().ok()?;
    let field = |structure, name, size| {
        btf.field(structure, name).filter(|field| field.size == size).map(|field| field.offset)
    };
    Some([
        field("task_struct", "mm", 8)?,
        field("mm_struct", "exe_file", 8)?,
        field("file", "f_inode", 8)?,
        field("inode", "i_ino", 8)?,
        field("inode", "i_sb", 8)?,
        field("super_block", "s_dev", 4)?,
        field("super_block", "s_magic", 8)?,
        field("inode", "i_generation", 4)?,
    ])
}
