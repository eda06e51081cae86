//! Events, flows and notices as objects of the Open Cybersecurity Schema Framework: flows are of class 4001, Network
//! Activity, with the profiles `host`, `container` and `security_control`; notices are of class 5019, Device Config State
//! Change, and those of tampering of class 2004, Detection Finding.
//!
//! Numbers and names are those of <https://schema.ocsf.io>, version 1.5.0.

use ::agent::{
    connections::place,
    flows::{Kind, Record},
};
use jiff::Timestamp;
use kernel::Door;
use policy::{Way, syntax::Answer};
use serde_json::{Map, Value, json};
use verdict::{Direction, Endpoint, Protocol, Verdict};

use super::{Notice, Seen, community_id::community_id, past, transport};
use crate::prefix::standard;

const SCHEMA: &str = "1.5.0";

/// `activity_id` of Network Activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Activity {
    Open = 1,
    Reset = 3,
    Fail = 4,
    Refuse = 5,
    Traffic = 6,
    Listen = 7,
}

impl Activity {
    fn name(self) -> &'static str {
        match self {
            Self::Open => "Open",
            Self::Reset => "Reset",
            Self::Fail => "Fail",
            Self::Refuse => "Refuse",
            Self::Traffic => "Traffic",
            Self::Listen => "Listen",
        }
    }
}

/// What was decided, in the words of the profile `security_control`.
struct Decided {
    denied: bool,
    /// A rule in audit would have it otherwise.
    observed: bool,
    inbound: bool,
}

impl Decided {
    fn action(&self) -> (u64, &'static str) {
        match (self.denied, self.observed) {
            (true, _) => (2, "Denied"),
            (false, true) => (3, "Observed"),
            (false, false) => (1, "Allowed"),
        }
    }

    fn disposition(&self) -> (u64, &'static str) {
        match (self.denied, self.observed) {
            // A peer that is denied gets a reset; a call that is denied gets an error and sends nothing.
            (true, _) if self.inbound => (25, "Rejected"),
            (true, _) => (2, "Blocked"),
            (false, true) => (17, "Logged"),
            (false, false) => (1, "Allowed"),
        }
    }
}

/// One event.
pub(crate) fn event(seen: &Seen) -> Value {
    let event = seen.event;
    let (source, destination) = seen.ends();
    let inbound = event.direction == Direction::In;
    let denied = event.decision.denies();
    let activity = match (event.door, denied) {
        (Door::Sweep, _) => Activity::Reset,
        (Door::Bind | Door::Listen, _) => Activity::Listen,
        (_, false) => Activity::Open,
        (_, true) if inbound => Activity::Refuse,
        (_, true) => Activity::Fail,
    };
    let observed = event.decision.enforced != event.decision.would;
    let decided = Decided { denied, observed, inbound };
    let mut object = activity_object(activity, seen.time, event.protocol, &decided);
    let id = community_id(event.protocol, source, destination);
    let severity = if event.door == Door::Tripwire { 4 } else { 1 + u64::from(denied) };
    let would = match event.decision.would.verdict {
        Verdict::Allow => "allowed",
        Verdict::Deny => "denied",
    };
    fill(
        &mut object,
        json!({
            "severity_id": severity,
            "src_endpoint": end(source),
            "dst_endpoint": end(destination),
            "firewall_rule": {
                "uid": seen.rule.id,
                "name": seen.rule.text,
                "desc": seen.rule.reason,
                "version": seen.version.to_string(),
            },
            "policy": { "version": seen.version.to_string(), "name": seen.rule.place },
            "device": { "hostname": &*seen.host, "type_id": 0 },
            "unmapped": {
                "fwnet.verdict.enforced": past(event.decision.enforced.verdict),
                "fwnet.verdict.would": would,
                "fwnet.would.rule": seen.would.id,
                "fwnet.mode": if observed { "audit" } else { "enforce" },
                "fwnet.unit": seen.cgroup.as_deref().and_then(place::unit),
                "fwnet.cgroup": seen.cgroup.as_deref(),
                "fwnet.netns_cookie": event.netns,
                "fwnet.reporter": if inbound { "dst" } else { "src" },
            },
        }),
    );
    if let (Some(id), Some(connection)) = (id, object.get_mut("connection_info")) {
        fill(connection, json!({ "community_uid": id }));
    }
    if let Some(owner) = seen.owner {
        let process = json!({
            "pid": owner.pid,
            "tid": owner.tid,
            "name": super::comm(owner.comm),
            "file": seen.exe.as_deref().map(file),
        });
        let user = json!({ "uid": owner.uid.to_string() });
        fill(&mut object, json!({ "actor": { "process": process, "user": user } }));
    }
    container(&mut object, seen.cgroup.as_deref());
    without_nulls(object)
}

