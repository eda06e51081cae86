//! Run-time lists: what is denied at once, for how long, and by whose word.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use serde_json::{Value, json};
use testbed::{Host, wait_until};

use crate::{
    fixture::Bed,
    shared::{DEADLINE, EACCES, Echo, connect_errno, host, on},
};

fn denied(host: &Host, to: &str) -> bool {
    on(host, || connect_errno(to)) == Some(EACCES)
}

fn json(bed: &Bed, verb: &[&str]) -> Value {
    let verb: Vec<&str> = verb.iter().copied().chain(["-o", "json"]).collect();
    serde_json::from_str(&bed.done(&verb)).unwrap()
}

/// An agent that denies nothing which the tests connect to.
fn enforcing() -> (Host, Bed, [Echo; 2]) {
    let host = host();
    let echoes = ["[::]:20000", "[::]:20001"].map(|at| Echo::tcp(&host.namespace, at));
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.99"]);
    (host, bed, echoes)
}

#[test]
fn i1_i2_entries_come_and_go_at_once() {
    let (host, bed, _echoes) = enforcing();
    for (target, to, beside) in [
        ("127.0.0.2", "127.0.0.2:20000", "127.0.0.3:20000"),
        ("127.0.4.0/24", "127.0.4.9:20000", "127.0.5.9:20000"),
        ("::1", "[::1]:20000", "127.0.0.1:20000"),
        ("tcp/20001", "127.0.0.1:20001", "127.0.0.1:20000"),
        ("20001", "127.0.0.1:20001", "127.0.0.1:20000"),
        ("tcp/20001-20005", "[::1]:20001", "[::1]:20000"),
    ] {
        assert!(!denied(&host, to), "{target}");
        bed.done(&["deny", "add", target]);
        assert!(denied(&host, to), "{target}");
        assert!(!denied(&host, beside), "{target}");
        bed.done(&["deny", "rm", target]);
        assert!(!denied(&host, to), "{target}");
    }
    assert!(denied(&host, "127.0.0.99:20000"), "the policy goes on");
}

#[test]
fn i3_what_is_listed_is_what_was_added_and_adding_again_gives_a_new_end() {
    let (_host, bed, _echoes) = enforcing();
    let added =
        json(&bed, &["deny", "add", "192.0.2.0/24", "tcp/25", "--for", "2h", "--reason", "scans"]);
    assert_eq!(added["added"].as_array().unwrap().len(), 2);
    let until = added["added"][0]["until"].clone();
    assert!(until.is_string(), "{added:#}");
    let again = json(&bed, &["deny", "add", "192.0.2.0/24"]);
    assert_eq!(again["added"], json!([]));
    assert_eq!(again["refreshed"][0]["until"], Value::Null);
    let listed = json(&bed, &["deny", "ls"]);
    let entries = listed["entries"].as_array().unwrap();
    let targets: Vec<&str> =
        entries.iter().map(|entry| entry["target"].as_str().unwrap()).collect();
    assert_eq!(targets, ["192.0.2.0/24", "tcp/25"]);
    assert_eq!(entries[0]["reason"], "scans");
    assert_eq!((&entries[0]["uid"], &entries[1]["until"]), (&json!(0), &until));
    let text = bed.done(&["deny", "ls"]);
    assert!(text.starts_with("192.0.2.0/24 until it is removed, since "), "{text}");
    assert!(text.contains(", by user 0, \"scans\"\n"), "{text}");
    // What is not there is said, and the rest is done.
    let says = bed.refused(&["deny", "rm", "192.0.2.0/24", "192.0.2.7"], 1);
    assert_eq!(says, "fwnet: 192.0.2.7 is not denied by an entry of its own\n");
    let left = json(&bed, &["deny", "ls"]);
    assert_eq!(left["entries"].as_array().unwrap().len(), 1);
}

#[test]
fn bad_targets_are_refused_by_the_command_line_and_by_the_agent() {
    let (_host, bed, _echoes) = enforcing();
    for (target, said) in [
        ("example.org", "'example.org' is not an IPv4 or IPv6 address"),
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("tcp/0", "'0' is not a port from 1 to 65535"),
    ] {
        let says = bed.refused(&["deny", "add", "192.0.2.1", target], 2);
        assert!(says.contains(said), "{says}");
    }
    let says = bed.refused(&["deny", "add", "192.0.2.1", "--for", "soon"], 2);
    assert!(says.contains("'soon' is no length of time"), "{says}");
    assert_eq!(json(&bed, &["deny", "ls"])["entries"], json!([]));
}

