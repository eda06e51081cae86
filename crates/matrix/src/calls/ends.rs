//! bind() and connect() to addresses of every length and family, and data from one end to the other. (`test_bind_and_connect`
//! of the tests `bind`, `connect` and `from_unix_to_inet`.)

use anyhow::Result;
use rustix::net::AddressFamily;

use super::kind::{accept, bind, connect, listen, receive, reset, send};
use super::{Play, Zone};

pub(super) fn ask(play: &mut Play<'_>) -> Result<()> {
    for zone in Zone::ALL {
        ask_of(play, play.port(zone))?;
    }
    Ok(())
}

/// Everything about one port.
pub(super) fn ask_of(play: &mut Play<'_>, port: u16) -> Result<()> {
    let (kind, address) = (play.kind, play.kind.address(port));
    let (least, nothing) = (address.as_long_as(kind.least()), address.as_long_as(0));
    let short = address.as_long_as(kind.least() - 1);
    // A length that is none comes before any rule.
    let socket = play.socket()?;
    play.call("bind to no address", bind(&socket, &nothing), "EINVAL");
    play.call("bind to a byte less than an address", bind(&socket, &short), "EINVAL");
    play.claim("bind to the shortest address", port, bind(&socket, &least));
    drop(socket);
    let socket = play.socket()?;
    play.call("connect to no address", connect(&socket, &nothing), "EINVAL");
    play.call("connect to a byte less than an address", connect(&socket, &short), "EINVAL");
    let connected = connect(&socket, &least);
    if kind.carries.is_none() {
        play.call("connect to the shortest address", connected, "EINVAL");
    } else {
        let nobody = if kind.is_stream { "ECONNREFUSED" } else { "ok" };
        play.reach("connect to the shortest address", port, connected, nobody);
    }
    drop(socket);
    // And from end to end.
    let server = play.socket()?;
    let bound = play.claim("bind", port, bind(&server, &address)).is_some();
    if bound && kind.is_stream {
        play.call("listen", listen(&server), "ok");
    }
    let client = play.socket()?;
    let nobody = if kind.is_stream && !bound { "ECONNREFUSED" } else { "ok" };
    let connected = play.reach("connect", port, connect(&client, &address), nobody).is_some();
    if connected && (bound || !kind.is_stream) {
        if bound {
            play.call("send", send(&client), "ok");
            if !kind.is_stream {
                play.call("receive", receive(&server), "ok");
            } else if let Some(accepted) = play.call("accept", accept(&server), "ok") {
                play.call("receive", receive(&accepted), "ok");
            }
        } else {
            // Nobody is there, and nobody but the rules says so.
            play.send("send to nobody", port, send(&client));
        }
    }
    if kind.is_stream {
        reset(client)?;
    }
    Ok(())
}

/// An address of another family is none, whatever it names.
pub(super) fn ask_of_other_families(play: &mut Play<'_>) -> Result<()> {
    let kind = play.kind;
    let (own, port) = (kind.address(play.port(Zone::Neither)), play.port(Zone::Neither));
    let inet = super::kind::KINDS.iter().find(|it| it.family == AddressFamily::INET);
    let four = inet.expect("IPv4 is in the list").address(port);
    for (other, family) in [("AF_INET", 2), ("AF_INET6", 10), ("AF_UNIX", 1), ("AF_MAX", 46)] {
        let address = match family {
            2 => four,
            _ => own.of_family(family),
        };
        if family == kind.family.as_raw() {
            continue;
        }
        // A datagram socket of IPv6 takes addresses of IPv4, and those are judged.
        let mixes = kind.family == AddressFamily::INET6 && !kind.is_stream && family == 2;
        let expected = match kind.family {
            AddressFamily::INET | AddressFamily::INET6 => "EAFNOSUPPORT",
            _ => "EINVAL",
        };
        for (length, address) in [("", address), (", long", address.as_long_as(28))] {
            let is_short = address.bytes().len() < kind.least();
            let expected = if is_short { "EINVAL" } else { expected };
            let socket = play.socket()?;
            let what = format!("bind to {other}{length}");
            play.call(&what, bind(&socket, &address), expected);
            let (what, connected) =
                (format!("connect to {other}{length}"), connect(&socket, &address));
            if mixes {
                play.reach(&what, port, connected, "ok");
            } else {
                play.call(&what, connected, expected);
            }
        }
    }
    Ok(())
}
