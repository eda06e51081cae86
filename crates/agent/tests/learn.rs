//! Whatever was recorded, the policy that is drafted from it is sound, and enforced it allows every flow that was allowed.

use std::net::IpAddr;

use agent::{
    flows::{Kind, Named, Process, Record},
    learn::learn,
    replay::replay,
};
use jiff::Timestamp;
use policy::{
    Compiled, Facts, Inventory, NoIdentities, Source, Way, check, compile, syntax::Answer,
};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::constant(1_900_000_000, 0);

fn compiled(text: &str, records: &[Record]) -> Compiled {
    let sources = [Source { name: "draft", bytes: text.as_bytes() }];
    let checked = check(&sources, None, NOW);
    assert!(!checked.diagnostics.has_errors(), "{}\n{text}", checked.render());
    let (inventory, people) = (Inventory::default(), NoIdentities);
    let named = Named::new(records, &people);
    let facts = Facts::new(&inventory, "here", &named, NOW);
    compile(&checked.policies, &facts).expect("a draft fits into an image")
}

fn enforced(draft: &str) -> String {
    assert!(draft.contains("\nmode audit\n"), "{draft}");
    draft.replace("\nmode audit\n", "\nmode enforce\n")
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u8..3, 0u8..3, any::<u8>()).prop_map(|(a, b, c)| IpAddr::from([10, a, b, c])),
        any::<u32>().prop_map(|bits| IpAddr::from(bits.to_be_bytes())),
        (0u16..3, any::<u16>()).prop_map(|(a, b)| IpAddr::from([0xfd00, 0, 0, a, 0, 0, 0, b])),
        any::<u128>().prop_map(|bits| IpAddr::from(bits.to_be_bytes())),
        Just(IpAddr::from([127, 0, 0, 1])),
        Just(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])),
    ]
}

fn process() -> impl Strategy<Value = Process> {
    let text = |texts: &'static [&'static str]| {
        prop::option::of(prop::sample::select(texts).prop_map(str::to_owned))
    };
    (
        prop::option::of(0u32..4),
        prop::option::of(0u32..4),
        text(&[
            "/usr/bin/curl",
            "/opt/with blank/\"x\"\\y",
            "/usr/bin/nginx",
            "relative",
            "/new\nline",
            "/ümlaut",
        ]),
        text(&[
            "/system.slice/nginx.service",
            "/system.slice/nginx.service/worker",
            "/user.slice/user-1.slice/user@1.service/app.slice/nginx.service",
            "/user.slice/user-1.slice/session-1.scope",
            "/docker/4f3c1a2b4f3c1a2b4f3c1a2b4f3c1a2b4f3c1a2b4f3c1a2b4f3c1a2b4f3c1a2b",
            "/docker/4f3c1a2b4f3cffff4f3c1a2b4f3c1a2b4f3c1a2b4f3c1a2b4f3c1a2b4f3c1a2b/worker",
            "/lxc.payload.web/system.slice/nginx.service",
            "/lxc.payload.web/init.scope",
            "/lxc/cafe",
            "/",
        ]),
    )
        .prop_map(|(user, group, exe, cgroup)| Process {
            user,
            group,
            exe,
            cgroup,
            ..Process::default()
        })
}

