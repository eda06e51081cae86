//! The file changes while it is enforced: swapped whole or not at all.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    net::UdpSocket,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use serde_json::Value;
use testbed::{Host, Network, Running};

use crate::{
    document::Document,
    shared::{DEADLINE, EACCES, ECONNREFUSED, Echo, Enforcing, connect_errno, on},
};

/// Allowed and denied by every policy here: 127.0.0.1 and .2 outbound, the ports 20000 and 20001 inbound.
const ALWAYS: &str = "deny any -> 127.0.0.2\ndeny 10.7.0.2 -> me : tcp/20001\n";

/// What somebody who tries all the time saw: attempts, and wrong verdicts among them.
#[derive(Debug, Default)]
struct Seen {
    attempts: AtomicUsize,
    wrong: AtomicUsize,
}

impl Seen {
    fn expect(&self, right: bool) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        self.wrong.fetch_add(usize::from(!right), Ordering::Relaxed);
    }
}

/// What the clients of [`hammered`] connect to.
fn servers(host: &Host) -> [Echo; 2] {
    ["[::]:20000", "[::]:20001"].map(|address| Echo::tcp(&host.namespace, address))
}

/// Does `work` while clients in both directions, and a sender of datagrams, try what is always allowed and what is
/// always denied; every kind of attempt is made at least once after the work as well. No verdict may be wrong.
#[track_caller]
fn hammered(network: &Network, work: impl FnOnce() + Send) {
    let [host, peer] = network.hosts() else { panic!("a star of two") };
    let ended = AtomicBool::new(false);
    let seen = [Seen::default(), Seen::default(), Seen::default()];
    let [out, datagrams, inward] = &seen;
    let each = |attempt: &dyn Fn()| {
        while !ended.load(Ordering::SeqCst) {
            attempt();
        }
        attempt();
    };
    on(host, || {
        thread::scope(|scope| {
            scope.spawn(|| {
                each(&|| {
                    out.expect(connect_errno("127.0.0.1:20000").is_none());
                    out.expect(connect_errno("127.0.0.2:20000") == Some(EACCES));
                });
            });
            scope.spawn(|| {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                let errno = |to: &str| {
                    socket.send_to(b"x", to).err().and_then(|error| error.raw_os_error())
                };
                each(&|| {
                    // Nobody reads there: that is told to the next call on the socket, and no verdict.
                    datagrams.expect(matches!(errno("127.0.0.1:9"), None | Some(ECONNREFUSED)));
                    datagrams.expect(matches!(errno("127.0.0.2:9"), Some(EACCES | ECONNREFUSED)));
                });
            });
            scope.spawn(|| {
                peer.namespace.inside(|| {
                    each(&|| {
                        inward.expect(connect_errno("10.7.0.1:20000").is_none());
                        inward.expect(connect_errno("10.7.0.1:20001") == Some(ECONNREFUSED));
                    });
                });
            });
            work();
            ended.store(true, Ordering::SeqCst);
        });
    });
    for seen in &seen {
        assert_eq!(seen.wrong.load(Ordering::SeqCst), 0, "{seen:?}");
        assert!(seen.attempts.load(Ordering::SeqCst) >= 4, "{seen:?}");
    }
}

#[test]
fn a_swap_shows_no_verdict_of_neither_policy() {
    let network = Network::star(2);
    let host = &network.hosts()[0];
    let _servers = servers(host);
    // The same rules among others: other numbers, other classes, and defaults that are the contrary. The clients in the
    // other namespace are processes of this cgroup, so what they try is judged when they connect, too.
    let first = format!("{ALWAYS}deny any -> 192.0.2.0/24, 2001:db8::/32 : tcp/1-1000\n");
    let second = format!(
        "deny any -> 198.51.100.0/24 : tcp/443\nallow any -> 127.0.0.1, ::1\n\
         allow any -> me : tcp/20000-20001\n{ALWAYS}default deny in\ndefault deny out\n"
    );
    let document = Document::new(&first);
    let enforcing = document.enforce(host, &[]);
    hammered(&network, || {
        for version in 2..=51 {
            let policy = if version % 2 == 0 { &second } else { &first };
            document.swap(&enforcing, policy, version);
        }
    });
    enforcing.stop();
}

