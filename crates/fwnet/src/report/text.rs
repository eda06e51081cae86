//! Events in the wording of the 2015 module, with the container or unit behind it where there is one.

use std::{fmt::Write, net::SocketAddr};

use agent::connections::{Container, place};
use kernel::Door;
use verdict::{Direction, Endpoint, Verdict};

use super::Seen;
use crate::prefix::standard;

/// The module's lines for an event: what was seen where `debug` asks for it, then the denial.
pub(super) fn lines(seen: &Seen, debug: u8) -> String {
    let event = seen.event;
    let what = match event.door {
        Door::Connect => format!("connect to {}", shown(event.remote)),
        Door::Send => format!("send to {}", shown(event.remote)),
        Door::Lookup | Door::Request => format!("accept from {}", shown(event.remote)),
        Door::Listen => format!("listen on {}", shown(event.local)),
        Door::Accept | Door::Jammed => format!("accept on {}", shown(event.local)),
        Door::Bind => format!("bind to {}", shown(event.local)),
        Door::Create => format!("socket of protocol {}", event.protocol.0),
        Door::Tripwire => format!(
            "connection without a verdict: {} => {}",
            shown(event.local),
            shown(event.remote)
        ),
        // A port is closed to everybody, so the sweep has no peer to name.
        Door::Sweep if event.remote.port == 0 => format!("listener on {}", shown(event.local)),
        Door::Sweep => {
            format!("connection {} => {}", shown(event.local), shown(event.remote))
        }
    };
    let mut lines = String::new();
    if debug >= 1 || event.door == Door::Tripwire {
        // Writing to a string cannot fail.
        let _written = writeln!(lines, "! {what}");
    }
    if event.decision.denies() {
        let by_port = event.direction == Direction::In
            && event.door != Door::Sweep
            && seen.rule.id.starts_with("port ");
        let whose = whose(seen);
        let _written = if event.door == Door::Sweep {
            writeln!(lines, "! {what} revoked{whose}")
        } else if by_port {
            writeln!(lines, "! accept from denied port {}{whose}", event.local.port)
        } else {
            writeln!(lines, "! {what} denied{whose}")
        };
    }
    if event.decision.would.verdict == Verdict::Deny && !event.decision.denies() {
        let _written = writeln!(lines, "! {what} would be denied{}", whose(seen));
    }
    lines
}

/// Digits of a container's id that people are shown, and that a rule knows it by.
const CONTAINER_DIGITS: usize = 12;

/// The container or the unit, as a rule names it: ` [unit=nginx.service]`. Nothing where it is in neither.
fn whose(seen: &Seen) -> String {
    let path = seen.cgroup.as_deref().unwrap_or_default();
    match (place::container(path), place::unit(path)) {
        (Some(Container { runtime: _, id }), _) => {
            let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            let shown = if is_id { id.get(..CONTAINER_DIGITS).unwrap_or(&id) } else { &id };
            format!(" [container={shown}]")
        }
        (None, Some(unit)) => format!(" [unit={unit}]"),
        (None, None) => String::new(),
    }
}

/// `127.0.0.1:80` or `[::1]:80`.
pub(super) fn shown(end: Endpoint) -> String {
    SocketAddr::new(standard(end.address), end.port).to_string()
}
