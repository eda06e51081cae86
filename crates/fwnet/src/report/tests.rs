//! Events as machines read them: every field that is known, by its name.

use kernel::Door;
use serde_json::json;
use verdict::{Address, Decision, Judgement, RuleNumber};

use super::*;

const TIME: Timestamp = Timestamp::constant(1_900_000_000, 0);
const ID: &str = "4f3c1a2b4f3c1a2b4f3c1a2b4f3c1a2b4f3c1a2b4f3c1a2b4f3c1a2b4f3c1a2b";

fn reason(id: &str) -> Arc<Reason> {
    Arc::new(Reason {
        id: id.to_owned(),
        text: Some("deny any -> me : tcp/22".to_owned()),
        place: Some("/etc/fwnet/shop.fwnet:7".to_owned()),
        reason: Some("TICKET-17".to_owned()),
    })
}

fn seen(direction: Direction, enforced: Verdict, would: Verdict) -> Seen {
    let judgement = |verdict, rule| Judgement { verdict, rule: RuleNumber(rule) };
    let mut comm = [0; 16];
    comm[..4].copy_from_slice(b"sshd");
    Seen {
        event: Event {
            time_ns: 1,
            socket: 2,
            netns: 3,
            door: if direction == Direction::In { Door::Lookup } else { Door::Connect },
            direction,
            protocol: Protocol::TCP,
            local: Endpoint { address: Address::v4(0x4223_facc), port: 80 },
            remote: Endpoint { address: Address::v4(0x80e8_6e78), port: 34855 },
            decision: Decision {
                enforced: judgement(enforced, 1),
                would: judgement(would, if enforced == would { 1 } else { 2 }),
            },
            generation: Some(4),
            owner: None,
        },
        time: TIME,
        owner: Some(Owner { cgroup: 9, exe: 8, pid: 7, tid: 6, uid: 5, gid: 4, comm }),
        cgroup: Some(format!("/system.slice/docker-{ID}.scope").into()),
        exe: Some("/usr/sbin/sshd".into()),
        rule: reason("no-ssh"),
        would: reason("would-be"),
        version: 12,
        host: "web-1".into(),
    }
}

#[test]
fn an_event_has_every_field_of_the_common_schema_that_is_known() {
    let object = ecs::event(&seen(Direction::In, Verdict::Deny, Verdict::Deny));
    let at = |path: &str| object.pointer(path).cloned().unwrap_or_default();
    let rows = [
        ("/@timestamp", json!("2030-03-17T17:46:40Z")),
        ("/event/kind", json!("event")),
        ("/event/category", json!(["network"])),
        ("/event/type", json!(["connection", "denied"])),
        ("/event/action", json!("accept")),
        ("/event/outcome", json!("failure")),
        ("/source/ip", json!("128.232.110.120")),
        ("/source/port", json!(34855)),
        ("/destination/ip", json!("66.35.250.204")),
        ("/destination/port", json!(80)),
        ("/network/direction", json!("ingress")),
        ("/network/transport", json!("tcp")),
        ("/network/type", json!("ipv4")),
        ("/network/community_id", json!("1:LQU9qZlK+B5F3KDmev6m5PMibrg=")),
        ("/process/pid", json!(7)),
        ("/process/name", json!("sshd")),
        ("/process/executable", json!("/usr/sbin/sshd")),
        ("/user/id", json!("5")),
        ("/container/id", json!(ID)),
        ("/container/runtime", json!("docker")),
        ("/rule/id", json!("no-ssh")),
        ("/rule/name", json!("deny any -> me : tcp/22")),
        ("/rule/ruleset", json!("/etc/fwnet/shop.fwnet")),
        ("/rule/reference", json!("/etc/fwnet/shop.fwnet:7")),
        ("/rule/version", json!("12")),
        ("/rule/description", json!("TICKET-17")),
        ("/observer/vendor", json!("fwnet")),
        ("/host/name", json!("web-1")),
        ("/fwnet/verdict/enforced", json!("denied")),
        ("/fwnet/verdict/would", json!("denied")),
        ("/fwnet/mode", json!("enforce")),
        ("/fwnet/unit", json!(format!("docker-{ID}.scope"))),
        ("/fwnet/reporter", json!("dst")),
    ];
    for (path, wanted) in rows {
        assert_eq!(at(path), wanted, "{path}");
    }
}

#[test]
fn an_event_is_network_activity_with_the_words_of_security_controls() {
    let rows = [
        (Direction::In, Verdict::Deny, Verdict::Deny, (400_105, 2, 25, 2)),
        (Direction::Out, Verdict::Deny, Verdict::Deny, (400_104, 2, 2, 2)),
        (Direction::Out, Verdict::Allow, Verdict::Allow, (400_101, 1, 1, 1)),
        (Direction::Out, Verdict::Allow, Verdict::Deny, (400_101, 3, 17, 1)),
    ];
    for (direction, enforced, would, (kind, action, disposition, status)) in rows {
        let object = ocsf::event(&seen(direction, enforced, would));
        let told = ["type_uid", "action_id", "disposition_id", "status_id"]
            .map(|name| object.get(name).and_then(Value::as_u64).unwrap_or_default());
        assert_eq!(told, [kind, action, disposition, status], "{object:#}");
    }
    let object = ocsf::event(&seen(Direction::In, Verdict::Deny, Verdict::Deny));
    let at = |path: &str| object.pointer(path).cloned().unwrap_or_default();
    let rows = [
        ("/class_uid", json!(4001)),
        ("/category_uid", json!(4)),
        ("/activity_name", json!("Refuse")),
        ("/time", json!(1_900_000_000_000_u64)),
        ("/metadata/profiles", json!(["host", "container", "security_control"])),
        ("/connection_info/community_uid", json!("1:LQU9qZlK+B5F3KDmev6m5PMibrg=")),
        ("/connection_info/direction_id", json!(1)),
        ("/connection_info/protocol_num", json!(6)),
        ("/src_endpoint/ip", json!("128.232.110.120")),
        ("/dst_endpoint/port", json!(80)),
        ("/firewall_rule/uid", json!("no-ssh")),
        ("/firewall_rule/version", json!("12")),
        ("/actor/process/file/path", json!("/usr/sbin/sshd")),
        ("/actor/process/pid", json!(7)),
        ("/actor/user/uid", json!("5")),
        ("/container/uid", json!(ID)),
        ("/device/hostname", json!("web-1")),
    ];
    for (path, wanted) in rows {
        assert_eq!(at(path), wanted, "{path}");
    }
}

#[test]
fn a_line_of_text_names_the_container_or_the_unit_as_a_rule_would() {
    let mut seen = seen(Direction::In, Verdict::Deny, Verdict::Deny);
    let line = "! accept from 128.232.110.120:34855 denied";
    assert_eq!(text::lines(&seen, 0), format!("{line} [container={}]\n", &ID[..12]));
    seen.cgroup = Some("/system.slice/nginx.service/worker".into());
    assert_eq!(text::lines(&seen, 0), format!("{line} [unit=nginx.service]\n"));
    for nowhere in [Some("/user.slice".into()), None] {
        seen.cgroup = nowhere;
        assert_eq!(text::lines(&seen, 0), format!("{line}\n"));
    }
}
