//! Lines A: what the parameters mean, and what loading does or refuses to do.

use std::{
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use aya::{Ebpf, programs::SkLookup};
use testbed::{Host, Namespace};

use crate::shared::{
    DEADLINE, EACCES, ECONNREFUSED, Echo, Enforcing, complaint, connect_errno, fwnet, host, on,
    somebody_comes, star,
};

/// A host whose loopback answers on port 20000, at every address.
fn answering_host() -> (Host, Echo) {
    let host = host();
    let echo = Echo::tcp(&host.namespace, "[::]:20000");
    (host, echo)
}

/// Attempts from a judged process, with what each is to give.
#[track_caller]
fn expect(host: &Host, attempts: &[(&str, Option<i32>)]) {
    let given: Vec<_> =
        on(host, || attempts.iter().map(|(to, _)| (*to, connect_errno(to))).collect());
    assert_eq!(given, attempts);
}

#[test]
fn a1_any_number_of_addresses_and_prefixes_of_both_families() {
    let (host, _echo) = answering_host();
    for address in ["fd09::1/128", "fd09::2/128", "fd0a::7/128", "10.9.1.1/32", "10.9.2.1/32"] {
        host.namespace.add_address("lo", address);
    }
    let denied = ["127.0.0.2", "127.0.0.3", "10.9.1.0/24", "fd09::2", "fd0a::/16"];
    let flags: Vec<&str> = denied.iter().flat_map(|address| ["--deny", address]).collect();
    let enforcing = Enforcing::on(&host, &flags);
    expect(
        &host,
        &[
            ("127.0.0.1:20000", None),
            ("127.0.0.2:20000", Some(EACCES)),
            ("127.0.0.3:20000", Some(EACCES)),
            ("127.0.0.4:20000", None),
            ("10.9.1.1:20000", Some(EACCES)),
            ("10.9.2.1:20000", None),
            ("[fd09::1]:20000", None),
            ("[fd09::2]:20000", Some(EACCES)),
            ("[fd0a::7]:20000", Some(EACCES)),
            ("[::ffff:127.0.0.3]:20000", Some(EACCES)),
        ],
    );
    enforcing.stop();
}

#[test]
fn a2_without_deny_no_address_is_denied_and_the_log_says_so() {
    let (host, _echo) = answering_host();
    let enforcing = Enforcing::on(&host, &["--port", "10000"]);
    expect(&host, &[("127.0.0.1:20000", None), ("0.0.0.0:20000", None), ("[::]:20000", None)]);
    let lines = enforcing.stop();
    assert!(lines.iter().any(|line| line == "! denied IP: no"), "{lines:#?}");
}

#[test]
fn a3_any_number_of_ports_and_ranges() {
    let host = host();
    let ports = [10_000, 10_001, 11_000, 11_500, 11_999, 12_000];
    let _echoes: Vec<Echo> =
        ports.iter().map(|port| Echo::tcp(&host.namespace, &format!("[::]:{port}"))).collect();
    let enforcing =
        Enforcing::start(&host.cgroup, &[], &["--port", "10000", "--port", "11000-11999"]);
    expect(
        &host,
        &[
            ("127.0.0.1:10000", Some(EACCES)),
            ("[::1]:10000", Some(EACCES)),
            ("127.0.0.1:10001", None),
            ("127.0.0.1:11000", Some(EACCES)),
            ("127.0.0.1:11500", Some(EACCES)),
            ("127.0.0.1:11999", Some(EACCES)),
            ("127.0.0.1:12000", None),
        ],
    );
    let lines = enforcing.stop();
    for line in ["! denied TCP port: 10000", "! denied TCP port: 11000-11999"] {
        assert!(lines.iter().any(|known| known == line), "{lines:#?}");
    }
    let lines = Enforcing::on(&host, &["--deny", "127.0.0.2"]).stop();
    assert!(!lines.iter().any(|line| line.contains("denied TCP port")), "{lines:#?}");
}

#[test]
fn a4_an_address_and_a_port_are_two_rules_not_a_pair() {
    let (host, _echo) = answering_host();
    host.namespace.add_address("lo", "192.168.56.101/32");
    let _other = Echo::tcp(&host.namespace, "[::]:10000");
    let enforcing =
        Enforcing::start(&host.cgroup, &[], &["--deny", "192.168.56.101", "--port", "10000"]);
    expect(
        &host,
        &[
            ("192.168.56.101:10000", Some(EACCES)),
            ("192.168.56.101:20000", Some(EACCES)),
            ("127.0.0.1:10000", Some(EACCES)),
            ("127.0.0.1:20000", None),
        ],
    );
    enforcing.stop();
}

#[test]
fn a5_levels_change_what_is_printed_and_never_a_verdict() {
    let (host, _echo) = answering_host();
    let attempts = [("127.0.0.1:20000", None), ("127.0.0.2:20000", Some(EACCES))];
    let mut printed = Vec::new();
    for level in ["0", "1", "2"] {
        let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2", "--debug", level]);
        expect(&host, &attempts);
        let lines = enforcing.stop();
        let events: Vec<String> =
            lines.iter().filter(|line| line.starts_with("! connect")).cloned().collect();
        let told = lines.iter().filter(|line| line.starts_with("fwnet: attached ")).count();
        printed.push((events, told > 0));
    }
    let denied = "! connect to 127.0.0.2:20000 denied".to_owned();
    let every = vec![
        "! connect to 127.0.0.1:20000".to_owned(),
        "! connect to 127.0.0.2:20000".to_owned(),
        denied.clone(),
    ];
    assert_eq!(printed, [(vec![denied], false), (every.clone(), false), (every, true)]);
}

#[test]
fn a9_a_failure_half_way_leaves_nothing_attached() {
    // The last hook to be attached is the one in the network namespace: there is no place left for it.
    let host = host();
    // As many programs as a namespace takes (`netns_bpf_max_progs` in kernel/bpf/net_namespace.c).
    let _others: Vec<Ebpf> = (0..64).map(|_| pass(&host.namespace)).collect();
    let mut running = Enforcing::begin(&host.cgroup, &[&host.namespace], &["--deny", "127.0.0.2"]);
    let status = running.wait(DEADLINE);
    let lines = running.lines();
    assert_eq!(status.code(), Some(1), "{lines:#?}");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].starts_with("fwnet: ") && lines[0].contains("sk_lookup"), "{lines:#?}");
    // Nothing judges in the cgroup: the denied address is only closed.
    expect(&host, &[("127.0.0.2:20000", Some(ECONNREFUSED))]);
}

