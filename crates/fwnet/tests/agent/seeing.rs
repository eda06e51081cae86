//! What an agent saw, and how it is told: events, counters, flows, and a policy drafted from them.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::net::UnixDatagram,
    process::{Child, Command, Stdio},
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
    std::thread::scope(|scope| {
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
    assert!(text.starts_with("newly denied: 10 flows by harsh"), "{text}");
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