#[test]
fn i4_entries_and_lists_survive_the_agent() {
    let (host, bed, _echoes) = enforcing();
    bed.done(&["deny", "add", "127.0.0.2", "--for", "1h"]);
    let file = bed.file("bad-peers.txt", "127.0.8.0/24\n");
    bed.done(&["list", "import", &file]);
    let before = (json(&bed, &["deny", "ls"]), json(&bed, &["list", "ls"]));
    for signal in [Signal::TERM, Signal::KILL] {
        bed.signal(signal);
        assert!(denied(&host, "127.0.0.2:20000") && denied(&host, "127.0.8.1:20000"));
        bed.start_again();
        assert_eq!((json(&bed, &["deny", "ls"]), json(&bed, &["list", "ls"])), before);
        assert!(denied(&host, "127.0.0.2:20000") && denied(&host, "127.0.8.1:20000"));
    }
}

/// How many images were put in force since the agent began whose tables of addresses were made so.
fn images(bed: &Bed, addresses: &str) -> u64 {
    let text = bed.get("/metrics");
    let sample = format!("fwnet_agent_images_total{{addresses=\"{addresses}\"}} ");
    let count = text.lines().find_map(|line| line.strip_prefix(&sample));
    count.unwrap_or_else(|| panic!("{sample}: {text}")).parse().unwrap()
}

#[test]
fn an_entry_is_in_force_without_the_lists_being_compiled_again_and_survives_the_agent() {
    let (host, bed, _echoes) = enforcing();
    let listed = |number: u32| format!("{}\n", std::net::Ipv4Addr::from(0x0a00_0000 + 3 * number));
    // Addresses of either family: where all of one were alike, there is no table of them that could be shared.
    let lines = (0..50_000).map(listed).chain(["2001:db8::/32\n".to_owned()]);
    let file = bed.file("long.txt", &lines.collect::<String>());
    bed.done(&["list", "import", &file]);
    let (anew, shared) = (images(&bed, "anew"), images(&bed, "shared"));
    bed.done(&["deny", "add", "127.0.0.2"]);
    assert!(denied(&host, "127.0.0.2:20000"));
    bed.done(&["deny", "add", "127.0.4.0/24", "10.0.0.0/24", "::1", "tcp/20001"]);
    bed.done(&["deny", "add", "127.0.0.3", "--for", "1s"]);
    bed.done(&["deny", "rm", "127.0.0.2", "10.0.0.0/24"]);
    for (to, is_denied) in [
        ("127.0.0.2:20000", false),
        ("127.0.4.7:20000", true),
        ("[::1]:20000", true),
        ("127.0.0.5:20001", true),
        ("127.0.0.5:20000", false),
        ("10.0.0.3:20000", true),
        ("10.0.0.4:20000", false),
        ("10.2.73.237:20000", true),
        ("127.0.0.99:20000", true),
    ] {
        assert_eq!(denied(&host, to), is_denied, "{to}");
    }
    wait_until(DEADLINE, "the end of an entry on disk", || {
        json(&bed, &["deny", "ls"])["entries"].as_array().unwrap().len() == 3
    });
    assert!(!denied(&host, "127.0.0.3:20000"));
    wait_until(DEADLINE, "the image without it", || images(&bed, "shared") == shared + 5);
    assert_eq!(images(&bed, "anew"), anew, "nothing was compiled again");
    let entries = json(&bed, &["deny", "ls"]);
    bed.signal(Signal::KILL);
    assert!(denied(&host, "127.0.4.7:20000") && denied(&host, "10.0.0.3:20000"));
    bed.start_again();
    assert_eq!(json(&bed, &["deny", "ls"]), entries);
    assert!(denied(&host, "127.0.4.7:20000") && denied(&host, "10.0.0.3:20000"));
    bed.done(&["deny", "rm", "127.0.4.0/24"]);
    assert!(!denied(&host, "127.0.4.7:20000"));
    assert_eq!(images(&bed, "shared"), 1, "the first change by the next agent, too");
}