/// A program of somebody else at sk_lookup that lets everything pass: `r0 = 1; exit`.
fn pass(namespace: &Namespace) -> Ebpf {
    const CODE: [u8; 16] = [0xb7, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let mut loaded = Ebpf::load(&testbed::bpf_object("sk_lookup", "pass", &CODE)).unwrap();
    let program: &mut SkLookup = loaded.program_mut("pass").unwrap().try_into().unwrap();
    program.load().unwrap();
    program.attach(File::open(namespace.path()).unwrap()).unwrap();
    loaded
}

#[test]
fn a10_success_is_one_line_that_shows_no_address_of_the_kernel() {
    let host = host();
    let lines = Enforcing::on(&host, &["--deny", "127.0.0.2", "--port", "10000"]).stop();
    let first: Vec<_> = lines.iter().filter(|line| line.starts_with("fwnet: enforcing")).collect();
    assert_eq!(first.len(), 1, "{lines:#?}");
    let pointer = |word: &str| {
        word.starts_with("0x")
            || word.len() >= 8
                && word.bytes().all(|byte| byte.is_ascii_hexdigit())
                && word.starts_with("ffff")
    };
    let words =
        lines.iter().flat_map(|line| line.split(|letter: char| !letter.is_ascii_alphanumeric()));
    assert_eq!(words.filter(|word| pointer(word)).count(), 0, "{lines:#?}");
}

#[test]
fn a11_takes_effect_at_once_and_an_acceptor_that_already_waits_gets_no_unchecked_connection() {
    let network = star(2);
    let [server, client] = network.hosts() else { panic!("a star of two") };
    let target = format!("{}:10000", network.address(0));
    // The process that waits in accept() was there before, and is in no judged cgroup.
    let listener = server.namespace.inside(|| TcpListener::bind("0.0.0.0:10000")).unwrap();
    let waiting =
        thread::spawn(move || listener.accept().map(|(stream, from)| (stream, from, listener)));
    let enforcing = Enforcing::on(server, &["--port", "10000"]);
    for _ in 0..20 {
        assert_eq!(client.namespace.inside(|| connect_errno(&target)), Some(ECONNREFUSED));
    }
    assert!(!waiting.is_finished(), "accept() woke");
    enforcing.stop();
    assert_eq!(client.namespace.inside(|| connect_errno(&target)), None);
    waiting.join().unwrap().unwrap();
}

#[test]
fn a11_established_connections_continue() {
    let (host, echo) = answering_host();
    let mut stream = on(&host, || TcpStream::connect("127.0.0.2:20000")).unwrap();
    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.0/8", "--port", "20000"]);
    for _ in 0..3 {
        stream.write_all(b"still here").unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"still here");
    }
    expect(&host, &[("127.0.0.2:20000", Some(EACCES))]);
    assert_eq!(echo.came(), 1);
    enforcing.stop();
}

#[test]
fn a11_a_process_that_runs_already_is_judged_without_a_restart() {
    let (host, _echo) = answering_host();
    // This process is in the cgroup before, while and after; its threads as well.
    let _visit = host.cgroup.enter_current_process();
    let attempt = || host.namespace.inside(|| connect_errno("127.0.0.2:20000"));
    assert_eq!(attempt(), None);
    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2"]);
    assert_eq!(attempt(), Some(EACCES));
    enforcing.stop();
    assert_eq!(attempt(), None);
}

#[test]
fn a12_what_needs_no_privilege_works_without() {
    for (arguments, shown) in
        [(&["--version"][..], "fwnet "), (&["--help"], "run"), (&["run", "--help"], "--deny")]
    {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        let output = command.arg(fwnet(&[]).get_program()).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains(shown),
            "{arguments:?}: {text}{}",
            complaint(&output)
        );
    }
}

#[test]
fn a11_nobody_comes_in_between() {
    // The first connection after the line "enforcing" is judged: there is no moment of half a firewall after it.
    let network = star(2);
    let [server, client] = network.hosts() else { panic!("a star of two") };
    let target = format!("{}:10000", network.address(0));
    let listener = server.namespace.inside(|| TcpListener::bind("0.0.0.0:10000")).unwrap();
    for _ in 0..5 {
        let enforcing = Enforcing::on(server, &["--port", "10000"]);
        assert_eq!(client.namespace.inside(|| connect_errno(&target)), Some(ECONNREFUSED));
        assert!(!somebody_comes(&listener, Duration::ZERO));
        enforcing.stop();
    }
}
