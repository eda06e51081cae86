//! Data with and without an address, connected and not. (The tests `sendmsg_stream` and `sendmsg_dgram`.)

use anyhow::{Context as _, Result};
use rustix::net::{AddressFamily, getsockname};
use std::net::SocketAddr;

use super::kind::{accept, bind, connect, listen, receive, reset, send, send_to};
use super::{Play, Zone};

/// A stream goes where it is connected to, whatever address is named besides.
pub(super) fn ask_of_streams(play: &mut Play<'_>) -> Result<()> {
    let kind = play.kind;
    if !kind.is_stream {
        return Ok(());
    }
    let port = play.port(Zone::Free);
    let (here, elsewhere) = (kind.address(port), kind.address(play.port(Zone::Neither)));
    let short = here.as_long_as(kind.least() - 1);
    let (unconnected, named, connected) = match kind.family {
        AddressFamily::UNIX => ("ENOTCONN", "EOPNOTSUPP", "EISCONN"),
        _ => ("EPIPE", "EPIPE", "ok"),
    };
    let server = play.socket()?;
    play.claim("bind", port, bind(&server, &here));
    play.call("listen", listen(&server), "ok");
    let client = play.socket()?;
    play.call("send unconnected", send(&client), unconnected);
    play.call("send unconnected to a short address", send_to(&client, &short), named);
    play.reach("connect", port, connect(&client, &here), "ok");
    let Some(accepted) = play.call("accept", accept(&server), "ok") else { return Ok(()) };
    play.call("send", send(&client), "ok");
    play.call("receive", receive(&accepted), "ok");
    for (what, address) in
        [("send to a short address", short), ("send to where nothing may go", elsewhere)]
    {
        if play.call(what, send_to(&client, &address), connected).is_some() {
            play.call("receive", receive(&accepted), "ok");
        }
    }
    reset(client)?;
    Ok(())
}

/// Each datagram that names an address is judged by that.
pub(super) fn ask_of_datagrams(play: &mut Play<'_>) -> Result<()> {
    let kind = play.kind;
    if kind.is_stream {
        return Ok(());
    }
    let ports = [Zone::Free, Zone::NoOut].map(|zone| play.port(zone));
    let servers = play.bound(ports)?;
    let client = play.socket()?;
    let unconnected = match kind.family {
        AddressFamily::UNIX => "ENOTCONN",
        _ => "EDESTADDRREQ",
    };
    play.call("send unconnected", send(&client), unconnected);
    let round = |play: &mut Play<'_>| -> Result<()> {
        for (port, server) in ports.into_iter().zip(&servers) {
            let to = kind.address(port);
            let short = to.as_long_as(kind.least() - 1);
            play.call("send to a short address", send_to(&client, &short), "EINVAL");
            if play.send("send", port, send_to(&client, &to)).is_some() {
                play.call("receive", receive(server), "ok");
            }
        }
        Ok(())
    };
    round(play)?;
    if kind.carries.is_some() {
        let own: SocketAddr = getsockname(&client).context("ask for an address")?.try_into()?;
        let bound =
            if own.port() == 0 { Err(std::io::ErrorKind::AddrNotAvailable.into()) } else { Ok(()) };
        play.call("be bound by sending", bound, "ok");
    }
    // The same where it is connected to the one that may be reached.
    let [port, _] = ports;
    play.reach("connect", port, connect(&client, &kind.address(port)), "ok");
    round(play)
}
