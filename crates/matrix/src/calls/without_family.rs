//! Addresses whose family is AF_UNSPEC: a claim on any address, the end of a connection, a datagram's destination. (The
//! tests `bind_unspec`, `connect_unspec` and `sendmsg_unspec`.)

use anyhow::Result;
use kernel::raw::address::KernelAddress;
use rustix::net::AddressFamily;

use super::kind::{accept, bind, connect, listen, receive, reset, send_to};
use super::{Play, Zone};

/// `AF_UNSPEC`.
const UNSPEC: u16 = 0;
/// What any family has.
const FAMILY_ALONE: usize = 2;

/// bind(): 0.0.0.0 without a family is one of IPv4, anything else is none.
pub(super) fn ask_of_claims(play: &mut Play<'_>) -> Result<()> {
    for zone in [Zone::Free, Zone::NoIn] {
        let (kind, port) = (play.kind, play.port(zone));
        let any = KernelAddress::without_family(port);
        let socket = play.socket()?;
        play.call("bind to one byte", bind(&socket, &any.as_long_as(1)), "EINVAL");
        let bound = bind(&socket, &any);
        match kind.family {
            AddressFamily::INET => drop(play.claim("bind to any", port, bound)),
            // It is shorter than an address of theirs.
            _ => drop(play.call("bind to any", bound, "EINVAL")),
        }
        drop(socket);
        let refused = match kind.family {
            AddressFamily::INET | AddressFamily::INET6 => "EAFNOSUPPORT",
            _ => "EINVAL",
        };
        let socket = play.socket()?;
        if kind.family == AddressFamily::INET6 {
            play.call("bind to any, long", bind(&socket, &any.as_long_as(28)), refused);
        }
        let here = kind.address(port).of_family(UNSPEC);
        play.call("bind to loopback without a family", bind(&socket, &here), refused);
    }
    Ok(())
}

/// connect(): it ends a connection, and may whatever rules say.
pub(super) fn ask_of_disconnects(play: &mut Play<'_>) -> Result<()> {
    let (kind, port) = (play.kind, play.port(Zone::Free));
    let here = kind.address(port);
    let nobody = KernelAddress::without_family(0);
    // Of streams of AF_UNIX nobody takes a connection back.
    let keeps = kind.carries.is_none() && kind.is_stream;
    let server = play.socket()?;
    play.claim("bind", port, bind(&server, &here));
    if kind.is_stream {
        play.call("listen", listen(&server), "ok");
    }
    let client = play.socket()?;
    play.reach("connect", port, connect(&client, &here), "ok");
    let again = if kind.is_stream { "EISCONN" } else { "ok" };
    play.call("connect again", connect(&client, &here), again);
    let ends = if keeps { "EINVAL" } else { "ok" };
    play.call("disconnect", connect(&client, &nobody), ends);
    let returns = if keeps { "EISCONN" } else { "ok" };
    play.call("connect once more", connect(&client, &here), returns);
    play.call("disconnect by one byte", connect(&client, &nobody.as_long_as(1)), "EINVAL");
    let alone = nobody.as_long_as(FAMILY_ALONE);
    play.call("disconnect by a family alone", connect(&client, &alone), ends);
    if kind.is_stream {
        for _ in 0..if keeps { 1 } else { 2 } {
            play.call("accept", accept(&server).and_then(reset), "ok");
        }
        reset(client)?;
    }
    Ok(())
}

/// sendto(): taken for IPv4 by a socket of IPv4, and for no address at all by one of IPv6.
pub(super) fn ask_of_datagrams(play: &mut Play<'_>) -> Result<()> {
    let kind = play.kind;
    if kind.is_stream {
        return Ok(());
    }
    let ports = [Zone::Free, Zone::NoOut].map(|zone| play.port(zone));
    let servers = play.bound(ports)?;
    let client = play.socket()?;
    for (port, server) in ports.into_iter().zip(&servers) {
        let to = kind.address(port).of_family(UNSPEC);
        play.call("send to one byte", send_to(&client, &to.as_long_as(1)), "EINVAL");
        let sent = send_to(&client, &to);
        match kind.family {
            AddressFamily::INET => {
                if play.send("send without a family", port, sent).is_some() {
                    play.call("receive", receive(server), "ok");
                }
            }
            AddressFamily::INET6 => {
                play.call("send without a family", sent, "EDESTADDRREQ");
            }
            _ => drop(play.call("send without a family", sent, "EINVAL")),
        }
    }
    let [port, _] = ports;
    play.reach("connect", port, connect(&client, &kind.address(port)), "ok");
    let alone = kind.address(port).of_family(UNSPEC).as_long_as(FAMILY_ALONE);
    let sent = send_to(&client, &alone);
    if kind.family == AddressFamily::INET6 {
        play.call("send to a family alone", sent, "ok");
        let [server, _] = &servers;
        play.call("receive", receive(server), "ok");
    } else {
        play.call("send to a family alone", sent, "EINVAL");
    }
    Ok(())
}
