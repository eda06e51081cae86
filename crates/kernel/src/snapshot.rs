//! Which BPF programs, links and maps the kernel holds: to compare before and after.

use std::collections::BTreeMap;

use aya::{
    maps::loaded_maps,
    programs::{loaded_links, loaded_programs},
};

/// The programs, links and maps of the whole machine at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Program names by id.
    pub programs: BTreeMap<u32, String>,
    /// Ids of the programs that links attach, by link id.
    pub links: BTreeMap<u32, u32>,
    /// Map names by id.
    pub maps: BTreeMap<u32, String>,
}

/// Reads them. What ends while we look is left out.
pub fn snapshot() -> Snapshot {
    Snapshot {
        programs: loaded_programs()
            .flatten()
            .map(|program| (program.id(), program.name_as_str().unwrap_or_default().to_owned()))
            .collect(),
        links: loaded_links().flatten().map(|link| (link.id(), link.program_id())).collect(),
        maps: loaded_maps()
            .flatten()
            .map(|map| (map.id(), map.name_as_str().unwrap_or_default().to_owned()))
            .collect(),
    }
}
