//! Events as JSON lines with the field names of the Elastic Common Schema; what it has no name for is under `fwnet`.

use kernel::Door;
use serde_json::{Map, Value, json};
use verdict::{Direction, Endpoint, Protocol, Verdict};

use super::{Seen, past};
use crate::prefix::standard;

/// One line, with its end.
pub(super) fn line(seen: &Seen<'_>) -> String {
    let event = seen.event;
    let (source, destination) = match event.direction {
        Direction::Out => (event.local, event.remote),
        Direction::In => (event.remote, event.local),
    };
    let enforced = event.decision.enforced.verdict;
    let mut line = json!({
        "@timestamp": seen.time.to_string(),
        "host": { "name": seen.host },
        "event": {
            "kind": "event",
            "category": ["network"],
            "type": ["connection", past(enforced)],
            "action": action(event.door),
            "outcome": match enforced { Verdict::Allow => "success", Verdict::Deny => "failure" },
        },
        "source": end(source),
        "destination": end(destination),
        "network": {
            "direction": match event.direction { Direction::Out => "egress", Direction::In => "ingress" },
            "transport": transport(event.protocol),
            "type": if event.remote.address.is_v4() { "ipv4" } else { "ipv6" },
        },
        "rule": rule(seen),
        "observer": { "vendor": "fwnet", "type": "firewall" },
        "fwnet": {
            "verdict": { "enforced": past(enforced), "would": past(event.decision.would.verdict) },
            "mode": if event.decision.enforced == event.decision.would { "enforce" } else { "audit" },
            "signer": Value::Null,
            "cgroup": seen.cgroup,
            "netns_cookie": event.netns,
            "socket_cookie": event.socket,
            "generation": event.generation,
        },
    });
    if let (Some(owner), Some(fields)) = (seen.owner, line.as_object_mut()) {
        let name = owner.comm.split(|&byte| byte == 0).next().unwrap_or_default();
        fields.insert("process".into(), json!({ "pid": owner.pid, "thread": { "id": owner.tid }, "name": String::from_utf8_lossy(name) }));
        fields.insert("user".into(), json!({ "id": owner.uid.to_string() }));
        fields.insert("group".into(), json!({ "id": owner.gid.to_string() }));
    }
    format!("{line}\n")
}

fn rule(seen: &Seen<'_>) -> Value {
    let mut fields = Map::new();
    fields.insert("id".into(), seen.rule.id.as_str().into());
    fields.insert("version".into(), seen.version.to_string().into());
    let known = [
        ("name", &seen.rule.text),
        ("reference", &seen.rule.place),
        ("description", &seen.rule.reason),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            fields.insert(name.into(), value.as_str().into());
        }
    }
    fields.into()
}

fn end(end: Endpoint) -> Value {
    let mut fields = Map::new();
    // A socket that is not bound yet has no address to tell.
    if !end.address.is_unspecified() {
        let address = standard(end.address).to_string();
        fields.insert("address".into(), address.clone().into());
        fields.insert("ip".into(), address.into());
    }
    if end.port != 0 {
        fields.insert("port".into(), end.port.into());
    }
    fields.into()
}

fn action(door: Door) -> &'static str {
    match door {
        Door::Connect => "connect",
        Door::Send => "send",
        Door::Bind => "bind",
        Door::Lookup => "accept",
        Door::Create => "socket",
        Door::Tripwire => "tripwire",
    }
}

fn transport(protocol: Protocol) -> String {
    match protocol {
        Protocol::TCP => "tcp".into(),
        Protocol::UDP => "udp".into(),
        Protocol::SCTP => "sctp".into(),
        Protocol::UDPLITE => "udplite".into(),
        Protocol::ICMP => "icmp".into(),
        Protocol::ICMPV6 => "ipv6-icmp".into(),
        Protocol(number) => number.to_string(),
    }
}