fn record() -> impl Strategy<Value = Record> {
    (
        any::<bool>(),
        prop_oneof![8 => Just(6u8), 4 => Just(17u8), 1 => any::<u8>()],
        (address(), address()),
        prop_oneof![Just(22u16), Just(53), Just(443), 1u16..100, 1024u16..],
        process(),
        prop::bool::weighted(0.9),
        (1u64..1000, "[a-z\n#\"]{0,8}"),
    )
        .prop_map(|(out, protocol, (local, remote), port, process, allowed, (count, name))| {
            Record {
                kind: Kind {
                    direction: if out { Way::Out } else { Way::In },
                    protocol,
                    local: (!out).then_some(local),
                    remote,
                    port,
                    process,
                    verdict: if allowed { Answer::Allow } else { Answer::Deny },
                    rule: "default".to_owned(),
                    would: Answer::Allow,
                    would_rule: "default".to_owned(),
                },
                name,
                pid: 1,
                count,
                first: NOW,
                last: NOW,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_enforced_draft_allows_every_flow_that_was_allowed(
        records in prop::collection::vec(record(), 0..120),
    ) {
        let allowed: Vec<Record> = records
            .iter()
            .filter(|record| record.kind.verdict == Answer::Allow)
            .cloned()
            .collect();
        let draft = learn(&records, "here");
        let candidate = compiled(&enforced(&draft), &records);
        let answer = replay(&allowed, &candidate);
        prop_assert!(answer.changes.is_empty(), "{draft}\n{:#?}", answer.changes);
        prop_assert_eq!(answer.unchanged, allowed.iter().map(|record| record.count).sum::<u64>());
    }
}

fn out(exe: &str, remote: &str, port: u16, count: u64) -> Record {
    Record {
        kind: Kind {
            direction: Way::Out,
            protocol: 6,
            local: None,
            remote: remote.parse().expect("an address"),
            port,
            process: Process { user: Some(0), exe: Some(exe.to_owned()), ..Process::default() },
            verdict: Answer::Allow,
            rule: "default-out".to_owned(),
            would: Answer::Allow,
            would_rule: "default-out".to_owned(),
        },
        name: exe.rsplit('/').next().unwrap_or_default().to_owned(),
        pid: 7,
        count,
        first: NOW,
        last: NOW,
    }
}

#[test]
fn a_draft_is_what_a_person_would_have_written() {
    let mut records = vec![
        out("/usr/bin/curl", "192.0.2.1", 443, 3),
        out("/usr/bin/git", "192.0.2.1", 443, 2),
        out("/usr/bin/curl", "192.0.2.9", 80, 1),
        out("/usr/bin/curl", "127.0.0.1", 80, 1),
    ];
    let mut denied = out("/usr/bin/nc", "198.51.100.1", 23, 40);
    denied.kind.verdict = Answer::Deny;
    records.push(denied);
    let inward = Kind {
        direction: Way::In,
        local: Some("192.0.2.7".parse().unwrap()),
        process: Process {
            user: Some(0),
            cgroup: Some("/system.slice/ssh.service".to_owned()),
            ..Process::default()
        },
        ..out("/usr/sbin/sshd", "203.0.113.5", 22, 1).kind
    };
    records.push(Record { kind: inward, name: "sshd".to_owned(), ..out("", "203.0.113.5", 22, 9) });
    assert_eq!(
        learn(&records, "web-1"),
        "\
# Drafted from 16 flows that were allowed on web-1 from 2030-03-17T17:46:40Z to 2030-03-17T17:46:40Z.
# In audit nothing is denied yet: `fwnet replay` says what this would deny, `mode enforce` denies it.
# 40 flows that were denied are left out.

tier team
mode audit

# curl, git: 5 flows
allow me[exe in (/usr/bin/curl, /usr/bin/git)] -> 192.0.2.1 : tcp/443

# curl: 1 flows
allow me[exe=/usr/bin/curl] -> 192.0.2.9 : tcp/80

# sshd: 9 flows
allow 203.0.113.5 -> me[unit=ssh.service] : tcp/22

failsafe 203.0.113.5 -> me : tcp/22

default deny in
default deny out
"
    );
}

#[test]
fn a_replay_names_the_rule_and_the_flows_that_change() {
    let records = [
        out("/usr/bin/curl", "192.0.2.1", 443, 3),
        out("/usr/bin/git", "192.0.2.2", 443, 2),
        out("/usr/bin/git", "192.0.2.3", 22, 1),
    ];
    let candidate = compiled(
        "deny me[exe=/usr/bin/git] -> any : tcp/443 id=\"no-git\"\naudit deny me -> 192.0.2.1 : any id=\"look\"\n",
        &records,
    );
    let answer = replay(&records, &candidate);
    let told: Vec<_> = answer
        .changes
        .iter()
        .map(|change| (change.rule.as_str(), change.enforced, change.count, change.records.len()))
        .collect();
    assert_eq!(told, [("look", false, 3, 1), ("no-git", true, 2, 1)]);
    assert_eq!(answer.unchanged, 1);
}

#[test]
fn who_lives_in_a_container_is_drafted_by_the_container_s_id_and_a_service_by_its_name() {
    const ID: &str = "4c01db0b339c6f1f8c5b2cbd8dbf1b6b8a4c01db0b339c6f1f8c5b2cbd8dbf1b";
    let unlike = ID.replace("339c", "33ff");
    let in_cgroup = |cgroup: &str| {
        let mut record = out("/usr/bin/curl", "192.0.2.1", 443, 1);
        record.kind.process.cgroup = Some(cgroup.to_owned());
        record
    };
    for (cgroups, expected) in [
        (vec![format!("/system.slice/docker-{ID}.scope")], "[container=4c01db0b339c]"),
        // What is below is the container's, the engine's service is not.
        (vec![format!("/docker/{ID}/worker")], "[container=4c01db0b339c]"),
        (
            vec![format!("/system.slice/containerd.service/kubepods-pod1:cri-containerd:{ID}")],
            "[container=4c01db0b339c]",
        ),
        (
            vec![format!("/docker/{ID}"), format!("/machine.slice/libpod-{unlike}.scope")],
            "[container in (4c01db0b339c, 4c01db0b33ff)]",
        ),
        // Two that nobody can tell apart by what engines show.
        (
            vec![format!("/docker/{ID}"), format!("/other/docker/{}", ID.replace("6f1f", "6fff"))],
            "",
        ),
        (vec!["/lxc.payload.web/init.scope".to_owned()], "[container=web]"),
        // A word of hexadecimal digits is no name in the language.
        (vec!["/lxc/cafe".to_owned()], "[unit=/lxc/cafe]"),
        // A service of a system in a container is further in than the container.
        (vec!["/lxc.payload.web/system.slice/nginx.service".to_owned()], "[unit=nginx.service]"),
        (vec!["/system.slice/nginx.service/worker".to_owned()], "[unit=nginx.service]"),
    ] {
        let records: Vec<Record> = cgroups.iter().map(|cgroup| in_cgroup(cgroup)).collect();
        let draft = learn(&records, "here");
        let rules: String = draft.lines().filter(|line| line.starts_with("allow")).collect();
        if expected.is_empty() {
            assert!(rules.contains("container=") && rules.contains("unit="), "{draft}");
        } else {
            assert_eq!(rules, format!("allow me{expected} -> 192.0.2.1 : tcp/443"), "{draft}");
        }
    }
}
