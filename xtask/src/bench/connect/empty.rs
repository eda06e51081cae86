//! The cheapest program there can be, as a floor: `r0 = 1; exit` at cgroup/connect4, which allows and does nothing else.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::{CgroupAttachMode, CgroupSockAddr};
use std::fs::File;
use std::path::Path;

/// Two instructions of 8 bytes (the kernel's Documentation/bpf/standardization/instruction-set.rst): 0xb7 puts the
/// immediate 1 into register 0, 0x95 ends the program.
const CODE: [u8; 16] = [0xb7, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
const NAME: &str = "empty";

/// Attaches it to a cgroup, until the returned object ends; with the kernel's id of the program.
pub(super) fn attach(cgroup: &Path) -> Result<(Ebpf, u32)> {
    let mut loaded = Ebpf::load(&testbed::bpf_object("cgroup/connect4", NAME, &CODE))
        .context("load the empty program")?;
    let program = loaded.program_mut(NAME).context("find the empty program")?;
    let program: &mut CgroupSockAddr = program.try_into().context("its type")?;
    program.load().context("load the empty program")?;
    let cgroup = File::open(cgroup).context("open the cgroup")?;
    // By a link, which goes beside what others attached, as always with links; a mode is for the older way.
    program.attach(cgroup, CgroupAttachMode::Single).context("attach the empty program")?;
    let id = program.info().context("ask for the empty program's id")?.id();
    Ok((loaded, id))
}
