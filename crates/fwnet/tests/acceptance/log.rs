//! Lines J, and what of B and F is about events: the module's text, JSON in the names of ECS, and nothing lost in silence.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    thread,
};

use doors::storm::{self, Storm};
use serde_json::Value;

use crate::shared::{
    DEADLINE, EACCES, ECONNREFUSED, Echo, Enforcing, at, connect_errno, host, on, star,
};

#[test]
fn b14_threads_on_distinct_targets_get_no_wrong_verdict_and_no_wrong_event() {
    const THREADS: u8 = 16;
    const EACH: usize = 100;
    let host = host();
    // The lower half of the targets is denied; nobody listens anywhere.
    let enforcing = Enforcing::on(&host, &["--deny", "127.1.0.0/29", "--debug", "1", "-o", "json"]);
    let targets: Vec<SocketAddr> =
        (0..THREADS).map(|number| at([127, 1, 0, number], 20_000 + u16::from(number))).collect();
    let expected = |target: SocketAddr| match target {
        SocketAddr::V4(v4) if v4.ip().octets()[3] < 8 => EACCES,
        SocketAddr::V4(_) | SocketAddr::V6(_) => ECONNREFUSED,
    };
    let by_thread: BTreeMap<u64, SocketAddr> = on(&host, || {
        thread::scope(|scope| {
            let threads: Vec<_> = targets
                .iter()
                .map(|&target| {
                    scope.spawn(move || {
                        for _ in 0..EACH {
                            assert_eq!(
                                connect_errno(&target.to_string()),
                                Some(expected(target)),
                                "{target}"
                            );
                        }
                        (
                            u64::from(
                                rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs(),
                            ),
                            target,
                        )
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    });
    assert_eq!(by_thread.len(), usize::from(THREADS));
    let events = enforcing.stop_events();
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for event in events.iter().filter(|event| event["event"]["action"] == "connect") {
        let thread = event["process"]["thread"]["id"].as_u64().unwrap();
        let target = by_thread.get(&thread).unwrap_or_else(|| panic!("nobody's event: {event:#}"));
        let told = (&event["destination"]["ip"], &event["destination"]["port"]);
        assert_eq!(
            (told.0.as_str(), told.1.as_u64()),
            (Some(target.ip().to_string().as_str()), Some(target.port().into()))
        );
        let denied = expected(*target) == EACCES;
        assert_eq!(
            event["fwnet"]["verdict"]["enforced"],
            if denied { "denied" } else { "allowed" },
            "{event:#}"
        );
        assert_eq!(
            event["rule"]["id"],
            if denied { "deny 127.1.0.0/29" } else { "default-out" },
            "{event:#}"
        );
        *counts.entry(thread).or_default() += 1;
    }
    // 1,600 events are within what is sent without a limit, so each thread has all of its own.
    assert!(
        counts.len() == usize::from(THREADS) && counts.values().all(|&count| count == EACH),
        "{counts:?}"
    );
}

#[test]
fn f4_j3_events_are_limited_counts_are_exact_and_what_is_not_shown_is_told() {
    const COUNT: u64 = 60_000;
    let host = host();
    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2", "-o", "json"]);
    let storm = Storm {
        door: doors::named("connect").unwrap(),
        target: "127.0.0.2:20000".parse().unwrap(),
        count: COUNT,
        threads: 2,
        timeout: DEADLINE,
    };
    let tally = on(&host, || storm::run(&storm));
    assert_eq!(tally.failed.get("EACCES"), Some(&COUNT), "{tally:?}");
    let lines = enforcing.stop();
    let shown = u64::try_from(lines.iter().filter(|line| line.starts_with('{')).count()).unwrap();
    let told =
        lines.iter().find(|line| line.contains("events not shown")).expect("so many are too many");
    let hidden: u64 = told.split_ascii_whitespace().find_map(|word| word.parse().ok()).unwrap();
    assert_eq!(shown + hidden, COUNT);
    assert!(hidden > 0, "a storm of {COUNT} in {:?} is beyond the limit", tally.elapsed);
    assert!(
        lines.contains(&format!("fwnet: deny 127.0.0.2 out: denied {COUNT} times")),
        "{hidden} hidden"
    );
}

#[test]
fn j1_the_lines_of_the_module_and_nothing_else_begin_with_its_mark() {
    let network = star(2);
    let [server, client] = network.hosts() else { panic!("a star of two") };
    let _port = server.namespace.inside(|| TcpListener::bind("0.0.0.0:10000")).unwrap();
    let enforcing = Enforcing::on(
        server,
        &["--deny", "10.7.0.2", "--deny", "fd07::2", "--port", "10000", "--debug", "1"],
    );
    on(server, || {
        assert_eq!(connect_errno("10.7.0.2:9"), Some(EACCES));
        assert_eq!(connect_errno("[fd07::2]:9"), Some(EACCES));
        assert_eq!(connect_errno("127.0.0.1:10000"), Some(EACCES));
        assert_eq!(connect_errno("127.0.0.1:9"), Some(ECONNREFUSED));
    });
    client.namespace.inside(|| connect_errno("10.7.0.1:10000"));
    let lines = enforcing.stop();
    let marked: Vec<&str> =
        lines.iter().filter(|line| line.starts_with('!')).map(String::as_str).collect();
    let (accepts, others): (Vec<&str>, Vec<&str>) =
        marked.iter().partition(|line| line.contains("accept from"));
    assert_eq!(
        others,
        [
            "! denied IP: 10.7.0.2",
            "! denied IP: fd07::2",
            "! denied TCP port: 10000",
            "! connect to 10.7.0.2:9",
            "! connect to 10.7.0.2:9 denied",
            "! connect to [fd07::2]:9",
            "! connect to [fd07::2]:9 denied",
            "! connect to 127.0.0.1:10000",
            "! connect to 127.0.0.1:10000 denied",
            "! connect to 127.0.0.1:9",
        ]
    );
    // The connect to the closed port was permitted to come in as well; the other peer is on both lists, and its address
    // is the first reason.
    assert_eq!(accepts.len(), 3, "{accepts:#?}");
    assert!(accepts[0].starts_with("! accept from 127.0.0.1:"), "{accepts:#?}");
    assert!(accepts[1].starts_with("! accept from 10.7.0.2:"), "{accepts:#?}");
    assert_eq!(accepts[2], format!("{} denied", accepts[1]));
    for line in lines.iter().filter(|line| !line.starts_with('!')) {
        assert!(line.starts_with("fwnet: "), "{line}");
    }
}

/// The names of acceptance line J2 as ECS has them, and whether a value is right for the event at hand.
fn check(event: &Value, facts: &[(&str, Value)]) {
    for (pointer, expected) in facts {
        assert_eq!(event.pointer(pointer), Some(expected), "{pointer} of {event:#}");
    }
    let time = event["@timestamp"].as_str().unwrap();
    assert!(time.len() >= 20 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert_eq!(event["host"]["name"], name);
    // Known to ECS, or under our own name.
    let known = [
        "@timestamp",
        "host",
        "event",
        "source",
        "destination",
        "network",
        "rule",
        "observer",
        "process",
        "user",
        "group",
        "fwnet",
    ];
    assert!(
        event.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())),
        "{event:#}"
    );
    // There is no signature on a command line: the field says so instead of being absent.
    assert!(event["fwnet"].get("signer").is_some_and(Value::is_null), "{event:#}");
}

#[test]
fn j2_events_have_every_field_under_the_names_of_ecs() {
    let network = star(2);
    let [server, client] = network.hosts() else { panic!("a star of two") };
    let enforcing = Enforcing::on(
        server,
        &["--deny", "10.7.0.2", "--port", "10000", "--debug", "1", "-o", "json"],
    );
    let echo = Echo::serve(on(server, || TcpListener::bind("0.0.0.0:20000")).unwrap());
    on(server, || {
        assert_eq!(connect_errno("10.7.0.2:80"), Some(EACCES));
        assert_eq!(connect_errno("127.0.0.1:20000"), None);
        assert_eq!(connect_errno("[::1]:10000"), Some(EACCES));
    });
    client.namespace.inside(|| connect_errno("10.7.0.1:20000"));
    testbed::wait_until(DEADLINE, "the permitted one came", || echo.came() == 1);
    let events = enforcing.stop_events();
    let find = |action: &str, address: &str, port: u16| {
        let end = if action == "accept" { "source" } else { "destination" };
        events
            .iter()
            .find(|event| {
                event["event"]["action"] == action
                    && event[end]["ip"] == address
                    && event["destination"]["port"] == port
            })
            .unwrap_or_else(|| panic!("no {action} {address}: {events:#?}"))
    };
    let cgroup = server.cgroup.path().file_name().unwrap().to_str().unwrap();
    let subject = |mut facts: Vec<(&'static str, Value)>| {
        facts.extend([
            ("/process/pid", std::process::id().into()),
            ("/user/id", "0".into()),
            ("/group/id", "0".into()),
            ("/fwnet/mode", "enforce".into()),
            ("/fwnet/cgroup", format!("/{cgroup}").into()),
            ("/rule/version", "1".into()),
            ("/event/kind", "event".into()),
            ("/network/transport", "tcp".into()),
        ]);
        facts
    };
    let denied = find("connect", "10.7.0.2", 80);
    check(
        denied,
        &subject(vec![
            ("/event/outcome", "failure".into()),
            ("/event/type", serde_json::json!(["connection", "denied"])),
            ("/event/category", serde_json::json!(["network"])),
            ("/network/direction", "egress".into()),
            ("/network/type", "ipv4".into()),
            ("/rule/id", "deny 10.7.0.2".into()),
            ("/fwnet/verdict/enforced", "denied".into()),
            ("/fwnet/verdict/would", "denied".into()),
        ]),
    );
    assert!(denied["process"]["name"].as_str().is_some_and(|name| !name.is_empty()));
    check(
        find("connect", "127.0.0.1", 20_000),
        &subject(vec![
            ("/event/outcome", "success".into()),
            ("/event/type", serde_json::json!(["connection", "allowed"])),
            ("/fwnet/verdict/enforced", "allowed".into()),
        ]),
    );
    check(
        find("connect", "::1", 10_000),
        &subject(vec![("/network/type", "ipv6".into()), ("/rule/id", "port 10000".into())]),
    );
    check(
        find("accept", "10.7.0.2", 20_000),
        &subject(vec![
            ("/event/outcome", "failure".into()),
            ("/network/direction", "ingress".into()),
            ("/rule/id", "deny 10.7.0.2".into()),
            ("/destination/ip", "10.7.0.1".into()),
        ]),
    );
}

#[test]
fn j3_no_denial_is_silent() {
    // Every door's denial is told at least once; nothing is told of what is allowed.
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.0/8"]);
    let mut expected = Vec::new();
    for (port, door) in (30_000..).zip(doors::outward()) {
        let target = format!("127.0.0.1:{port}");
        let error = on(&host, || crate::shared::through(door.name, &target)).unwrap_err();
        assert_eq!(error.errno(), Some(EACCES), "{}", door.name);
        let sent = door.name.starts_with("udp-") && door.name != "udp-connect";
        expected.push(format!("! {} to {target} denied", if sent { "send" } else { "connect" }));
    }
    assert_eq!(on(&host, || connect_errno("[::1]:20000")), None);
    let mut lines: Vec<String> =
        enforcing.stop().into_iter().filter(|line| line.ends_with(" denied")).collect();
    // io_uring may ask twice for one attempt.
    lines.dedup();
    assert_eq!(lines, expected);
}
