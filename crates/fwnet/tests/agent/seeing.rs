//! What an agent saw, and how it is told: events, counters, flows, and a policy drafted from them.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::net::UnixDatagram,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use testbed::wait_until;

use crate::{
    fixture::Bed,
    shared::{DEADLINE, EACCES, Echo, connect_errno, fwnet, host, on},
};

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    value.pointer(path).unwrap_or(&Value::Null)
}

/// `fwnet watch`, which ends with the value.
struct Watching(Child);

impl Watching {
    fn new(bed: &Bed, arguments: &[&str]) -> (Self, impl Iterator<Item = String>) {
        let mut command: Command = fwnet(&["watch", "-o", "json"]);
        command.args(arguments).arg("--socket").arg(bed.path("agent.sock"));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (Self(child), lines.map(|line| line.unwrap()))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

const POLICY: &str = "deny any -> 127.0.0.2 : tcp/20000 id=\"no-two\" reason=\"TICKET-2\"\n\
                      audit deny any -> 127.0.0.3 : any id=\"maybe-three\"\n\
                      allow any -> 127.0.0.4 : tcp/20000 id=\"four\"\n";

#[test]
fn denials_are_remembered_with_their_rule_and_counted_to_the_unit() {
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let bed = Bed::new(&host);
    let policy = bed.file("p.fwnet", POLICY);
    bed.up(&["--policy", &policy]);
    on(&host, || {
        for _ in 0..7 {
            assert_eq!(connect_errno("127.0.0.2:20000"), Some(EACCES));
        }
        for _ in 0..3 {
            assert_eq!(connect_errno("127.0.0.3:20000"), None);
        }
        assert_eq!(connect_errno("127.0.0.4:20000"), None);
    });
    let events = || json_lines(&bed.done(&["events", "-o", "json"]));
    let mut told = Vec::new();
    wait_until(DEADLINE, "the events", || {
        told = events();
        // An audited connection is one at either end.
        told.len() >= 7 + 6
    });
    let denied: Vec<&Value> =
        told.iter().filter(|event| at(event, "/rule/id") == "no-two").collect();
    assert_eq!(denied.len(), 7, "{told:#?}");
    let first = denied[0];
    for (path, wanted) in [
        ("/fwnet/verdict/enforced", "denied"),
        ("/rule/description", "TICKET-2"),
        ("/destination/ip", "127.0.0.2"),
        ("/network/direction", "egress"),
        ("/user/id", "0"),
    ] {
        assert_eq!(at(first, path), wanted, "{path} {first:#}");
    }
    assert_eq!(at(first, "/process/pid"), std::process::id());
    let own = std::env::current_exe().unwrap();
    assert_eq!(at(first, "/process/executable"), own.to_str().unwrap());

    let filtered = |arguments: &[&str]| {
        let verb: Vec<&str> = ["events", "-o", "json"].iter().chain(arguments).copied().collect();
        json_lines(&bed.done(&verb)).len()
    };
    assert_eq!(filtered(&["--verdict", "denied"]), 7);
    assert_eq!(filtered(&["--verdict", "would-deny", "--direction", "out"]), 3);
    assert_eq!(filtered(&["--peer", "127.0.0.2/32"]), 7);
    assert_eq!(filtered(&["--rule", "maybe-three", "--direction", "in"]), 3);
    assert_eq!(filtered(&["--process", "no-such-process"]), 0);
    let ocsf = json_lines(&bed.done(&["events", "-o", "json", "--format", "ocsf"]));
    assert!(ocsf.iter().all(|event| at(event, "/class_uid") == 4001), "{ocsf:#?}");
    let text = bed.done(&["events", "--verdict", "denied"]);
    assert!(text.contains("denied  out tcp 127.0.0.2:20000"), "{text}");

    let rules: Value = serde_json::from_str(&bed.done(&["rules", "-o", "json"])).unwrap();
    let count = |id: &str, direction: &str, field: &str| {
        let of = |rule: &&Value| at(rule, "/id") == id && at(rule, "/direction") == direction;
        let rule = rules.as_array().unwrap().iter().find(of).unwrap_or_else(|| panic!("{rules:#}"));
        (at(rule, field).as_u64().unwrap(), at(rule, "/last_hit").is_string())
    };
    assert_eq!(count("no-two", "out", "/hits"), (7, true));
    assert_eq!(count("maybe-three", "out", "/would"), (3, true));
    assert_eq!(count("four", "out", "/hits"), (1, true));
    assert_eq!(count("no-two", "in", "/hits"), (0, false));
    bed.refused(&["rules", "--unused", "0s"], 1);
    assert_eq!(bed.done(&["rules", "--unused", "1h", "-o", "json"]).trim(), "[]");

    let metrics = bed.get("/metrics");
    for wanted in [
        "fwnet_agent_connections_total{direction=\"out\",verdict=\"denied\"} 7\n",
        "fwnet_agent_would_deny_total{direction=\"out\"} 3\n",
        "fwnet_agent_rule_hits_total{direction=\"out\",verdict=\"deny\",rule=\"no-two\",mode=\"enforce\"} 7\n",
        "fwnet_agent_bpf_program_attached{hook=\"cgroup/connect4\"} 1\n",
        "fwnet_agent_events_lost_total{stage=\"ringbuf\"} 0\n",
        "fwnet_agent_policy_version 1\n",
    ] {
        assert!(metrics.contains(wanted), "{wanted} is not in\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
}

#[test]
fn events_come_as_they_happen_and_allowed_ones_while_somebody_looks() {
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.2"]);
    let (_denied, mut denied) = Watching::new(&bed, &["--verdict", "denied"]);
    let (_allowed, mut allowed) =
        Watching::new(&bed, &["--verdict", "allowed", "--direction", "out"]);
    // Both follow once the agent says so in its figures: by the events that reach them.
    let (to_denied, to_allowed) = ("127.0.0.2:20000", "127.0.0.1:20000");
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            on(&host, || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    assert_eq!(connect_errno(to_denied), Some(EACCES));
                    assert_eq!(connect_errno(to_allowed), None);
                }
            });
        });
        let one: Value = serde_json::from_str(&denied.next().unwrap()).unwrap();
        let other: Value = serde_json::from_str(&allowed.next().unwrap()).unwrap();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(at(&one, "/destination/ip"), "127.0.0.2");
        assert_eq!(at(&other, "/destination/ip"), "127.0.0.1");
        assert_eq!(at(&other, "/fwnet/verdict/enforced"), "allowed");
    });
    // What only a follower asked for is not remembered for others.
    let remembered = json_lines(&bed.done(&["events", "-o", "json"]));
    assert!(remembered.iter().all(|event| at(event, "/fwnet/verdict/enforced") == "denied"));
}

