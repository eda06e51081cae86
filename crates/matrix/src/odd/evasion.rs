//! What another root process can try against the programs, and what any process can try against its own socket.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use aya::Ebpf;
use aya::programs::{CgroupAttachMode, CgroupSockAddr};
use kernel::raw::option::fill_option_memory;
use kernel::raw::tamper;
use rustix::net::{AddressFamily, SocketType, socket};

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

/// What another program tries.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Tampering {
    /// Detaches the links of connect4 from a cgroup
    Detach {
        /// The cgroup
        cgroup: PathBuf,
    },
    /// Opens the table that says which rules are in force, to write
    OpenMap,
    /// Removes a pin
    RemovePin {
        /// The pin
        path: PathBuf,
    },
    /// Gives a pin another name in its directory
    RenamePin {
        /// The pin
        path: PathBuf,
    },
}

/// Tries it, and prints what came of it.
pub(crate) fn tamper(what: &Tampering) -> Result<ExitCode> {
    let (outcome, step) = match what {
        Tampering::Detach { cgroup } => {
            let cgroup = File::open(cgroup).context("open the cgroup")?;
            (tamper::detach(cgroup.as_fd(), HOOK), "detach")
        }
        Tampering::OpenMap => (tamper::open_map("CONTROL"), "open"),
        Tampering::RemovePin { path } => (std::fs::remove_file(path), "unlink"),
        Tampering::RenamePin { path } => {
            (std::fs::rename(path, path.with_file_name("renamed")), "rename")
        }
    };
    crate::say(&match outcome {
        Ok(()) => "done".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => format!("ENOENT at {step}"),
        Err(error) => refused(&error, step),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Has another program try it: a copy of this one, for to this one a guard would let it.
fn by_another(arguments: &[&OsStr]) -> Result<String> {
    let own = std::env::current_exe().context("find this program")?;
    let copy = std::env::temp_dir().join(format!("not-matrix-{}", std::process::id()));
    std::fs::copy(own, &copy).context("copy this program")?;
    let output = Command::new(&copy).arg("tamper").args(arguments).output();
    std::fs::remove_file(&copy).context("remove the copy")?;
    let output = output.context("start the copy")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

pub(super) fn detach(stage: &mut Stage) -> Result<Played> {
    let done = by_another(&["detach".as_ref(), stage.cgroup().as_os_str()])?;
    let Played { local, peer } = connect(stage)?;
    Ok(match done.as_str() {
        "done" => Played::new(local, peer),
        refused => Played::new(format!("{refused}, then {local}"), peer),
    })
}

pub(super) fn open_map(_stage: &mut Stage) -> Result<Played> {
    let done = by_another(&["open-map".as_ref()])?;
    Ok(Played::new(if done == "done" { "opened".to_owned() } else { done }, "-"))
}

/// Of a table that no program looks into.
pub(super) fn remove_pin(stage: &mut Stage) -> Result<Played> {
    pin(stage, "remove-pin", "FLOWS_TAKEN", "removed")
}

/// Of one that only counts.
pub(super) fn rename_pin(stage: &mut Stage) -> Result<Played> {
    pin(stage, "rename-pin", "EVIDENCE", "renamed")
}

fn pin(stage: &Stage, verb: &str, map: &str, done: &str) -> Result<Played> {
    let pin = stage.pin(map).context("find a pin")?;
    let told = by_another(&[verb.as_ref(), pin.as_os_str()])?;
    let local = match (told.as_str(), pin.exists()) {
        ("done", false) => done.to_owned(),
        ("done", true) => bail!("{} is still there", pin.display()),
        (refused, _) => refused.to_owned(),
    };
    Ok(Played::new(local, "-"))
}

fn connect(stage: &mut Stage) -> Result<Played> {
    let connected = TcpStream::connect_timeout(&stage.target(), stage.patience());
    let local = match &connected {
        Ok(_) => "connected".to_owned(),
        Err(error) => refused(error, "connect"),
    };
    Ok(Played::new(local, stage.peer_saw(connected.is_ok())?))
}
