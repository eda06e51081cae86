//! One event on one line, for people: made of the object that machines read, so that both ends of the API can.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

/// `denied  out tcp 10.0.0.5:443  curl (pid 123, user 0, nginx.service)  no-web: deny any -> any : tcp/443`, without its
/// time; notices are their message.
///
/// Names of threads are anybody's to choose: what would control a terminal is left out.
pub(crate) fn of(object: &Value) -> String {
    spelled(object).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn spelled(object: &Value) -> String {
    let at = |path: &str| object.pointer(path).and_then(Value::as_str);
    if let Some(message) = at("/message") {
        return message.to_owned();
    }
    let (enforced, would) = (at("/fwnet/verdict/enforced"), at("/fwnet/verdict/would"));
    let verdict = match (enforced, would) {
        (Some("allowed"), Some("denied")) => "would be denied",
        (Some(verdict), _) => verdict,
        (None, _) => "unknown",
    };
    let inbound = at("/network/direction") == Some("ingress");
    let peer = end(object, if inbound { "/source" } else { "/destination" });
    let ends = if inbound {
        format!("in  {} {peer} -> {}", transport(object), end(object, "/destination"))
    } else {
        format!("out {} {peer}", transport(object))
    };
    let count = object.pointer("/fwnet/count").and_then(Value::as_u64);
    let count = count.map_or_else(String::new, |count| format!(" x{count}"));
    let rule = if verdict == "would be denied" { "/fwnet/would/rule" } else { "/rule" };
    format!("{verdict:<7} {ends}{count}  {}  {}", process(object), rule_text(object, rule))
}

/// The same with its time of day before it, as this machine's clock shows it.
pub(crate) fn timed(object: &Value) -> String {
    let time = object.get("@timestamp").and_then(Value::as_str);
    let time = time.and_then(|time| time.parse::<Timestamp>().ok());
    let shown = time.map_or_else(String::new, |time| {
        time.to_zoned(TimeZone::system()).strftime("%H:%M:%S ").to_string()
    });
    format!("{shown}{}", of(object))
}

fn transport(object: &Value) -> &str {
    object.pointer("/network/transport").and_then(Value::as_str).unwrap_or("-")
}

/// `10.0.0.5:443`, `[::1]:443`, `10.0.0.5`, `*:443`.
fn end(object: &Value, path: &str) -> String {
    let end = object.pointer(path);
    let ip = end.and_then(|end| end.get("ip")).and_then(Value::as_str).unwrap_or("*");
    let port = end.and_then(|end| end.get("port")).and_then(Value::as_u64);
    match port {
        None => ip.to_owned(),
        Some(port) if ip.contains(':') => format!("[{ip}]:{port}"),
        Some(port) => format!("{ip}:{port}"),
    }
}

fn process(object: &Value) -> String {
    let at = |path: &str| object.pointer(path);
    let text = |path: &str| at(path).and_then(Value::as_str);
    let Some(name) = text("/process/executable").or_else(|| text("/process/name")) else {
        return text("/fwnet/unit").unwrap_or("unknown process").to_owned();
    };
    let pid = at("/process/pid").and_then(Value::as_u64).map(|pid| format!("pid {pid}"));
    let user = text("/user/id").map(|user| format!("user {user}"));
    let place = text("/container/id")
        .map(|id| format!("container {}", id.get(..12).unwrap_or(id)))
        .or_else(|| text("/fwnet/unit").map(str::to_owned));
    let known: Vec<String> = [pid, user, place].into_iter().flatten().collect();
    if known.is_empty() { name.to_owned() } else { format!("{name} ({})", known.join(", ")) }
}

fn rule_text(object: &Value, path: &str) -> String {
    let rule = object.pointer(path);
    let text = |name: &str| rule.and_then(|rule| rule.get(name)).and_then(Value::as_str);
    let id = text("id").unwrap_or("-");
    match text("name") {
        Some(name) => format!("{id}: {name}"),
        None => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let mut event = json!({
            "network": { "direction": "egress", "transport": "tcp" },
            "destination": { "ip": "fd00::1", "port": 443 },
            "process": { "pid": 7, "name": "curl", "executable": "/usr/bin/curl" },
            "user": { "id": "0" },
            "rule": { "id": "r1", "name": "deny any -> any : tcp/443" },
            "fwnet": { "verdict": { "enforced": "denied", "would": "denied" }, "unit": "x.service" },
        });
        assert_eq!(
            of(&event),
            "denied  out tcp [fd00::1]:443  /usr/bin/curl (pid 7, user 0, x.service)  r1: deny any -> any : tcp/443"
        );
        event["network"]["direction"] = json!("ingress");
        event["source"] = json!({ "ip": "192.0.2.1", "port": 5 });
        event["fwnet"] = json!({ "count": 3, "verdict": { "enforced": "allowed", "would": "denied" }, "would": { "rule": { "id": "w" } } });
        assert_eq!(
            of(&event),
            "would be denied in  tcp 192.0.2.1:5 -> [fd00::1]:443 x3  /usr/bin/curl (pid 7, user 0)  w"
        );
    }
}