#[test]
fn an_entry_ends_on_time_although_the_agent_was_killed() {
    let (host, bed, _echoes) = enforcing();
    let began = Instant::now();
    bed.done(&["deny", "add", "127.0.0.2", "--for", "3s"]);
    let answered = Instant::now();
    bed.done(&["deny", "add", "127.0.0.3"]);
    bed.signal(Signal::KILL);
    wait_until(DEADLINE, "the end of the entry", || {
        let (asked, is_denied) = (Instant::now(), denied(&host, "127.0.0.2:20000"));
        let lasted = began.elapsed();
        assert!(is_denied || lasted >= Duration::from_millis(2900), "it ended after {lasted:?}");
        let late = asked > answered + Duration::from_secs(5);
        assert!(!is_denied || !late, "ends fall on whole seconds: {:?}", asked - answered);
        !is_denied
    });
    assert!(denied(&host, "127.0.0.3:20000"), "what has no end stays");
    bed.start_again();
    assert!(!denied(&host, "127.0.0.2:20000") && denied(&host, "127.0.0.3:20000"));
    let targets = json(&bed, &["deny", "ls"]);
    assert_eq!(targets["entries"].as_array().unwrap().len(), 1, "{targets:#}");
}

/// Entries that end together, and between which moments that is.
struct Batch {
    addresses: Vec<String>,
    earliest: Instant,
    latest: Instant,
}

impl Batch {
    /// Adds ten entries, 127.0.NUMBER.1 to 10.
    fn add(bed: &Bed, number: u64, seconds: u64) -> Self {
        let addresses: Vec<String> =
            (1..=10).map(|last| format!("127.0.{number}.{last}")).collect();
        let lasts = format!("{seconds}s");
        let verb = ["deny", "add", "--for", &lasts];
        let verb: Vec<&str> = verb.into_iter().chain(addresses.iter().map(|it| &**it)).collect();
        let before = Instant::now();
        bed.done(&verb);
        // Ends fall on whole seconds.
        let latest = Instant::now() + Duration::from_secs(seconds + 1 + 1);
        Self { addresses, earliest: before + Duration::from_secs(seconds), latest }
    }

    fn are_denied(&self, host: &Host) -> usize {
        self.addresses.iter().filter(|address| denied(host, &format!("{address}:20000"))).count()
    }

    /// Waits for their end, which must come on time.
    #[track_caller]
    fn end(&self, host: &Host) {
        wait_until(DEADLINE, "the end of ten entries", || {
            let (asked, left, answered) = (Instant::now(), self.are_denied(host), Instant::now());
            assert!(left == 10 || answered >= self.earliest, "some ended before their time");
            assert!(left == 0 || asked < self.latest, "{left} did not end in time");
            left == 0
        });
    }
}

#[test]
fn two_hundred_entries_and_a_rule_end_on_time_during_a_trial_although_agents_are_killed() {
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let bed = Bed::new(&host);
    let end = Timestamp::now().as_second() + 24;
    let until = Timestamp::from_second(end).unwrap();
    let rule = format!("deny any -> 127.0.99.1 until {until}\ndeny any -> 127.0.99.3\n");
    let policy = bed.file("policy.fwnet", &rule);
    bed.up(&["--policy", &policy]);
    let batches: Vec<Batch> =
        (1..=20).map(|number| Batch::add(&bed, number, 10 + number)).collect();
    bed.done(&["deny", "add", "127.0.98.1"]);
    let trial = bed.file("trial.fwnet", &format!("deny any -> 127.0.99.2\n{rule}"));
    bed.done(&["apply", "--confirm", "12s", &trial]);
    let confirm_until = Instant::now() + Duration::from_secs(12);
    bed.signal(Signal::KILL);
    let denies = |last: u8| denied(&host, &format!("127.0.99.{last}:20000"));
    let rules_hold = || {
        // What is denied when it is asked was so before the clock is read.
        let (rule, now) = (denies(1), Timestamp::now());
        assert!(rule || now >= until, "the rule ended before its time");
        let (asked, on_trial) = (Instant::now(), denies(2));
        assert!(
            !on_trial || asked < confirm_until + Duration::from_secs(2),
            "the trial did not end"
        );
        assert!(denied(&host, "127.0.98.1:20000") && denies(3), "what has no end stays");
    };
    assert!(denies(2), "the trial is in force");
    for (number, batch) in (1..).zip(&batches) {
        batch.end(&host);
        rules_hold();
        if number == 10 {
            // The next agent finds some ended and some not, and dies like the first.
            bed.start_again();
            let asked = Instant::now();
            let listed = json(&bed, &["deny", "ls"]);
            let left = listed["entries"].as_array().unwrap().len();
            let answered = Instant::now();
            let most = batches.iter().filter(|batch| asked < batch.latest).count();
            let least = batches.iter().filter(|batch| answered < batch.earliest).count();
            assert!((10 * least..=10 * most + 1).contains(&left), "{left} entries are left");
            bed.signal(Signal::KILL);
        }
    }
    wait_until(DEADLINE, "the end of the rule", || {
        let (asked, holds) = (Timestamp::now(), denies(1));
        assert!(!holds || asked < until + SignedDuration::from_secs(2), "the rule did not end");
        !holds
    });
    rules_hold();
    assert!(!denies(2), "the trial is over");
    bed.start_again();
    let targets = json(&bed, &["deny", "ls"]);
    assert_eq!(targets["entries"].as_array().unwrap().len(), 1, "{targets:#}");
    rules_hold();
}

