//! Odd ways in: without a listener, with SYN cookies, and on a port that another socket had claimed.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context as _, Result};
use doors::Protocol;
use rustix::net::{AddressFamily, SocketType, bind, connect, getsockname, listen, socket};

use super::{Played, refused};
use crate::stage::Stage;

const COOKIES: &str = "/proc/sys/net/ipv4/tcp_syncookies";
const LOCAL_PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// A port that nothing else of the matrix uses.
const PORT: u16 = 10_009;

/// A switch of this network namespace, put back when the value ends.
struct Switched {
    path: &'static str,
    before: String,
}

impl Switched {
    fn to(path: &'static str, value: &str) -> Result<Self> {
        let before = fs::read_to_string(path).context(path)?;
        fs::write(path, value).context(path)?;
        Ok(Self { path, before })
    }
}

impl Drop for Switched {
    fn drop(&mut self) {
        // It was written a moment ago.
        let _ = fs::write(self.path, &self.before);
    }
}

pub(super) fn itself(_stage: &mut Stage) -> Result<Played> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).context("make a socket")?;
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).context("bind")?;
    let own: SocketAddr = getsockname(&socket).context("ask for an address")?.try_into()?;
    Ok(match connect(&socket, &own) {
        Ok(()) => Played::new("accepted", "connected"),
        Err(errno) => Played::new(refused(&errno.into(), "connect"), "-"),
    })
}

pub(super) fn cookies(stage: &mut Stage) -> Result<Played> {
    let _always = Switched::to(COOKIES, "2")?;
    let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)) {
        Ok(listener) => listener,
        Err(error) => return Ok(Played::new(refused(&error, "bind"), "-")),
    };
    let address = listener.local_addr().context("ask for an address")?;
    let peer = stage.peer_reaches(Protocol::Tcp, address)?;
    Ok(Played::new(stage.accepts(&listener.into(), peer == "connected")?, peer))
}

/// The port is claimed by bind() and let go with its socket, then found free by a listen() without bind().
pub(super) fn stale(stage: &mut Stage) -> Result<Played> {
    let claimed = match TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)) {
        Ok(listener) => listener,
        Err(error) => return Ok(Played::new(refused(&error, "bind"), "-")),
    };
    drop(claimed);
    let only = Switched::to(LOCAL_PORTS, &format!("{PORT} {PORT}"))?;
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).context("make a socket")?;
    let listening = listen(&socket, 8);
    drop(only);
    if let Err(errno) = listening {
        return Ok(Played::new(refused(&errno.into(), "listen"), "-"));
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let peer = stage.peer_reaches(Protocol::Tcp, address)?;
    Ok(Played::new(stage.accepts(&socket, peer == "connected")?, peer))
}