#[test]
fn a_policy_is_drafted_from_what_was_seen_and_a_candidate_is_held_against_it() {
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.2"]);
    // Not loopback, which needs no rule.
    host.namespace.add_address("lo", "192.0.2.1/32");
    on(&host, || {
        for _ in 0..5 {
            assert_eq!(connect_errno("192.0.2.1:20000"), None);
        }
        assert_eq!(connect_errno("127.0.0.2:20000"), Some(EACCES));
    });
    let draft = bed.done(&["learn", "--since", "1h"]);
    let own = std::env::current_exe().unwrap();
    let rule = format!("me[exe={}] -> 192.0.2.1 : tcp/20000", own.to_str().unwrap());
    assert!(draft.contains(&rule) && draft.contains("\nmode audit\n"), "{draft}");
    assert!(draft.contains("1 flows that were denied are left out"), "{draft}");
    let path = bed.file("draft.fwnet", &draft);
    let check = fwnet(&["check", &path]).output().unwrap();
    assert!(check.status.success(), "{check:?}");

    // As it is, the draft changes nothing but the verdict on what it does not know: the denied flow.
    let enforced = bed.file("enforced.fwnet", &draft.replace("mode audit", "mode enforce"));
    let answer = bed.call(&["replay", &enforced, "--since", "1h", "-o", "json"]);
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let changes = at(&answer, "/changes").as_array().unwrap();
    // The one that was denied is within loopback, where nothing needs a rule.
    assert_eq!(changes.len(), 1, "{answer:#}");
    assert_eq!(at(&changes[0], "/verdict"), "allow");

    let harsh = bed.file(
        "harsh.fwnet",
        "deny any -> 192.0.2.1 : tcp/20000 id=\"harsh\"\ndeny any -> 127.0.0.2\n",
    );
    let answer = bed.call(&["replay", &harsh, "--since", "1h"]);
    assert_eq!(answer.status.code(), Some(1));
    let text = String::from_utf8(answer.stdout).unwrap();
    assert!(text.starts_with("newly denied: ") && text.contains(" by harsh"), "{text}");
    assert!(text.contains("\n    5 x out tcp 192.0.2.1:20000"), "{text}");
    // A segment that comes after its connection has ended is looked up like a first one: there may be more than five.
    let inbound = text.lines().find_map(|line| line.split_once(" x in tcp from 192.0.2.1 to port"));
    let inbound: u32 = inbound.expect("a line of what came in").0.trim().parse().unwrap();
    assert!(inbound >= 5, "{text}");
    let same = bed.file("same.fwnet", "deny any -> 127.0.0.2\n");
    assert_eq!(bed.call(&["replay", &same, "--since", "1h"]).status.code(), Some(0));
}