#[test]
fn entries_end_during_a_trial_and_the_trial_ends_although_the_agent_was_killed() {
    let (host, bed, _echoes) = enforcing();
    let began = Instant::now();
    for (address, lasts) in [("127.0.1.1", "4s"), ("127.0.1.2", "5s"), ("127.0.1.3", "9s")] {
        bed.done(&["deny", "add", address, "--for", lasts]);
    }
    let trial = bed.file("trial.fwnet", "deny any -> 127.0.2.1\n");
    let tried = Instant::now();
    bed.done(&["apply", "--confirm", "7s", &trial]);
    bed.signal(Signal::KILL);
    let denies = |last: &str| denied(&host, &format!("{last}:20000"));
    let ended = |what: &str, address: &str| {
        wait_until(DEADLINE, what, || !denies(address));
    };
    // What is allowed when it was asked was over when the clock is read.
    let goes_on = || {
        let (third, trial) = (denies("127.0.1.3"), denies("127.0.2.1"));
        assert!(third || began.elapsed() >= Duration::from_secs(9), "the third entry ended early");
        assert!(trial || tried.elapsed() >= Duration::from_secs(7), "the trial ended early");
    };
    goes_on();
    ended("the end of the first entry", "127.0.1.1");
    goes_on();
    ended("the end of the second entry", "127.0.1.2");
    goes_on();
    ended("the end of the trial", "127.0.2.1");
    goes_on();
    assert!(denies("127.0.0.99"));
    ended("the end of the third entry", "127.0.1.3");
}

#[test]
fn an_entry_that_is_over_is_listed_no_longer() {
    let (host, bed, _echoes) = enforcing();
    bed.done(&["deny", "add", "127.0.0.2", "tcp/20001", "--for", "1s"]);
    wait_until(DEADLINE, "the end of the entries", || {
        json(&bed, &["deny", "ls"])["entries"] == json!([])
    });
    assert!(!denied(&host, "127.0.0.2:20000") && !denied(&host, "127.0.0.1:20001"));
    wait_until(DEADLINE, "a line of the log", || {
        bed.log().contains("no longer denied, its time is over: 127.0.0.2, tcp/20001")
    });
}

#[test]
fn whoever_asks_is_not_cut_off() {
    let (_host, bed, _echoes) = enforcing();
    let session = "192.0.2.7 51234 192.0.2.1 22";
    for target in ["192.0.2.0/24", "tcp/22", "0.0.0.0/0"] {
        let says = bed.call_from(session, &["deny", "add", target]);
        assert_eq!(says.status.code(), Some(1));
        let wanted = "fwnet: this would cut off the session that asks, from 192.0.2.7 to port 22: \
                      --force says that it is meant\n";
        assert_eq!(String::from_utf8_lossy(&says.stderr), wanted);
    }
    let file = bed.file("all.txt", "0.0.0.0/1\n128.0.0.0/1\n");
    let says = bed.call_from(session, &["list", "import", &file]);
    assert!(String::from_utf8_lossy(&says.stderr).contains("cut off the session"));
    assert_eq!(json(&bed, &["deny", "ls"])["entries"], json!([]));
    assert_eq!(json(&bed, &["list", "ls"])["lists"], json!([]));
    let forced = bed.call_from(session, &["deny", "add", "tcp/22", "--force"]);
    assert!(forced.status.success());
    let elsewhere = bed.call_from(session, &["deny", "add", "198.51.100.0/24"]);
    assert!(elsewhere.status.success());
}