/// `count` distinct prefixes, all in 100.64.0.0/10 and 2001:db8::/32, spread by a multiplicative generator.
fn prefixes(count: u32) -> String {
    let mut seen = BTreeSet::new();
    let mut state = 1u32;
    while seen.len() < count as usize {
        // Knuth's MMIX generator cut to 32 bits: what matters is that the prefixes share no nodes of the trie.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seen.insert(state >> 4);
    }
    let mut text = String::new();
    let mut names = Vec::new();
    for (number, chunk) in seen.into_iter().collect::<Vec<_>>().chunks(2_000).enumerate() {
        write!(text, "name many-{number} = ").unwrap();
        let list: Vec<_> = chunk
            .iter()
            .map(|bits| format!("2001:db8:{:x}:{:x}::/64", bits >> 12, bits & 0xfff))
            .collect();
        writeln!(text, "{}", list.join(", ")).unwrap();
        names.push(format!("many-{number}"));
    }
    writeln!(text, "deny any -> {}  id=\"many\"", names.join(", ")).unwrap();
    text
}

#[test]
fn a_policy_larger_than_the_slot_is_loaded_beside_without_a_gap() {
    let network = Network::star(2);
    let host = &network.hosts()[0];
    let _servers = servers(host);
    let many = prefixes(20_000);
    let large = format!("{ALWAYS}{many}");
    let document = Document::new(ALWAYS);
    let enforcing = document.enforce(host, &[]);
    let small = enforcing.held();
    hammered(&network, || document.swap(&enforcing, &large, 2));
    let beside = enforcing.held();
    assert!(
        small.programs.is_disjoint(&beside.programs) && small.links.is_disjoint(&beside.links),
        "{small:?} {beside:?}"
    );
    let alive = small.alive();
    assert!(alive.programs.is_empty() && alive.links.is_empty(), "{alive:?}");
    // Whichever prefix is taken, it is enforced; what is beside it is not, but there is no route to it.
    let prefix =
        |line: &str| line.split_once("::/64").unwrap().0.rsplit(' ').next().map(str::to_owned);
    for line in many.lines().filter(|line| line.starts_with("name ")) {
        let target = format!("[{}::1]:80", prefix(line).unwrap());
        assert_eq!(on(host, || connect_errno(&target)), Some(EACCES), "{target}");
    }
    assert_ne!(on(host, || connect_errno("[2001:db9::1]:80")), Some(EACCES));
    // And back: the larger slots hold the smaller policy, too.
    hammered(&network, || document.swap(&enforcing, ALWAYS, 3));
    assert_eq!(enforcing.held(), beside);
    let lines = enforcing.stop();
    assert!(lines.iter().any(|line| line == "fwnet: many out: denied 10 times"), "{lines:#?}");
}

#[test]
fn a_file_that_does_not_compile_changes_nothing_and_says_where() {
    let host = Host::new();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let document = Document::new("deny any -> 127.0.0.2\n");
    let path = document.path();
    let mut running = begin(&host, &path);
    running.wait_for_line("fwnet: enforcing", DEADLINE);
    let denied = |address: &str| on(&host, || connect_errno(&format!("{address}:20000")));
    let refused = |says: &[&str]| {
        let seen = running.lines().len();
        running.signal(Signal::HUP);
        running.wait_for_line_after(seen, "nothing is changed, version 1 stays", DEADLINE);
        let lines = running.lines().split_off(seen);
        for says in says {
            assert!(lines.iter().any(|line| line.contains(says)), "{says}: {lines:#?}");
        }
        assert_eq!((denied("127.0.0.2"), denied("127.0.0.1")), (Some(EACCES), None));
    };
    document.write("deny any -> 127.0.0.1\ndeny any -> wbe : tcp/22\n");
    refused(&["wbe", "p.fwnet:2:13"]);
    document.write("deny any -> 127.0.0.1 : tcp/70000\n");
    refused(&["70000", "p.fwnet:1:"]);
    fs::remove_file(&path).unwrap();
    refused(&["p.fwnet", "No such file"]);
    // And what is right again is enforced, as the next version.
    document.write("deny any -> 127.0.0.1\n");
    running.signal(Signal::HUP);
    running.wait_for_line("(version 2)", DEADLINE);
    assert_eq!((denied("127.0.0.2"), denied("127.0.0.1")), (None, Some(EACCES)));
    running.signal(Signal::INT);
    assert!(running.wait(DEADLINE).success());
}