#[test]
fn events_go_to_a_file_and_to_the_journal() {
    let host = host();
    let bed = Bed::new(&host);
    let journal = UnixDatagram::bind(bed.path("journal.sock")).unwrap();
    journal.set_read_timeout(Some(DEADLINE)).unwrap();
    let file = bed.path("events.json");
    bed.up(&[
        "--deny",
        "127.0.0.2",
        "--events-file",
        file.to_str().unwrap(),
        "--events-format",
        "ocsf",
        "--journal",
        bed.path("journal.sock").to_str().unwrap(),
    ]);
    on(&host, || assert_eq!(connect_errno("127.0.0.2:20000"), Some(EACCES)));
    let mut buffer = vec![0; 1 << 16];
    let length = journal.recv(&mut buffer).unwrap();
    let told = String::from_utf8_lossy(&buffer[..length]).into_owned();
    assert!(told.starts_with("MESSAGE=denied  out tcp 127.0.0.2:20000"), "{told}");
    let mut written = Vec::new();
    wait_until(DEADLINE, "a line in the file", || {
        written = json_lines(&fs::read_to_string(&file).unwrap_or_default());
        !written.is_empty()
    });
    assert_eq!(at(&written[0], "/class_uid"), 4001);
    assert_eq!(at(&written[0], "/dst_endpoint/ip"), "127.0.0.2");
}

/// Denied ports of `127.0.0.2`, one event each, in their order.
fn ports(events: &[Value]) -> Vec<u64> {
    let denied = events.iter().filter(|event| at(event, "/fwnet/verdict/enforced") == "denied");
    denied.map(|event| at(event, "/destination/port").as_u64().unwrap()).collect()
}

fn deny_ports(ports: std::ops::Range<u16>) {
    for port in ports {
        assert_eq!(connect_errno(&format!("127.0.0.2:{port}")), Some(EACCES));
    }
}

#[test]
fn an_event_file_that_is_moved_away_loses_no_line() {
    let host = host();
    let bed = Bed::new(&host);
    let file = bed.path("events.json");
    bed.up(&["--deny", "127.0.0.2", "--events-file", file.to_str().unwrap()]);
    const EACH: u16 = 400;
    const TURNS: u16 = 6;
    let moved = |turn: u16| bed.path(&format!("events.json-{turn}"));
    thread::scope(|scope| {
        scope.spawn(|| on(&host, || deny_ports(20_000..20_000 + EACH * TURNS)));
        for turn in 0..TURNS {
            // As logrotate(8) does it: the file is moved, and then the agent is told.
            wait_until(DEADLINE, "a line", || fs::metadata(&file).is_ok_and(|it| it.len() > 0));
            fs::rename(&file, moved(turn)).unwrap();
            rustix::process::kill_process(bed.pid(), rustix::process::Signal::HUP).unwrap();
            wait_until(DEADLINE, "the new file", || file.exists());
            // The next turn has something to move.
            on(&host, || deny_ports(40_000 + turn..40_001 + turn));
        }
    });
    let wanted: Vec<u64> = (20_000..20_000 + u64::from(EACH * TURNS))
        .chain((40_000..40_000 + u64::from(TURNS)).collect::<Vec<_>>())
        .collect();
    let mut found = Vec::new();
    wait_until(DEADLINE, "every line", || {
        let files = (0..TURNS).map(moved).chain([file.clone()]);
        let texts: Vec<String> = files.map(|file| fs::read_to_string(file).unwrap()).collect();
        // A line that is being written has no end yet.
        if texts.iter().any(|text| !text.is_empty() && !text.ends_with('\n')) {
            return false;
        }
        found = texts.iter().flat_map(|text| ports(&json_lines(text))).collect();
        found.sort_unstable();
        found.len() >= wanted.len()
    });
    assert_eq!(found, wanted);
}