#[test]
fn i5_a_list_is_imported_whole_or_not_at_all() {
    let (host, bed, _echoes) = enforcing();
    let good: String =
        (0..10_000u32).map(|n| format!("127.{}.{}.0/25\n", 1 + n / 250, n % 250)).collect();
    let file = bed.file("feed.v1.txt", &good);
    let says = bed.done(&["list", "import", &file, "--reason", "test"]);
    assert!(
        says.starts_with("imported list feed-v1: 10000 lines until it is removed, read "),
        "{says}"
    );
    assert!(denied(&host, "127.1.3.1:20000") && !denied(&host, "127.1.3.200:20000"));
    assert!(!denied(&host, "127.99.0.1:20000"));
    let status = bed.status();
    let summary = status["policy"]["summary"].as_str().unwrap();
    assert!(summary.ends_with("behind 1 run-time denial"), "{summary}");

    let bad = bed.file("bad.txt", "127.99.0.0/16\nnobody\n10.0.0.1/8\n");
    let says = bed.refused(&["list", "import", &bad, "--name", "feed-v1"], 1);
    let wanted = format!(
        "{bad}:2: 'nobody' is not an IPv4 or IPv6 address\n\
         {bad}:3: bits are set beyond the prefix length; write 10.0.0.0/8\n\
         fwnet: {bad}: 2 lines are wrong, and nothing is changed\n"
    );
    assert_eq!(says, wanted);
    let empty = bed.file("empty.txt", "# nothing\n");
    let says = bed.refused(&["list", "import", &empty, "--name", "feed-v1"], 1);
    assert_eq!(
        says,
        format!("fwnet: {empty}: there is no address in it, and nothing is changed\n")
    );
    assert!(denied(&host, "127.1.3.1:20000") && !denied(&host, "127.99.0.1:20000"));

    let says = bed.done(&["list", "rm", "feed-v1"]);
    assert_eq!(says, "removed list feed-v1\n");
    assert!(!denied(&host, "127.1.3.1:20000"));
    let says = bed.refused(&["list", "rm", "feed-v1"], 1);
    assert_eq!(says, "fwnet: there is no list feed-v1\n");
}

#[test]
fn i2_a_list_is_replaced_without_a_moment_in_which_it_is_not_there() {
    let (host, bed, _echoes) = enforcing();
    let import = |number: u32| {
        // The network that is tried is at the beginning, and at the end.
        let other: String =
            (0..2000).map(|n| format!("10.{number}.{}.{}\n", n / 250, n % 250)).collect();
        let networks = ["127.0.2.0/24\n", "127.0.9.0/24\n"];
        let text = if number.is_multiple_of(2) {
            networks.concat() + &other
        } else {
            other + &networks.concat()
        };
        let file = bed.file("feed.txt", &text);
        bed.done(&["list", "import", &file, "--once"]);
    };
    import(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let hammer = scope.spawn(|| {
            on(&host, || {
                let mut tries = 0u32;
                while !done.load(Ordering::Relaxed) {
                    for to in ["127.0.2.1:20000", "127.0.9.1:20000"] {
                        assert_eq!(connect_errno(to), Some(EACCES), "after {tries} tries");
                        tries += 1;
                    }
                }
                tries
            })
        });
        for number in 1..12 {
            import(number);
        }
        done.store(true, Ordering::Relaxed);
        let tries = hammer.join().unwrap();
        assert!(tries > 1000, "it was tried {tries} times");
    });
}

#[test]
fn a_list_follows_its_file_and_stays_when_the_file_is_no_good() {
    let (host, bed, _echoes) = enforcing();
    let file = bed.file("feed.txt", "127.0.2.0/24\n");
    bed.done(&["list", "import", &file]);
    let once = bed.file("once.txt", "127.0.7.0/24\n");
    bed.done(&["list", "import", &once, "--once"]);
    let trouble = || json(&bed, &["list", "ls"])["lists"][0]["trouble"].clone();
    assert_eq!(trouble(), Value::Null);

    bed.file("feed.txt", "127.0.3.0/24\n127.0.4.0/24\n");
    bed.file("once.txt", "127.0.8.0/24\n");
    wait_until(DEADLINE, "the new list", || denied(&host, "127.0.3.1:20000"));
    assert!(!denied(&host, "127.0.2.1:20000"));
    let told = "fwnet: list feed was read again: 2 lines";
    wait_until(DEADLINE, "a line of the log", || bed.log().contains(told));

    // A file that is no good, with something that nobody should read in the agent's answer.
    bed.file("feed.txt", "127.0.5.0/24\nroot:secret\n");
    wait_until(DEADLINE, "the trouble", || trouble() != Value::Null);
    assert_eq!(trouble(), format!("{file}: line 2 is wrong"));
    assert!(denied(&host, "127.0.3.1:20000") && !denied(&host, "127.0.5.1:20000"));
    assert!(!bed.log().contains("secret"));

    fs::remove_file(&file).unwrap();
    wait_until(DEADLINE, "another trouble", || {
        trouble()
            .as_str()
            .is_some_and(|why| why.ends_with("No such file or directory (os error 2)"))
    });
    assert!(denied(&host, "127.0.3.1:20000"));

    // Another file takes the name, while no agent runs.
    bed.signal(Signal::KILL);
    bed.file("feed.txt", "127.0.6.0/24\n");
    bed.start_again();
    wait_until(DEADLINE, "the newest list", || denied(&host, "127.0.6.1:20000"));
    assert_eq!(trouble(), Value::Null);
    assert!(
        denied(&host, "127.0.7.1:20000") && !denied(&host, "127.0.8.1:20000"),
        "--once is once"
    );
}

