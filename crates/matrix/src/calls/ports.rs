//! Ports that are special: the one that the kernel chooses, the last one, those of privileged programs, and those that are a
//! port of a rule with its bytes changed round. (The tests `bind_connect_zero`, `bind_connect_1023`, `tcp_port_overflow` and
//! `port_endianness`.)

use std::net::SocketAddr;
use std::{fs, io, thread};

use anyhow::{Context as _, Result};
use rustix::net::getsockname;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use verdict::Direction;

use super::kind::{accept, bind, connect, listen, reset};
use super::{Force, Play, Zone, ends};

/// Where the kernel chooses from.
const CHOSEN: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Where it chooses from else: none of these is a port that a case names.
const UNNAMED_PORTS: &str = "50000 60999";
/// In a zone where nothing may go, behind what the other cases use.
const CHOSEN_PORTS: &str = "20280 20299";

/// Keeps the kernel's choice, in this network namespace, off the ports that cases name.
pub(super) fn set_aside() -> Result<()> {
    fs::write(CHOSEN, UNNAMED_PORTS).context(CHOSEN)
}

/// A port of the kernel's choice is judged like any other, as soon as it is one.
pub(super) fn ask_of_zero(play: &mut Play<'_>) -> Result<()> {
    let kind = play.kind;
    if kind.carries.is_none() {
        return Ok(());
    }
    let server = play.socket()?;
    fs::write(CHOSEN, CHOSEN_PORTS).context(CHOSEN)?;
    let bound = bind(&server, &kind.address(0));
    set_aside()?;
    play.call("bind to port 0", bound, "ok");
    if kind.is_stream {
        play.call("listen", listen(&server), "ok");
    }
    let client = play.socket()?;
    let nobody = if kind.is_stream { "ECONNREFUSED" } else { "ok" };
    play.call("connect to port 0", connect(&client, &kind.address(0)), nobody);
    let own: SocketAddr = getsockname(&server).context("ask for an address")?.try_into()?;
    let client = play.socket()?;
    let port = own.port();
    let came = play.reach("connect to the port", port, connect(&client, &kind.address(port)), "ok");
    if kind.is_stream && came.is_some() {
        play.call("accept", accept(&server).and_then(reset), "ok");
    }
    Ok(())
}

pub(super) fn ask_of_the_last(play: &mut Play<'_>) -> Result<()> {
    ends::ask_of(play, u16::MAX)
}

/// The hooks of bind() can lift what they must not: that a program without CAP_NET_BIND_SERVICE stays below no port 1024.
pub(super) fn ask_of_privileged(play: &mut Play<'_>) -> Result<()> {
    let kind = play.kind;
    if kind.carries.is_none() {
        return Ok(());
    }
    let patience = play.stage.patience();
    // The capabilities of one thread, which ends.
    let tried = thread::spawn(move || -> io::Result<_> {
        let mut sets = capabilities(None)?;
        sets.effective.remove(CapabilitySet::NET_BIND_SERVICE);
        set_capabilities(None, sets)?;
        let socket = kind.socket(patience)?;
        let below = bind(&socket, &kind.address(1023));
        Ok((below, bind(&socket, &kind.address(1024))))
    });
    let tried = tried.join().expect("the thread does not panic");
    let (below, above) = tried.context("bind without privilege")?;
    play.call("bind to port 1023 without privilege", below, "EACCES");
    play.call("bind to port 1024 without privilege", above, "ok");
    let socket = play.socket()?;
    play.call("bind to port 1023", bind(&socket, &kind.address(1023)), "ok");
    Ok(())
}

/// A rule about a port says nothing about the port that has its bytes the other way round.
pub(super) fn ask_of_bytes(play: &mut Play<'_>) -> Result<()> {
    let port = play.port(Zone::Neither);
    if matches!(play.force, Force::Denying(_)) && play.denies(Direction::Out, port) {
        let turned = port.swap_bytes();
        ends::ask_of(play, turned)?;
    }
    Ok(())
}