/// Flows that were alike, as one event of activity Traffic.
pub(crate) fn flows(record: &Record, host: &str, version: u64) -> Value {
    let Kind {
        direction,
        protocol,
        local,
        remote,
        port,
        process,
        verdict,
        rule,
        would,
        would_rule,
    } = &record.kind;
    let inbound = *direction == Way::In;
    let observed = rule != would_rule;
    let decided = Decided { denied: *verdict == Answer::Deny, observed, inbound };
    let mut object = activity_object(Activity::Traffic, record.last, Protocol(*protocol), &decided);
    let server =
        |address: Option<String>| json!({ "ip": address, "port": (*port != 0).then_some(port) });
    let client = |address: Option<String>| json!({ "ip": address });
    let (own, peer) = (local.map(|address| address.to_string()), Some(remote.to_string()));
    let (source, destination) =
        if inbound { (client(peer), server(own)) } else { (client(own), server(peer)) };
    fill(
        &mut object,
        json!({
            "severity_id": 1,
            "count": record.count,
            "start_time": record.first.as_millisecond(),
            "end_time": record.last.as_millisecond(),
            "src_endpoint": source,
            "dst_endpoint": destination,
            "firewall_rule": { "uid": rule, "version": version.to_string() },
            "policy": { "version": version.to_string() },
            "device": { "hostname": host, "type_id": 0 },
            "unmapped": {
                "fwnet.verdict.would": match would { Answer::Allow => "allowed", Answer::Deny => "denied" },
                "fwnet.would.rule": would_rule,
                "fwnet.mode": if observed { "audit" } else { "enforce" },
                "fwnet.unit": process.unit(),
                "fwnet.cgroup": process.cgroup,
                "fwnet.reporter": if inbound { "dst" } else { "src" },
            },
            "actor": {
                "process": {
                    "pid": (record.pid != 0).then_some(record.pid),
                    "name": (!record.name.is_empty()).then_some(&record.name),
                    "file": process.exe.as_deref().map(file),
                },
                "user": { "uid": process.user.map(|user| user.to_string()) },
            },
        }),
    );
    container(&mut object, process.cgroup.as_deref());
    without_nulls(object)
}

/// Something that happened to the policy or to the programs.
pub(crate) fn notice(notice: &Notice, host: &str) -> Value {
    let common = json!({
        "time": notice.time.as_millisecond(),
        "message": notice.text,
        "metadata": metadata(&["host"]),
        "device": { "hostname": host, "type_id": 0 },
        "unmapped": { "fwnet.action": notice.action, "fwnet.policy.version": notice.version },
    });
    let mut object = if notice.tamper {
        json!({
            "class_uid": 2004, "category_uid": 2, "activity_id": 1, "type_uid": 200_401,
            "severity_id": 4, "status_id": 1,
            "finding_info": { "uid": format!("{}-{}", notice.action, notice.time.as_millisecond()), "title": notice.text },
        })
    } else {
        json!({
            "class_uid": 5019, "category_uid": 5, "activity_id": 1, "type_uid": 501_901,
            "severity_id": 1, "status_id": 1,
        })
    };
    fill(&mut object, common);
    object
}

fn activity_object(
    activity: Activity,
    time: Timestamp,
    protocol: Protocol,
    decided: &Decided,
) -> Value {
    let (action_id, action) = decided.action();
    let (disposition_id, disposition) = decided.disposition();
    let (direction_id, direction) = if decided.inbound { (1, "Inbound") } else { (2, "Outbound") };
    json!({
        "class_uid": 4001,
        "class_name": "Network Activity",
        "category_uid": 4,
        "category_name": "Network Activity",
        "activity_id": activity as u64,
        "activity_name": activity.name(),
        "type_uid": 400_100 + activity as u64,
        "time": time.as_millisecond(),
        "status_id": if decided.denied { 2 } else { 1 },
        "status": if decided.denied { "Failure" } else { "Success" },
        "action_id": action_id,
        "action": action,
        "disposition_id": disposition_id,
        "disposition": disposition,
        "metadata": metadata(&["host", "container", "security_control"]),
        "connection_info": {
            "direction_id": direction_id,
            "direction": direction,
            "protocol_num": protocol.0,
            "protocol_name": transport(protocol),
        },
    })
}

fn metadata(profiles: &[&str]) -> Value {
    json!({
        "version": SCHEMA,
        "profiles": profiles,
        "product": { "name": "fwnet", "vendor_name": "fwnet", "version": env!("CARGO_PKG_VERSION") },
    })
}

fn end(end: Endpoint) -> Value {
    let address = (!end.address.is_unspecified()).then(|| standard(end.address).to_string());
    json!({ "ip": address, "port": (end.port != 0).then_some(end.port) })
}

/// An object of type File; 1 is a regular one.
fn file(path: &str) -> Value {
    json!({ "path": path, "name": path.rsplit('/').next(), "type_id": 1 })
}

fn container(object: &mut Value, cgroup: Option<&str>) {
    if let Some(container) = cgroup.and_then(place::container) {
        let fields = json!({ "uid": container.id, "runtime": container.runtime.word() });
        fill(object, json!({ "container": fields }));
    }
}

/// Adds the fields of `more`.
fn fill(object: &mut Value, more: Value) {
    if let (Value::Object(fields), Value::Object(more)) = (object, more) {
        fields.extend(more);
    }
}

/// The schema has no null: what is not known is not there.
fn without_nulls(value: Value) -> Value {
    let Value::Object(fields) = value else { return value };
    let known: Map<String, Value> = fields
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name, without_nulls(value)))
        .filter(|(_, value)| value.as_object().is_none_or(|fields| !fields.is_empty()))
        .collect();
    Value::Object(known)
}
