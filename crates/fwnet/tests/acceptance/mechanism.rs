//! Lines F and G: what is attached, beside whom, and that nothing of it stays.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use image::{AddressSet, Rule, RuleSet, Service, compile};
use kernel::{Attachments, Firewall, Netns, snapshot};
use rustix::{
    process::{Pid, Signal},
    thread::gettid,
};
use testbed::{Host, wait_until};
use verdict::{Address, Direction, Verdict};

use crate::shared::{
    DEADLINE, EACCES, ECONNREFUSED, Echo, Enforcing, Held, complaint, connect_errno, host, on,
    run_on, text,
};

#[test]
fn f1_the_kernel_is_not_patched_and_no_module_is_loaded() {
    let state = || {
        let modules = fs::read_to_string("/proc/modules").unwrap_or_default();
        let names: Vec<String> =
            modules.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect();
        (
            names.iter().any(|name| name.contains("fwnet")),
            fs::read_to_string("/proc/sys/kernel/tainted").unwrap(),
        )
    };
    let before = state();
    let host = host();
    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2", "--port", "10000"]);
    assert_eq!(state(), before);
    assert!(!before.0);
    enforcing.stop();
}

#[test]
fn f2_unloading_under_a_thousand_blocked_acceptors() {
    const ACCEPTORS: usize = 1_000;
    let host = host();
    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2", "--port", "10000"]);
    let listeners: Vec<TcpListener> =
        on(&host, || (0..ACCEPTORS).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect());
    let addresses: Vec<_> =
        listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    let begun = Arc::new(Mutex::new(Vec::new()));
    let threads: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let begun = Arc::clone(&begun);
            let accept = move || {
                begun.lock().unwrap().push(gettid());
                listener.accept().map(|(_, from)| from)
            };
            thread::Builder::new().stack_size(64 << 10).spawn(accept).unwrap()
        })
        .collect();
    wait_until(DEADLINE, "every acceptor sleeps", || {
        let begun = begun.lock().unwrap();
        begun.len() == ACCEPTORS && begun.iter().all(|thread| sleeps_in_accept(*thread))
    });
    enforcing.stop();
    assert!(threads.iter().all(|thread| !thread.is_finished()), "unloading woke an acceptor");
    // Each still waits, and gets the connection that comes for it.
    for (thread, address) in threads.into_iter().zip(addresses) {
        let client = host.namespace.inside(|| TcpStream::connect(address)).unwrap();
        assert_eq!(thread.join().unwrap().unwrap(), client.local_addr().unwrap());
    }
}

fn sleeps_in_accept(thread: Pid) -> bool {
    fs::read_to_string(format!("/proc/self/task/{thread}/wchan"))
        .is_ok_and(|call| call.contains("accept"))
}

/// A firewall of somebody else on this host, by which 127.0.0.9 is denied.
fn foreign(host: &Host) -> Firewall {
    let mut rules = RuleSet { version: 7, ..RuleSet::default() };
    rules.sets.push(AddressSet::from_prefixes([(Address::v4(0x7f00_0009), 128)]));
    for direction in [Direction::Out, Direction::In] {
        rules.rules.push(Rule {
            id: format!("foreign {direction:?}"),
            remote: Some(0),
            services: vec![Service::ANY],
            ..Rule::default(direction, Verdict::Deny, 0)
        });
        rules.rules.push(Rule::default(direction, Verdict::Allow, 1));
    }
    let attachments = Attachments {
        cgroup: kernel::Cgroup::open(host.cgroup.path()).unwrap(),
        namespaces: vec![Netns::open(host.namespace.name()).unwrap()].into(),
        tripwire: false,
        report_allowed: false,
        count_flows: false,
        accept_errno: None,
    };
    Firewall::load(&compile(&rules).unwrap(), attachments).unwrap()
}

