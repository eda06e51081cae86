//! Events, flows and notices as objects with the field names of the Elastic Common Schema; what it has no name for is
//! under `fwnet`.

use ::agent::{
    connections::place,
    flows::{Kind, Process, Record},
};
use kernel::Door;
use policy::{Way, syntax::Answer};
use serde_json::{Map, Value, json};
use verdict::{Direction, Endpoint, Protocol, Verdict};

use super::{Notice, Seen, community_id::community_id, past, transport};
use crate::{orders::Reason, prefix::standard};

/// One event.
pub(crate) fn event(seen: &Seen) -> Value {
    let event = seen.event;
    let (source, destination) = seen.ends();
    let enforced = event.decision.enforced.verdict;
    let mut object = json!({
        "@timestamp": seen.time.to_string(),
        "host": { "name": &*seen.host },
        "event": {
            "kind": if event.door == Door::Tripwire { "alert" } else { "event" },
            "category": ["network"],
            "type": if event.door == Door::Sweep {
                json!(["connection", past(enforced), "end"])
            } else {
                json!(["connection", past(enforced)])
            },
            "action": action(event.door),
            "outcome": match enforced { Verdict::Allow => "success", Verdict::Deny => "failure" },
        },
        "source": end(source),
        "destination": end(destination),
        "network": network(
            matches!(event.direction, Direction::In),
            event.protocol,
            event.remote.address.is_v4(),
        ),
        "rule": rule(&seen.rule, seen.version),
        "observer": observer(),
        "fwnet": {
            "verdict": { "enforced": past(enforced), "would": past(event.decision.would.verdict) },
            "mode": if event.decision.enforced == event.decision.would { "enforce" } else { "audit" },
            "would": { "rule": rule(&seen.would, seen.version) },
            "reporter": match event.direction { Direction::Out => "src", Direction::In => "dst" },
            "signer": Value::Null,
            "cgroup": seen.cgroup.as_deref(),
            "unit": seen.cgroup.as_deref().and_then(place::unit),
            "netns_cookie": event.netns,
            "socket_cookie": event.socket,
            "generation": event.generation,
        },
    });
    if let Some(id) = community_id(event.protocol, source, destination) {
        insert(&mut object, &["network", "community_id"], id.into());
    }
    if let Some(owner) = seen.owner {
        let mut process = json!({
            "pid": owner.pid,
            "thread": { "id": owner.tid },
            "name": super::comm(owner.comm),
        });
        if let Some(exe) = &seen.exe {
            insert(&mut process, &["executable"], (&**exe).into());
        }
        insert(&mut object, &["process"], process);
        insert(&mut object, &["user"], json!({ "id": owner.uid.to_string() }));
        insert(&mut object, &["group"], json!({ "id": owner.gid.to_string() }));
    }
    container(&mut object, seen.cgroup.as_deref());
    object
}

/// Flows that were alike, as one event.
pub(crate) fn flows(record: &Record, host: &str, version: u64) -> Value {
    let Kind {
        direction,
        protocol,
        local,
        remote,
        port,
        process,
        verdict,
        rule: rule_id,
        would,
        would_rule,
    } = &record.kind;
    let inbound = *direction == Way::In;
    let own = local.map_or_else(Map::new, |address| address_fields(&address.to_string()));
    let mut peer = address_fields(&remote.to_string());
    let mut server = if inbound { own.clone() } else { peer.clone() };
    if *port != 0 {
        server.insert("port".into(), (*port).into());
    }
    let (source, destination) = if inbound {
        (peer, server)
    } else {
        peer = own;
        (peer, server)
    };
    let word = |answer: &Answer| match answer {
        Answer::Allow => "allowed",
        Answer::Deny => "denied",
    };
    let mut object = json!({
        "@timestamp": record.last.to_string(),
        "host": { "name": host },
        "event": {
            "kind": "event",
            "category": ["network"],
            "type": ["connection", word(verdict)],
            "action": "flows",
            "outcome": match verdict { Answer::Allow => "success", Answer::Deny => "failure" },
            "start": record.first.to_string(),
            "end": record.last.to_string(),
        },
        "source": source,
        "destination": destination,
        "network": network(inbound, Protocol(*protocol), remote.is_ipv4()),
        "rule": { "id": rule_id, "version": version.to_string() },
        "observer": observer(),
        "fwnet": {
            "count": record.count,
            "verdict": { "enforced": word(verdict), "would": word(would) },
            "mode": if rule_id == would_rule { "enforce" } else { "audit" },
            "would": { "rule": { "id": would_rule } },
            "reporter": if inbound { "dst" } else { "src" },
            "cgroup": process.cgroup,
            "unit": process.unit(),
        },
    });
    whose(&mut object, process, record);
    container(&mut object, process.cgroup.as_deref());
    object
}