#[test]
fn events_are_paged_through_beyond_what_is_in_memory_and_past_a_restart() {
    const COUNT: u16 = 6_000;
    const STEP: Duration = Duration::from_millis(60);
    let host = host();
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.2"]);
    // Slower than the limit of the kernel programs, 10,000 a second: that one is not meant here.
    let begun = Instant::now();
    for (first, turn) in (10_000..10_000 + COUNT).step_by(500).zip(0..) {
        thread::sleep((begun + STEP * turn).saturating_duration_since(Instant::now()));
        on(&host, || deny_ports(first..first + 500));
        let wanted = usize::from(first + 500 - 10_000);
        wait_until(DEADLINE, "the events", || {
            let last = format!("/v1/events?after={}", wanted - 1);
            bed.get(&last).contains("{\"@timestamp\"")
        });
    }
    let all: Vec<u64> = (10_000..10_000 + u64::from(COUNT)).collect();
    let told = |verb: &[&str]| ports(&json_lines(&bed.done(verb)));
    assert_eq!(told(&["events", "--since", "1h", "-o", "json"]), all);
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let page = bed.get(&format!("/v1/events?limit=700&after={after}"));
        // The answer comes in chunks, whose lengths stand between the lines.
        let lines: Vec<&str> = page.lines().filter(|line| line.starts_with('{')).collect();
        let page = json_lines(&lines.join("\n"));
        let (last, page) = page.split_last().unwrap();
        found.extend(ports(page));
        after = last["next"].as_u64().unwrap();
        if last["more"] == false {
            break;
        }
        assert_eq!(page.len(), 700);
    }
    assert_eq!(found, all);
    // One page for people, which says where the next one begins.
    let page = bed.call(&["events", "--since", "1h", "-n", "10", "--after", "100", "-o", "json"]);
    assert_eq!(ports(&json_lines(&crate::shared::text(&page))), all[100..110]);
    let said = crate::shared::complaint(&page);
    assert_eq!(said.trim(), "fwnet: there may be more: --after 110");
    let one =
        told(&["events", "--since", "1h", "--rule", "deny 127.0.0.2", "-n", "3", "-o", "json"]);
    assert!(one.len() <= 3, "{one:?}");
    assert_eq!(told(&["events", "--since", "0s", "-o", "json"]), Vec::<u64>::new());
    // The next agent knows what this one saw, and goes on counting.
    bed.signal(rustix::process::Signal::TERM);
    bed.start_again();
    assert_eq!(told(&["events", "--since", "1h", "-o", "json"]), all);
    on(&host, || deny_ports(9_000..9_001));
    let mut last = Vec::new();
    wait_until(DEADLINE, "one more", || {
        last = told(&["events", "--since", "1h", "--after", "5998", "-o", "json"]);
        last.len() >= 3
    });
    assert_eq!(last, [15_998, 15_999, 9_000]);
}

#[test]
fn what_happens_to_the_policy_is_an_event_too() {
    let host = host();
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.2"]);
    let policy = bed.file("p.fwnet", "deny any -> 127.0.0.3\n");
    bed.done(&["apply", &policy, "--yes"]);
    let told = json_lines(&bed.done(&["events", "-o", "json"]));
    let actions: Vec<&str> =
        told.iter().filter_map(|event| at(event, "/event/action").as_str()).collect();
    assert!(actions.contains(&"policy-applied"), "{told:#?}");
    let applied = told.iter().find(|event| at(event, "/event/action") == "policy-applied").unwrap();
    assert_eq!(at(applied, "/message"), "version 2 is in force (by user 0)");
    assert_eq!(at(applied, "/event/category/0"), "configuration");
    let denied = json_lines(&bed.done(&["events", "-o", "json", "--verdict", "denied"]));
    assert!(denied.is_empty(), "a filter is about flows: {denied:#?}");
}
