//! Sockets that were connected, or listened, before the rules came: they go on, end when they are told to, and are judged
//! when they are connected again. (The tests `connect_unspec` and `sendmsg_dgram`.)

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kernel::raw::address::KernelAddress;

use super::kind::{accept, bind, connect, listen, receive, reset, send};
use super::{FORCES, Kind, Play, Zone};

/// What was made for one case.
struct Pair {
    client: OwnedFd,
    server: OwnedFd,
    /// Where the server was claimed.
    port: u16,
    /// Of streams: what took the connection.
    listener: Option<OwnedFd>,
    /// Nobody may come in here.
    closed: (u16, OwnedFd),
}

/// One for each kind and each situation.
#[derive(Default)]
pub(super) struct Before {
    pairs: BTreeMap<&'static str, Vec<Pair>>,
}

/// Ports of those that are made before, behind those of the cases.
const PORTS_AT: u16 = 20;

impl Before {
    pub(super) fn make(kinds: &[Kind]) -> Result<Self> {
        let mut before = Self::default();
        for kind in kinds.iter().filter(|kind| kind.carries.is_some()) {
            let mut pairs = Vec::new();
            // The cases' own ports are let go; these are kept, so each has its own.
            for at in (0u16..).take(FORCES.len()) {
                let offset = PORTS_AT + 5 * kind.number() + at;
                pairs.push(pair(kind, offset).with_context(|| kind.name)?);
            }
            before.pairs.insert(kind.name, pairs);
        }
        Ok(before)
    }
}

fn pair(kind: &Kind, offset: u16) -> Result<Pair> {
    let patience = Duration::from_secs(5);
    let port = Zone::NoOut.ports().start() + offset;
    let listener = kind.socket(patience)?;
    let client = kind.socket(patience)?;
    bind(&listener, &kind.address(port))?;
    let (server, listener) = if kind.is_stream {
        listen(&listener)?;
        connect(&client, &kind.address(port))?;
        (accept(&listener)?, Some(listener))
    } else {
        connect(&client, &kind.address(port))?;
        (listener, None)
    };
    let closed = (Zone::NoIn.ports().start() + offset, kind.socket(patience)?);
    bind(&closed.1, &kind.address(closed.0))?;
    if kind.is_stream {
        listen(&closed.1)?;
    }
    Ok(Pair { client, server, port, listener, closed })
}

pub(super) fn ask(play: &mut Play<'_>) -> Result<()> {
    let kind = play.kind;
    let Some(pairs) = play.before.pairs.get_mut(kind.name) else { return Ok(()) };
    let Pair { client, server, port, listener, closed } =
        pairs.pop().context("one is left for each situation")?;
    let target = kind.address(port);
    play.call("send on what was connected", send(&client), "ok");
    play.call("receive", receive(&server), "ok");
    let again = connect(&client, &target);
    if kind.is_stream {
        play.reach_again("connect again", port, again);
    } else {
        play.reach("connect again", port, again, "ok");
    }
    let nobody = KernelAddress::without_family(0);
    play.call("disconnect by one byte", connect(&client, &nobody.as_long_as(1)), "EINVAL");
    play.call("disconnect by a family alone", connect(&client, &nobody.as_long_as(2)), "ok");
    play.reach("connect once more", port, connect(&client, &target), "ok");
    if kind.is_stream {
        reset(client)?;
    }
    drop(listener);
    // Whoever listened before gets nobody any more.
    let (port, listening) = closed;
    let client = play.socket()?;
    let came =
        play.reach("connect to who listens", port, connect(&client, &kind.address(port)), "ok");
    if !kind.is_stream {
        play.send("send to who listens", port, send(&client));
    } else if came.is_some() {
        play.call("accept", accept(&listening).and_then(reset), "ok");
    }
    Ok(())
}
