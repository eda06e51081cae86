//! What this kernel offers the programs beyond the least: found out by loading, never by version.

use verdict::abi::{
    FEATURE_ANCESTORS, FEATURE_CURRENT, FEATURE_EXE, FEATURE_MPTCP, FEATURE_RETVAL,
};

use crate::{
    attach::AttachError,
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

/// Beside the features that programs look at: the object is loaded as older kernels take it ([`crate::functions`]).
pub(crate) const LOCAL: u32 = 1 << 31;

impl Features {
    /// Each feature and whether the kernel has it.
    pub fn list(self) -> impl Iterator<Item = (&'static str, bool)> {
        ALL.into_iter().map(move |(feature, name)| (name, self.0 & feature != 0))
    }

    /// Loads the connect program with all features, and where that fails with one at a time.
    pub(crate) fn probe(exe_is_known: bool) -> Result<Self, ObjectError> {
        let known = if exe_is_known { u32::MAX } else { !FEATURE_EXE };
        let all = known & ALL.into_iter().fold(0, |all, (feature, _)| all | feature);
        if Self::loads(all)?.is_ok() {
            return Ok(Self(all));
        }
        let mut found = 0;
        if Self::loads(0)?.is_err() && Self::loads(LOCAL)?.is_ok() {
            found = LOCAL;
        }
        for (feature, _) in ALL.into_iter().filter(|(feature, _)| feature & known != 0) {
            // What is told of the running task needs that there is one.
            if Self::loads(feature | found & (FEATURE_CURRENT | LOCAL))?.is_ok() {
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
        Ok(object.load(connect).map(drop))
    }
}
