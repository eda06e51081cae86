//! What another root process can try against the programs, and what any process can try against its own socket.

use std::fs::File;
use std::net::TcpStream;
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::{CgroupAttachMode, CgroupSockAddr};
use kernel::raw::option::fill_option_memory;
use kernel::raw::tamper;
use rustix::net::{AddressFamily, SocketType, socket};
use std::os::fd::AsFd as _;

use super::{Played, refused};
use crate::stage::Stage;

/// `r1 = 0; call bpf_set_retval; r0 = 1; exit`, 8 bytes each (the kernel's
/// Documentation/bpf/standardization/instruction-set.rst); the helper has the number 187.
const OVERRULING: [u8; 32] = [
    0xb7, 1, 0, 0, 0, 0, 0, 0, //
    0x85, 0, 0, 0, 187, 0, 0, 0, //
    0xb7, 0, 0, 0, 1, 0, 0, 0, //
    0x95, 0, 0, 0, 0, 0, 0, 0,
];
const NAME: &str = "overruling";
const HOOK: &str = "cgroup/connect4";

pub(super) fn connect_full(stage: &mut Stage) -> Result<Played> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).context("make a socket")?;
    fill_option_memory(socket.as_fd()).context("fill the socket's memory for options")?;
    let connected = rustix::net::connect(&socket, &stage.target());
    let local = match &connected {
        Ok(()) => "connected".to_owned(),
        Err(errno) => refused(&(*errno).into(), "connect"),
    };
    Ok(Played::new(local, stage.peer_saw(connected.is_ok())?))
}

/// On a cgroup of its own below, where this process goes for the attempt.
pub(super) fn overrule_below(stage: &mut Stage) -> Result<Played> {
    let below = stage.cgroup().join("below");
    std::fs::create_dir(&below).context("make a cgroup")?;
    let played = overruling(&below).and_then(|program| {
        let Some(_program) = program else {
            return Ok(Played::new(ABSENT, "nothing"));
        };
        std::fs::write(below.join("cgroup.procs"), "0").context("enter a cgroup")?;
        let played = connect(stage);
        std::fs::write(stage.cgroup().join("cgroup.procs"), "0").context("leave a cgroup")?;
        played
    });
    std::fs::remove_dir(&below).context("remove a cgroup")?;
    played
}

pub(super) fn overrule(stage: &mut Stage) -> Result<Played> {
    match overruling(stage.cgroup())? {
        Some(_program) => connect(stage),
        None => Ok(Played::new(ABSENT, "nothing")),
    }
}

const ABSENT: &str = "not offered: no bpf_set_retval (Linux 5.18)";

/// Such a program on a cgroup, until the value ends; `None` where the kernel has no such helper, or somebody guards it.
fn overruling(cgroup: &Path) -> Result<Option<Ebpf>> {
    let mut object = Ebpf::load(&testbed::bpf_object(HOOK, NAME, &OVERRULING))
        .context("open the overruling program")?;
    let program = object.program_mut(NAME).context("find the overruling program")?;
    let program: &mut CgroupSockAddr = program.try_into().context("its type")?;
    if program.load().is_err() {
        return Ok(None);
    }
    let cgroup = File::open(cgroup).context("open the cgroup")?;
    // By a link, which goes beside what others attached whatever the mode says.
    program.attach(cgroup, CgroupAttachMode::Single).context("attach it")?;
    Ok(Some(object))
}

pub(super) fn detach(stage: &mut Stage) -> Result<Played> {
    let cgroup = File::open(stage.cgroup()).context("open the cgroup")?;
    match tamper::detach(cgroup.as_fd(), HOOK) {
        Ok(()) => connect(stage),
        Err(error) => {
            let Played { local, peer } = connect(stage)?;
            Ok(Played::new(format!("{}, then {local}", refused(&error, "detach")), peer))
        }
    }
}

fn connect(stage: &mut Stage) -> Result<Played> {
    let connected = TcpStream::connect_timeout(&stage.target(), stage.patience());
    let local = match &connected {
        Ok(_) => "connected".to_owned(),
        Err(error) => refused(error, "connect"),
    };
    Ok(Played::new(local, stage.peer_saw(connected.is_ok())?))
}