#[test]
fn f3_programs_of_others_stay_and_go_on_judging() {
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let errnos = || {
        on(&host, || ["127.0.0.9:20000", "127.0.0.2:20000", "127.0.0.1:20000"].map(connect_errno))
    };
    let nft = |arguments: &[&str]| {
        let output = run_on(&host, "nft", arguments);
        assert!(output.status.success(), "{}", complaint(&output));
        text(&output)
    };
    nft(&[
        "add table inet keep; add chain inet keep in { type filter hook input priority 0; }; add rule inet keep in tcp dport 9 drop",
    ]);
    let ruleset = nft(&["list", "ruleset"]);
    // Somebody was there before, and somebody comes after.
    let first = foreign(&host);
    let own = Held::by(std::process::id());
    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2"]);
    assert_eq!(errnos(), [Some(EACCES), Some(EACCES), None]);
    let second = foreign(&host);
    assert_eq!(errnos(), [Some(EACCES), Some(EACCES), None]);
    enforcing.stop();
    assert_eq!(errnos(), [Some(EACCES), None, None]);
    assert_eq!(own.alive(), own);
    assert_eq!(nft(&["list", "ruleset"]), ruleset);
    drop(first);
    assert_eq!(errnos(), [Some(EACCES), None, None], "the one who came after stays too");
    drop(second);
    assert_eq!(errnos(), [None; 3]);
}

#[test]
fn g1_unloading_reports_what_was_removed() {
    for signal in [Signal::INT, Signal::TERM] {
        let host = host();
        let enforcing =
            Enforcing::on(&host, &["--deny", "127.0.0.2", "--port", "10000", "--debug", "2"]);
        let lines = enforcing.stop_by(signal);
        let told = |verb: &str, way: &str| -> Vec<String> {
            let mut targets: Vec<String> = lines
                .iter()
                .filter_map(|line| line.strip_prefix(&format!("fwnet: {verb} ")))
                .map(|rest| rest.replacen(way, " ", 1))
                .collect();
            targets.sort();
            targets
        };
        let (attached, removed) = (told("attached", " to "), told("removed", " from "));
        assert_eq!(attached, removed);
        for hook in
            ["cgroup/connect4", "cgroup/connect6", "cgroup/sendmsg4", "cgroup/bind4", "sk_lookup"]
        {
            assert!(removed.iter().any(|target| target.starts_with(hook)), "{hook}: {removed:#?}");
        }
    }
}

#[test]
fn g2_afterwards_the_kernel_holds_what_it_held_before() {
    let host = host();
    let before = snapshot();
    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2", "--port", "10000"]);
    let held = enforcing.held();
    assert!(held.programs.len() >= 7 && held.links.len() >= 7, "{held:?}");
    assert_eq!(held.alive(), held);
    assert!(held.programs.iter().all(|id| !before.programs.contains_key(id)), "{held:?}");
    enforcing.stop();
    // A program is freed after a grace period of the kernel.
    wait_until(DEADLINE, "the kernel has let go of every program and link", || {
        held.alive() == Held::default()
    });
}

#[test]
fn g2_denied_connects_succeed_at_once() {
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let _port = Echo::tcp(&host.namespace, "[::]:10000");
    let targets = ["127.0.0.2:20000", "127.0.0.1:10000", "[::1]:10000"];
    for _ in 0..3 {
        let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2", "--port", "10000"]);
        for target in targets {
            assert_eq!(on(&host, || connect_errno(target)), Some(EACCES), "{target}");
        }
        enforcing.stop();
        for target in targets {
            assert_eq!(on(&host, || connect_errno(target)), None, "{target}");
        }
        on(&host, || TcpListener::bind("127.0.0.9:10000")).unwrap_err();
    }
}

#[test]
fn g2_a_process_that_is_killed_leaves_nothing() {
    // `run` is the foreground form: its end by whatever means is the end of enforcement.
    let host = host();
    let mut running = Enforcing::begin(&host.cgroup, &[&host.namespace], &["--deny", "127.0.0.2"]);
    running.wait_for_line("fwnet: enforcing", DEADLINE);
    let held = Held::by(running.pid());
    assert_eq!(on(&host, || connect_errno("127.0.0.2:20000")), Some(EACCES));
    running.signal(Signal::KILL);
    running.wait(DEADLINE);
    assert_eq!(on(&host, || connect_errno("127.0.0.2:20000")), Some(ECONNREFUSED));
    wait_until(DEADLINE, "the kernel has let go", || held.alive() == Held::default());
}
