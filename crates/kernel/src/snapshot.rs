//! Which BPF programs and links the kernel holds: to compare before and after.

use std::collections::BTreeMap;

use aya::programs::{loaded_links, loaded_programs};

/// The programs and links of the whole machine at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Program names by id.
    pub programs: BTreeMap<u32, String>,
    /// Ids of the programs that links attach, by link id.
    pub links: BTreeMap<u32, u32>,
}

/// Reads them. Programs or links that end while we look are left out.
pub fn snapshot() -> Snapshot {
    Snapshot {
        programs: loaded_programs()
            .flatten()
            .map(|program| (program.id(), program.name_as_str().unwrap_or_default().to_owned()))
            .collect(),
        links: loaded_links().flatten().map(|link| (link.id(), link.program_id())).collect(),
    }
}