/// Something that happened to the policy or to the programs.
pub(crate) fn notice(notice: &Notice, host: &str) -> Value {
    json!({
        "@timestamp": notice.time.to_string(),
        "host": { "name": host },
        "event": {
            "kind": if notice.tamper { "alert" } else { "event" },
            "category": [if notice.tamper { "intrusion_detection" } else { "configuration" }],
            "type": [if notice.tamper { "info" } else { "change" }],
            "action": notice.action,
        },
        "message": notice.text,
        "observer": observer(),
        "fwnet": { "tamper": notice.tamper, "policy": { "version": notice.version } },
    })
}

fn whose(object: &mut Value, process: &Process, record: &Record) {
    let mut fields = Map::new();
    if record.pid != 0 {
        fields.insert("pid".into(), record.pid.into());
        fields.insert("name".into(), record.name.as_str().into());
    }
    if let Some(exe) = &process.exe {
        fields.insert("executable".into(), exe.as_str().into());
    }
    if !fields.is_empty() {
        insert(object, &["process"], fields.into());
    }
    if let Some(user) = process.user {
        insert(object, &["user"], json!({ "id": user.to_string() }));
    }
    if let Some(group) = process.group {
        insert(object, &["group"], json!({ "id": group.to_string() }));
    }
}

fn container(object: &mut Value, cgroup: Option<&str>) {
    if let Some(container) = cgroup.and_then(place::container) {
        let fields = json!({ "id": container.id, "runtime": container.runtime.word() });
        insert(object, &["container"], fields);
    }
}

fn observer() -> Value {
    json!({ "vendor": "fwnet", "type": "firewall", "version": env!("CARGO_PKG_VERSION") })
}

fn network(inbound: bool, protocol: Protocol, is_v4: bool) -> Value {
    json!({
        "direction": if inbound { "ingress" } else { "egress" },
        "transport": transport(protocol),
        "iana_number": protocol.0.to_string(),
        "type": if is_v4 { "ipv4" } else { "ipv6" },
    })
}

fn rule(reason: &Reason, version: u64) -> Value {
    let mut fields = Map::new();
    fields.insert("id".into(), reason.id.as_str().into());
    fields.insert("version".into(), version.to_string().into());
    let ruleset = reason.place.as_deref().and_then(|place| place.rsplit_once(':'));
    let known = [
        ("name", reason.text.as_deref()),
        ("ruleset", ruleset.map(|(file, _line)| file)),
        ("reference", reason.place.as_deref()),
        ("description", reason.reason.as_deref()),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            fields.insert(name.into(), value.into());
        }
    }
    fields.into()
}

fn end(end: Endpoint) -> Value {
    let mut fields = Map::new();
    // A socket that is not bound yet has no address to tell.
    if !end.address.is_unspecified() {
        fields = address_fields(&standard(end.address).to_string());
    }
    if end.port != 0 {
        fields.insert("port".into(), end.port.into());
    }
    fields.into()
}

fn address_fields(address: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("address".into(), address.into());
    fields.insert("ip".into(), address.into());
    fields
}

/// Sets a field below the top; those on the way are objects.
fn insert(object: &mut Value, path: &[&str], value: Value) {
    let mut at = object;
    for name in path {
        let Some(fields) = at.as_object_mut() else { return };
        at = fields.entry(*name).or_insert(Value::Null);
    }
    *at = value;
}

fn action(door: Door) -> &'static str {
    match door {
        Door::Connect => "connect",
        Door::Send => "send",
        Door::Bind => "bind",
        Door::Lookup | Door::Request | Door::Accept | Door::Jammed => "accept",
        Door::Listen => "listen",
        Door::Create => "socket",
        Door::Tripwire => "tripwire",
        Door::Sweep => "revoke",
    }
}

/// The word of a direction outside of the schema: `out` or `in`.
pub(crate) fn direction_word(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => "out",
        Direction::In => "in",
    }
}
