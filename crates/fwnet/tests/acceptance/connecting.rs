//! Lines B: connect(), and everything else that opens a connection or sends a datagram.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::net::{UnixListener, UnixStream},
    time::{Duration, Instant},
};

use doors::{Protocol, Stage, outward};
use serde_json::Value;
use testbed::Host;

use crate::shared::{
    DEADLINE, EACCES, ECONNREFUSED, Echo, Enforcing, complaint, connect_errno, counter, data, host,
    on, run_on, somebody_comes, star, text, through,
};

#[test]
fn b1_denied_address_gives_eacces_and_sends_nothing() {
    let network = star(2);
    let [client, server] = network.hosts() else { panic!("a star of two") };
    let listener = server.namespace.inside(|| TcpListener::bind("0.0.0.0:20000")).unwrap();
    let enforcing = Enforcing::start(&client.cgroup, &[], &["--deny", "10.7.0.2"]);
    let (sent, errno) = on(client, || {
        let before = (counter("Tcp", "OutSegs"), counter("Tcp", "ActiveOpens"));
        let errno = connect_errno("10.7.0.2:20000");
        let after = (counter("Tcp", "OutSegs"), counter("Tcp", "ActiveOpens"));
        ((before, after), errno)
    });
    assert_eq!(errno, Some(EACCES));
    assert_eq!(sent.0, sent.1, "(segments sent, connections begun) before and after");
    assert!(!somebody_comes(&listener, Duration::ZERO));
    enforcing.stop();
}

#[test]
fn b2_denied_port_gives_eacces_on_loopback_and_elsewhere() {
    let network = star(2);
    let [client, server] = network.hosts() else { panic!("a star of two") };
    let _far = Echo::tcp(&server.namespace, "[::]:10000");
    let _near = Echo::tcp(&client.namespace, "[::]:10000");
    let enforcing = Enforcing::start(&client.cgroup, &[], &["--port", "10000"]);
    for target in ["127.0.0.1:10000", "10.7.0.2:10000", "[::1]:10000", "[fd07::2]:10000"] {
        assert_eq!(on(client, || connect_errno(target)), Some(EACCES), "{target}");
    }
    enforcing.stop();
}

#[test]
fn b3_a_nonblocking_connect_is_denied_at_once() {
    let host = host();
    let enforcing = Enforcing::on(&host, &["--deny", "192.0.2.1"]);
    // There is no route to the address: the denial comes before anything looks for one.
    let error = on(&host, || through("connect-nonblocking", "192.0.2.1:80")).unwrap_err();
    assert_eq!((error.errno(), error.stage()), (Some(EACCES), Some(Stage::Connect)));
    enforcing.stop();
}

#[test]
fn b4_one_denial_has_the_lines_of_the_module() {
    let host = host();
    for (debug, expected) in [
        ("0", &["! connect to 127.0.0.2:20000 denied"][..]),
        ("1", &["! connect to 127.0.0.2:20000", "! connect to 127.0.0.2:20000 denied"]),
    ] {
        let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2", "--debug", debug]);
        assert_eq!(on(&host, || connect_errno("127.0.0.2:20000")), Some(EACCES));
        let lines = enforcing.stop();
        let connects: Vec<_> = lines.iter().filter(|line| line.starts_with("! connect")).collect();
        assert_eq!(connects, expected.iter().collect::<Vec<_>>());
    }
}

/// What a script found out about calls that are to be as without a firewall, as JSON.
fn facts(host: &Host, script: &str) -> Value {
    let script = data(script);
    let output = run_on(host, "python3", &[script.to_str().unwrap()]);
    assert!(output.status.success(), "{}", complaint(&output));
    serde_json::from_str(&text(&output)).unwrap()
}

/// The same facts with rules that have nothing to do with them.
#[track_caller]
fn same_facts(script: &str, least: usize) {
    let host = host();
    let before = facts(&host, script);
    let enforcing =
        Enforcing::on(&host, &["--deny", "198.51.100.7", "--port", "10000", "--debug", "1"]);
    let during = facts(&host, script);
    enforcing.stop();
    assert_eq!(before, during);
    assert!(before.as_object().unwrap().len() >= least, "{before:#}");
}

#[test]
fn b5_a_permitted_connect_has_the_kernels_own_result() {
    same_facts("connects.py", 8);
}

#[test]
fn b6_mapped_and_ipv6_are_judged_and_other_families_are_not() {
    let host = host();
    host.namespace.add_address("lo", "fd09::2/128");
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let enforcing =
        Enforcing::on(&host, &["--deny", "127.0.0.2", "--deny", "fd09::2", "--port", "10000"]);
    on(&host, || {
        for (target, errno) in [
            ("[::ffff:127.0.0.2]:20000", Some(EACCES)),
            ("[::ffff:127.0.0.1]:20000", None),
            ("[::ffff:127.0.0.1]:10000", Some(EACCES)),
            ("[fd09::2]:20000", Some(EACCES)),
        ] {
            assert_eq!(connect_errno(target), errno, "{target}");
        }
        let path = std::env::temp_dir().join(format!("fwnet-b6-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let _listener = UnixListener::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        fs::remove_file(&path).unwrap();
    });
    let lines = enforcing.stop();
    // A mapped address is told as the IPv4 address that it is.
    assert!(lines.iter().any(|line| line == "! connect to 127.0.0.2:20000 denied"), "{lines:#?}");
}

#[test]
fn b7_a_port_rule_means_tcp() {
    let host = host();
    let echo = Echo::udp(&host.namespace, "127.0.0.1:10000");
    let enforcing = Enforcing::on(&host, &["--port", "10000"]);
    on(&host, || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.connect("127.0.0.1:10000").unwrap();
        socket.send(b"query").unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 5);
        assert_eq!(connect_errno("127.0.0.1:10000"), Some(EACCES));
    });
    assert_eq!(echo.came(), 1);
    enforcing.stop();
}

