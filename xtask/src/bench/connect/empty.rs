//! The cheapest program there can be, as a floor: `r0 = 1; exit` at cgroup/connect4, which allows and does nothing else.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::{CgroupAttachMode, CgroupSockAddr};
use std::fs::File;
use std::path::Path;

/// Two instructions of 8 bytes (the kernel's Documentation/bpf/standardization/instruction-set.rst): 0xb7 puts the
/// immediate 1 into register 0, 0x95 ends the program.
const CODE: [u8; 16] = [0xb7, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
pub(super) const NAME: &str = "empty";

/// Attaches it to a cgroup, as [`attach_code`] does.
pub(super) fn attach(cgroup: &Path) -> Result<(Ebpf, u32)> {
    attach_code(cgroup, NAME, &CODE).context("the empty program")
}

/// Attaches the program `name` at cgroup/connect4 to a cgroup, until the returned object ends; with the kernel's id of the
/// program.
pub(super) fn attach_code(cgroup: &Path, name: &str, code: &[u8]) -> Result<(Ebpf, u32)> {
    let mut loaded = Ebpf::load(&testbed::bpf_object("cgroup/connect4", name, code))
        .context("read the program")?;
    let program = loaded.program_mut(name).context("find the program")?;
    let program: &mut CgroupSockAddr = program.try_into().context("its type")?;
    program.load().context("load the program")?;
    let cgroup = File::open(cgroup).context("open the cgroup")?;
    // By a link, which goes beside what others attached, as always with links; a mode is for the older way.
    program.attach(cgroup, CgroupAttachMode::Single).context("attach the program")?;
    let id = program.info().context("ask for the program's id")?.id();
    Ok((loaded, id))
}
