//! What this kernel offers the programs beyond the least: found out by loading, never by version.

use verdict::abi::{FEATURE_CURRENT, FEATURE_MPTCP, FEATURE_RETVAL};

use crate::{
    attach::{AttachError, load},
    hook::Hook,
    object::{Numbers, ObjectError, open},
};

/// The optional features of the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features(pub(crate) u32);

const ALL: [(u32, &str); 3] = [
    (FEATURE_RETVAL, "errno of a denied call can be chosen"),
    (FEATURE_CURRENT, "the running task can be asked for"),
    (FEATURE_MPTCP, "extra MPTCP subflows are attributed to their owner"),
];

impl Features {
    /// Each feature and whether the kernel has it.
    pub fn list(self) -> impl Iterator<Item = (&'static str, bool)> {
        ALL.into_iter().map(move |(feature, name)| (name, self.0 & feature != 0))
    }

    /// Loads the connect program with all features, and where that fails with one at a time.
    pub(crate) fn probe() -> Result<Self, ObjectError> {
        let all = ALL.into_iter().fold(0, |all, (feature, _)| all | feature);
        if Self::loads(all)?.is_ok() {
            return Ok(Self(all));
        }
        let mut found = 0;
        for (feature, _) in ALL {
            if Self::loads(feature)?.is_ok() {
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