#[test]
fn b8_the_unspecified_address_is_loopback() {
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    for (rule, denied, allowed) in [
        ("127.0.0.1", ["0.0.0.0:20000", "[::ffff:0.0.0.0]:20000"], "[::]:20000"),
        ("127.0.0.0/8", ["0.0.0.0:20000", "[::ffff:0.0.0.0]:20000"], "[::1]:20000"),
        ("::1", ["[::]:20000", "[::1]:20000"], "0.0.0.0:20000"),
    ] {
        let enforcing = Enforcing::start(&host.cgroup, &[], &["--deny", rule]);
        on(&host, || {
            for target in denied {
                assert_eq!(connect_errno(target), Some(EACCES), "{target} with {rule} denied");
            }
            assert_eq!(connect_errno(allowed), None, "{allowed} with {rule} denied");
        });
        enforcing.stop();
    }
}

/// The doors whose name begins so are refused, and open again afterwards.
#[track_caller]
fn judged(prefix: &str, least: usize) {
    let host = host();
    let _stream = Echo::tcp(&host.namespace, "[::]:20000");
    let _datagram = Echo::udp(&host.namespace, "127.0.0.2:20000");
    let doors: Vec<_> = outward().filter(|door| door.name.contains(prefix)).collect();
    assert!(doors.len() >= least);
    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2"]);
    for door in &doors {
        let error = on(&host, || through(door.name, "127.0.0.2:20000")).unwrap_err();
        assert_eq!(error.errno(), Some(EACCES), "{}", door.name);
    }
    enforcing.stop();
    for door in &doors {
        assert!(on(&host, || through(door.name, "127.0.0.2:20000")).is_ok(), "{}", door.name);
    }
}

#[test]
fn b9_fast_open_is_judged() {
    judged("fastopen", 5);
}

#[test]
fn b10_io_uring_is_judged() {
    judged("uring", 3);
}

#[test]
fn b11_mptcp_is_judged() {
    judged("mptcp", 2);
}

#[test]
fn b12_every_datagram_is_judged_by_its_own_destination() {
    judged("udp", 4);
    let host = host();
    let good = Echo::udp(&host.namespace, "127.0.0.1:20000");
    let bad = Echo::udp(&host.namespace, "127.0.0.2:20000");
    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2"]);
    on(&host, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        for _ in 0..10 {
            assert_eq!(socket.send_to(b"x", "127.0.0.1:20000").unwrap(), 1);
            let error = socket.send_to(b"x", "127.0.0.2:20000").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(EACCES));
        }
        for _ in 0..10 {
            socket.recv(&mut [0; 8]).unwrap();
        }
    });
    // sendmmsg(), and an address whose family is AF_UNSPEC, are calls that no library makes.
    let script = data("sends.py");
    let output = run_on(&host, "python3", &[script.to_str().unwrap(), "127.0.0.2", "20000"]);
    assert_eq!(text(&output), "sendmmsg 13\nunspec 13\n", "{}", complaint(&output));
    assert_eq!((good.came(), bad.came()), (10, 0));
    enforcing.stop();
}

#[test]
fn b15_b16_lengths_and_precedence_of_errors_are_the_kernels() {
    same_facts("arguments.py", 6);
}

#[test]
fn b17_disconnect_passes_and_each_udp_connect_is_judged() {
    let host = host();
    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2"]);
    on(&host, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..3 {
            socket.connect("127.0.0.1:9").unwrap();
            assert_eq!(socket.connect("127.0.0.2:9").unwrap_err().raw_os_error(), Some(EACCES));
            // A connect that was denied has changed nothing.
            assert_eq!(socket.peer_addr().unwrap().to_string(), "127.0.0.1:9");
        }
    });
    let output = run_on(&host, "python3", &[data("disconnect.py").to_str().unwrap()]);
    assert_eq!(text(&output), "udp 0\ntcp 0\n", "{}", complaint(&output));
    enforcing.stop();
}

#[test]
fn b18_a_socket_connected_before_and_passed_on_keeps_its_connection() {
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let mut stream = on(&host, || TcpStream::connect("127.0.0.2:20000")).unwrap();
    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2"]);
    // Handed to a process of the judged cgroup as its standard input and output.
    let mut child = host
        .command("sh")
        .args(["-c", "echo passed"])
        .stdout(std::process::Stdio::from(std::os::fd::OwnedFd::from(stream.try_clone().unwrap())))
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"passed\n");
    stream.write_all(b"more").unwrap();
    enforcing.stop();
    let limits = crate::shared::fwnet(&["doctor"]).output().unwrap();
    let limits = text(&limits);
    for limit in ["connected-before", "queued-before", "raw-send"] {
        assert!(limits.contains(limit), "{limits}");
    }
}

#[test]
fn b2_every_stream_door_is_closed_to_a_port_that_nobody_listens_on() {
    // A denial must not be taken for the refusal of a closed port, nor the other way round.
    let host = host();
    let enforcing = Enforcing::on(&host, &["--port", "10000"]);
    let start = Instant::now();
    for door in outward().filter(|door| door.protocol != Protocol::Udp) {
        let denied = on(&host, || through(door.name, "127.0.0.1:10000")).unwrap_err();
        let closed = on(&host, || through(door.name, "127.0.0.1:20000")).unwrap_err();
        assert_eq!(
            (denied.errno(), closed.errno()),
            (Some(EACCES), Some(ECONNREFUSED)),
            "{}",
            door.name
        );
    }
    assert!(start.elapsed() < DEADLINE);
    enforcing.stop();
}