/// Starts `fwnet run` with a policy that may be no good.
fn begin(host: &Host, policy: &Path) -> Running {
    let arguments = ["--policy", policy.to_str().unwrap()];
    Enforcing::begin(&host.cgroup, &[&host.namespace], &arguments)
}

#[test]
fn a_file_that_does_not_compile_enforces_nothing_at_the_start() {
    let host = Host::new();
    let document = Document::new("deny any -> wbe : tcp/22\n");
    let path = document.path();
    let mut running = begin(&host, &path);
    let status = running.wait(DEADLINE);
    let lines = running.lines();
    assert_eq!(status.code(), Some(1), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("p.fwnet:1:13")), "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains("enforcing")), "{lines:#?}");
}

#[test]
fn a_rule_with_an_end_ends_on_time_and_by_itself() {
    let host = Host::new();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let rules =
        |end: Timestamp| format!("deny any -> 127.0.0.2 until {end}\ndeny any -> 127.0.0.3\n");
    let whole_seconds =
        |ahead| Timestamp::from_second(Timestamp::now().as_second() + ahead).unwrap();
    let document = Document::new(&rules(whole_seconds(3_600)));
    let enforcing = document.enforce(&host, &[]);
    let denied =
        |address: &str| on(&host, || connect_errno(&format!("{address}:20000"))) == Some(EACCES);
    assert!(denied("127.0.0.2") && denied("127.0.0.3"));
    // The end comes nearer: more than a second is left when the file is read, on all but the busiest machine.
    let end = whole_seconds(3);
    document.swap(&enforcing, &rules(end), 2);
    while denied("127.0.0.2") {
        let late = Timestamp::now().duration_since(end);
        assert!(late < SignedDuration::from_secs(10), "the rule does not end");
        thread::sleep(Duration::from_millis(5));
    }
    assert!(Timestamp::now() >= end, "the rule ended before {end}");
    assert!(denied("127.0.0.3"));
    let lines = enforcing.stop();
    let versions = lines.iter().filter(|line| line.contains("now enforcing")).count();
    assert!(versions <= 2, "read once for the signal and once at the end: {lines:#?}");
}

#[test]
fn an_event_names_the_rule_of_the_version_that_judged_it() {
    let host = Host::new();
    // Rule number and name change places with each version.
    let odd = "deny any -> 127.0.0.2  id=\"odd\"\ndeny any -> 127.0.0.3  id=\"other\"\n";
    let even = "deny any -> 127.0.0.3  id=\"other\"\ndeny any -> 127.0.0.2  id=\"even\"\n";
    let document = Document::new(odd);
    let enforcing = document.enforce(&host, &["-o", "json"]);
    for version in 1..=6 {
        if version > 1 {
            document.swap(&enforcing, if version % 2 == 0 { even } else { odd }, version);
        }
        assert_eq!(on(&host, || connect_errno("127.0.0.2:20000")), Some(EACCES));
        enforcing.line(&format!("\"version\":\"{version}\""));
    }
    let lines = enforcing.stop();
    let events: Vec<Value> = lines
        .iter()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.len(), 6, "each denial is told once");
    for (event, version) in events.iter().zip(1..) {
        let id = if version % 2 == 1 { "odd" } else { "even" };
        let seen = (event["rule"]["id"].as_str(), event["fwnet"]["generation"].as_u64());
        assert_eq!(seen, (Some(id), Some(version)), "{event:#}");
    }
    for id in ["odd", "even"] {
        let line = format!("fwnet: {id} out: denied 3 times");
        assert!(lines.contains(&line), "{line}: {:#?}", lines.last_chunk::<8>());
    }
}

