//! Sockets of another cgroup, and processes in namespaces of their own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use doors::Protocol;
use rustix::net::getsockname;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::{Played, refused};
use crate::stage::Stage;

/// A port in namespaces where nobody else is.
const PORT: u16 = 10_000;

/// The descriptor with that number in the peer, by pidfd_getfd(2): the same socket, as by inheritance or `SCM_RIGHTS`.
fn take(stage: &mut Stage, what: &str) -> Result<Result<OwnedFd, Played>> {
    let (process, number) = match stage.peer_lends(what)? {
        Ok(lent) => lent,
        Err(refused) => return Ok(Err(Played::new("-", refused))),
    };
    let process = Pid::from_raw(process).context("a process has a number")?;
    let process = pidfd_open(process, PidfdFlags::empty()).context("open the peer")?;
    pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).map(Ok).context("take its socket")
}

pub(super) fn connect(stage: &mut Stage) -> Result<Played> {
    let socket = match take(stage, "socket")? {
        Ok(socket) => socket,
        Err(played) => return Ok(played),
    };
    let connected = rustix::net::connect(&socket, &stage.target());
    let local = match &connected {
        Ok(()) => "connected".to_owned(),
        Err(errno) => refused(&(*errno).into(), "connect"),
    };
    Ok(Played::new(local, stage.peer_saw(connected.is_ok())?))
}

pub(super) fn accept(stage: &mut Stage) -> Result<Played> {
    let listener = match take(stage, "listener")? {
        Ok(listener) => listener,
        Err(played) => return Ok(played),
    };
    let address: SocketAddr = getsockname(&listener).context("ask for an address")?.try_into()?;
    let peer = stage.peer_reaches(Protocol::Tcp, address)?;
    Ok(Played::new(stage.accepts(&listener, peer == "connected")?, peer))
}

/// In a user and a network namespace of their own, in the same cgroup: a listener, and a connect to it.
pub(super) fn connect_in_namespaces(stage: &mut Stage) -> Result<Played> {
    let own = std::env::current_exe().context("find this program")?;
    let limit = stage.patience().as_millis().to_string();
    let output = Command::new("unshare")
        .args(["-U", "-r", "-n", "sh", "-c", "ip link set lo up && exec \"$0\" alone \"$1\""])
        .arg(own)
        .arg(&limit)
        .output()
        .context("start unshare")?;
    let told = String::from_utf8_lossy(&output.stdout);
    match told.trim().split_once('|') {
        Some((local, peer)) => Ok(Played::new(local, peer)),
        None => bail!("in namespaces of its own: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// What is done there.
pub(crate) fn alone(patience: Duration) -> Result<ExitCode> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT));
    let said = match listener {
        Err(error) => format!("{}|-", refused(&error, "bind")),
        Ok(listener) => {
            let address = listener.local_addr().context("ask for an address")?;
            match TcpStream::connect_timeout(&address, patience) {
                Ok(_) => "connected|connection".to_owned(),
                Err(error) => format!("{}|nothing", refused(&error, "connect")),
            }
        }
    };
    crate::say(&said)?;
    Ok(ExitCode::SUCCESS)
}