#[test]
fn a_list_may_end_and_may_come_from_standard_input() {
    let (host, bed, _echoes) = enforcing();
    let says = bed.refused(&["list", "import", "-"], 1);
    assert_eq!(says, "fwnet: a list from standard input needs a name: --name NAME\n");
    let piped = bed
        .call_piped(&["list", "import", "-", "--name", "brief", "--for", "1s"], "127.0.2.0/24\n");
    assert!(piped.status.success(), "{piped:?}");
    wait_until(DEADLINE, "the end of the list", || {
        json(&bed, &["list", "ls"])["lists"] == json!([])
    });
    assert!(!denied(&host, "127.0.2.1:20000"));
}

#[test]
fn i6_a_new_denial_leaves_established_connections_alone() {
    let (host, bed, _echoes) = enforcing();
    let mut stream = on(&host, || TcpStream::connect("127.0.0.2:20000")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    bed.done(&["deny", "add", "127.0.0.2"]);
    assert!(denied(&host, "127.0.0.2:20000"));
    for _ in 0..3 {
        stream.write_all(b"still here").unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"still here");
    }
}

#[test]
fn an_event_names_the_entry_that_denied_whatever_stood_at_its_number_before() {
    let (host, bed, _echoes) = enforcing();
    let said = |to: &str| {
        assert!(denied(&host, to));
        let address = to.split(':').next().unwrap();
        let mut line = String::new();
        wait_until(DEADLINE, "the event", || {
            let events = bed.done(&["events", "--since", "1m"]);
            line = events.lines().rfind(|line| line.contains(address)).unwrap_or_default().into();
            !line.is_empty()
        });
        line
    };
    let first = said("127.0.0.99:20000");
    bed.done(&["deny", "add", "127.0.0.2"]);
    let second = said("127.0.0.2:20000");
    assert!(second.contains("deny/127.0.0.2"), "{first}\n{second}");
}

#[test]
fn an_import_is_previewed_and_ends_existing_connections_where_that_is_asked() {
    let (host, bed, _echoes) = enforcing();
    let connect = |to: &str| on(&host, || TcpStream::connect(to)).unwrap();
    let (listed, beside) = (connect("127.0.0.7:20000"), connect("127.0.0.8:20000"));
    let file = bed.file("feed.txt", "127.0.0.7\n192.0.2.0/24\n");
    let would = json(&bed, &["list", "import", &file, "--existing", "revoke", "--dry-run"]);
    assert_eq!((&would["applied"], &would["replaced"]), (&json!(false), &json!(false)));
    assert_eq!(would["list"]["lines"], 2, "{would:#}");
    assert_eq!(would["preview"]["live"], 1, "{would:#}");
    assert_eq!(would["preview"]["rows"][0]["rule"], "list/feed", "{would:#}");
    assert_eq!(json(&bed, &["list", "ls"])["lists"], json!([]));
    assert!(!denied(&host, "127.0.0.7:20000") && lives(&listed));
    let text = bed.done(&["list", "import", &file, "--dry-run"]);
    assert!(text.starts_with("would import list feed: 2 lines"), "{text}");
    assert!(text.contains("newly denied: 1 open sockets"), "{text}");

    let kept = json(&bed, &["list", "import", &file]);
    assert_eq!((&kept["applied"], &kept["revoked"]["connections"]), (&json!(true), &json!(0)));
    assert!(denied(&host, "127.0.0.7:20000") && lives(&listed));
    bed.done(&["list", "rm", "feed"]);
    let revoked = json(&bed, &["list", "import", &file, "--existing", "revoke"]);
    assert_eq!(revoked["revoked"]["connections"], 1, "{revoked:#}");
    assert_eq!(bed.status()["revoked"], revoked["revoked"]);
    assert!(!lives(&listed) && lives(&beside));
}

/// Whether a connection still works.
fn lives(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}