#[test]
fn an_event_keeps_the_name_of_the_rule_that_judged_it() {
    let host = Host::new();
    // Rule number and name change places with each version.
    let odd = "deny any -> 127.0.0.2  id=\"odd\"\ndeny any -> 127.0.0.3  id=\"other\"\n";
    let even = "deny any -> 127.0.0.3  id=\"other\"\ndeny any -> 127.0.0.2  id=\"even\"\n";
    let document = Document::new(odd);
    let enforcing = document.enforce(&host, &["-o", "json"]);
    let ended = AtomicBool::new(false);
    let tried = on(&host, || {
        thread::scope(|scope| {
            let knocking = scope.spawn(|| {
                let mut tried = 0usize;
                while !ended.load(Ordering::SeqCst) {
                    assert_eq!(connect_errno("127.0.0.2:20000"), Some(EACCES));
                    tried += 1;
                    // Fewer than the rate limit of events.
                    thread::sleep(Duration::from_micros(200));
                }
                tried
            });
            for version in 2..=21 {
                document.swap(&enforcing, if version % 2 == 0 { even } else { odd }, version);
            }
            ended.store(true, Ordering::SeqCst);
            knocking.join().unwrap()
        })
    });
    let lines = enforcing.stop();
    let events: Vec<Value> = lines
        .iter()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.len(), tried, "each denial is told once");
    for event in &events {
        let version: u64 = event["rule"]["version"].as_str().unwrap().parse().unwrap();
        let generation = event["fwnet"]["generation"].as_u64().unwrap();
        let id = if generation % 2 == 1 { "odd" } else { "even" };
        assert_eq!((event["rule"]["id"].as_str(), version), (Some(id), generation), "{event:#}");
    }
    // And as many are counted under each name.
    for id in ["odd", "even"] {
        let events = events.iter().filter(|event| event["rule"]["id"] == id).count();
        let line = format!("fwnet: {id} out: denied {events} times");
        assert!(lines.contains(&line), "{line}: {:#?}", lines.last_chunk::<8>());
    }
}

#[test]
fn what_was_learnt_outlives_a_swap_to_larger_tables() {
    let network = Network::star(2);
    let [host, peer] = network.hosts() else { panic!("a star of two") };
    let rules = "default deny in\nallow any -> me[user=root] : tcp/20002\n";
    let document = Document::new(rules);
    let enforcing = document.enforce(host, &[]);
    let _listener = on(host, || std::net::TcpListener::bind("[::]:20002")).unwrap();
    let asking = on(host, || UdpSocket::bind("10.7.0.1:30000")).unwrap();
    asking.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let asked = peer.namespace.inside(|| UdpSocket::bind("10.7.0.2:53")).unwrap();
    on(host, || asking.send_to(b"question", "10.7.0.2:53")).unwrap();
    let errno = || peer.namespace.inside(|| connect_errno("10.7.0.1:20002"));
    assert_eq!(errno(), None);
    document.swap(&enforcing, &format!("{rules}{}", prefixes(20_000)), 2);
    asked.send_to(b"answer", "10.7.0.1:30000").unwrap();
    let answered = asking.recv(&mut [0; 16]).is_ok();
    assert_eq!((errno(), answered), (None, true), "(the listener is known, the answer comes in)");
    enforcing.stop();
}

#[test]
fn an_address_that_comes_later_is_me_and_one_that_no_rule_means_is_not_told() {
    let network = Network::star(2);
    let [host, _peer] = network.hosts() else { panic!("a star of two") };
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let document = Document::new("deny me -> me : tcp/20000\n");
    let enforcing = document.enforce(host, &[]);
    let errno = || on(host, || connect_errno("10.9.9.9:20000"));
    assert_ne!(errno(), Some(EACCES));
    host.namespace.add_address("lo", "10.9.9.9/32");
    enforcing.line("fwnet: an address of this host came or went: enforcing");
    assert_eq!(errno(), Some(EACCES));
    document.swap(&enforcing, "deny any -> 127.0.0.2\n", 3);
    host.namespace.add_address("lo", "10.9.9.10/32");
    // What comes after it is heard after it.
    document.swap(&enforcing, "deny any -> 127.0.0.3\n", 4);
    let told = enforcing.stop();
    assert_eq!(told.iter().filter(|line| line.contains("came or went")).count(), 1, "{told:#?}");
}
