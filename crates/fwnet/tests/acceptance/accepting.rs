//! Lines C: accept(), and what becomes of those who must not come in.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use doors::storm::{self, Storm};
use testbed::{Network, Running};

use crate::shared::{
    DEADLINE, EACCES, ECONNREFUSED, Echo, Enforcing, complaint, connect_errno, counter, data, host,
    on, run_on, somebody_comes, star, text, through, tool,
};

/// A server, a client that is denied and one that is not: 10.7.0.1, .2 and .3.
fn trio() -> Network {
    star(3)
}

#[test]
fn c1_claiming_a_denied_port_is_an_early_error_and_the_port_is_closed() {
    let network = trio();
    let [server, _, client] = network.hosts() else { panic!("a star of three") };
    let before = server.namespace.inside(|| TcpListener::bind("0.0.0.0:10000")).unwrap();
    let enforcing = Enforcing::on(server, &["--port", "10000"]);
    for address in ["127.0.0.2:10000", "[::1]:10000"] {
        let error = on(server, || TcpListener::bind(address)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(EACCES), "{address}");
    }
    assert_eq!(client.namespace.inside(|| connect_errno("10.7.0.1:10000")), Some(ECONNREFUSED));
    assert!(!somebody_comes(&before, Duration::ZERO));
    let lines = enforcing.stop();
    let denials = lines.iter().filter(|line| *line == "! accept from denied port 10000").count();
    assert_eq!(denials, 3, "{lines:#?}");
}

#[test]
fn c2_a_denied_peer_never_sees_a_connection_and_accept_never_wakes() {
    let network = trio();
    let [server, bad, good] = network.hosts() else { panic!("a star of three") };
    let listener = on(server, || TcpListener::bind("0.0.0.0:20000")).unwrap();
    let enforcing = Enforcing::on(server, &["--deny", "10.7.0.2"]);
    assert_eq!(bad.namespace.inside(|| connect_errno("10.7.0.1:20000")), Some(ECONNREFUSED));
    assert!(!somebody_comes(&listener, Duration::from_millis(50)));
    assert_eq!(good.namespace.inside(|| connect_errno("10.7.0.1:20000")), None);
    assert!(somebody_comes(&listener, DEADLINE));
    let lines = enforcing.stop();
    let denials: Vec<_> = lines.iter().filter(|line| line.starts_with("! accept")).collect();
    assert_eq!(denials.len(), 1, "{lines:#?}");
    assert!(denials[0].starts_with("! accept from 10.7.0.2:") && denials[0].ends_with(" denied"));
}

#[test]
fn c3_one_event_has_both_ends_and_the_listeners_process() {
    let network = trio();
    let [server, bad, _] = network.hosts() else { panic!("a star of three") };
    let enforcing = Enforcing::on(server, &["--deny", "10.7.0.2", "-o", "json"]);
    let mut tcpserv = server.start(tool("tcpserv"), ["-p20000", "-v"]);
    wait_listening(&tcpserv);
    let from = bad.namespace.inside(|| {
        let client = UdpSocket::bind("10.7.0.2:0").unwrap();
        drop(client);
        connect_errno("10.7.0.1:20000")
    });
    assert_eq!(from, Some(ECONNREFUSED));
    enforcing.line("{");
    let pid = tcpserv.pid();
    assert!(tcpserv.exit_status().is_none());
    let events = enforcing.stop_events();
    assert_eq!(events.len(), 1, "{events:#?}");
    let event = &events[0];
    assert_eq!(event["source"]["ip"], "10.7.0.2");
    assert!(event["source"]["port"].as_u64().is_some_and(|port| port > 0), "{event:#}");
    assert_eq!(event["destination"]["ip"], "10.7.0.1");
    assert_eq!(event["destination"]["port"], 20_000);
    assert_eq!(event["process"]["pid"], pid, "{event:#}");
    assert_eq!(event["process"]["name"], "tcpserv");
}

/// Waits until a `tcpserv -v` has bound its port: it says so before it binds.
fn wait_listening(server: &Running) {
    let line = server.wait_for_line("listening on the TCP port", DEADLINE);
    let port: u16 = line.rsplit(' ').next().unwrap().parse().unwrap();
    let wanted = format!(":{port:04X} 00000000:0000 0A");
    testbed::wait_until(DEADLINE, "the server listens", || {
        fs::read_to_string(format!("/proc/{}/net/tcp", server.pid()))
            .is_ok_and(|table| table.contains(&wanted))
    });
}

#[test]
fn c4_c5_c6_c13_the_callers_buffer_decides_nothing() {
    let network = trio();
    let [server, bad, good] = network.hosts() else { panic!("a star of three") };
    let enforcing = Enforcing::on(server, &["--deny", "10.7.0.2", "--port", "10000"]);
    let script = data("accepts.py");
    let mut python = server.start("python3", [script.to_str().unwrap(), "20000"]);
    // Each way to call accept: the denied client is refused, then the other one is what accept returns.
    for way in ["null", "zeroed", "denied address", "denied port", "short", "none"] {
        python.wait_for_line(&format!("waiting {way}"), DEADLINE);
        assert_eq!(
            bad.namespace.inside(|| connect_errno("10.7.0.1:20000")),
            Some(ECONNREFUSED),
            "{way}"
        );
        assert_eq!(good.namespace.inside(|| connect_errno("10.7.0.1:20000")), None, "{way}");
        python.wait_for_line(&format!("accepted {way} from 10.7.0.3"), DEADLINE);
    }
    assert!(python.wait(DEADLINE).success());
    enforcing.stop();
}

#[test]
fn c5_without_a_port_rule_no_accept_is_refused() {
    let host = host();
    let enforcing = Enforcing::on(&host, &["--deny", "198.51.100.7"]);
    let echo = Echo::serve(on(&host, || TcpListener::bind("127.0.0.1:0")).unwrap());
    assert_eq!(on(&host, || connect_errno(&echo.address.to_string())), None);
    let lines = enforcing.stop();
    assert!(!lines.iter().any(|line| line.starts_with("! accept")), "{lines:#?}");
}

#[test]
fn c7_failures_of_accept_pass_unchanged() {
    let network = trio();
    let [server, bad, _] = network.hosts() else { panic!("a star of three") };
    let enforcing = Enforcing::on(server, &["--deny", "10.7.0.2"]);
    let listener = on(server, || TcpListener::bind("0.0.0.0:20000")).unwrap();
    listener.set_nonblocking(true).unwrap();
    for _ in 0..3 {
        assert_eq!(bad.namespace.inside(|| connect_errno("10.7.0.1:20000")), Some(ECONNREFUSED));
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    enforcing.stop();
    let host = host();
    let enforcing = Enforcing::on(&host, &["--deny", "127.0.0.2", "--port", "10000"]);
    let output = run_on(&host, "python3", &[data("accept_errors.py").to_str().unwrap()]);
    let expected = "not listening EINVAL\nnot a socket ENOTSOCK\nbad descriptor EBADF\ninterrupted EINTR\nempty EAGAIN\nbad pointer EFAULT\n";
    assert_eq!(text(&output), expected, "{}", complaint(&output));
    enforcing.stop();
}

#[test]
fn c8_c14_ten_thousand_denied_attempts_leave_no_descriptor_and_wake_nobody() {
    let network = trio();
    let [server, bad, good] = network.hosts() else { panic!("a star of three") };
    let mut tcpserv = server.start(tool("tcpserv"), ["-p20000", "-v"]);
    let mut on_port = server.start(tool("tcpserv"), ["-p10000", "-v"]);
    for server in [&tcpserv, &on_port] {
        wait_listening(server);
        wait_blocked(server.pid());
    }
    let enforcing = Enforcing::on(server, &["--deny", "10.7.0.2", "--port", "10000"]);
    let state = |server: &Running| (descriptors(server.pid()), wakes(server.pid()));
    let before = [state(&tcpserv), state(&on_port)];
    for (client, target, count) in
        [(bad, "10.7.0.1:20000", 10_000), (good, "10.7.0.1:10000", 10_000)]
    {
        let storm = Storm {
            door: doors::named("connect").unwrap(),
            target: target.parse().unwrap(),
            count,
            threads: 2,
            timeout: DEADLINE,
        };
        let tally = client.namespace.inside(|| storm::run(&storm));
        assert_eq!(
            (tally.connected, tally.failed.get("ECONNREFUSED")),
            (0, Some(&count)),
            "{tally:?}"
        );
    }
    assert_eq!(
        [state(&tcpserv), state(&on_port)],
        before,
        "(descriptors, wake-ups) of the two servers"
    );
    // The server is as it was: the next one who may come is served.
    assert_eq!(good.namespace.inside(|| connect_errno("10.7.0.1:20000")), None);
    tcpserv.wait_for_line("connect from: 10.7.0.1:20000 <= 10.7.0.3:", DEADLINE);
    assert!(
        !tcpserv.lines().iter().any(|line| line.contains("10.7.0.2")),
        "{:#?}",
        tcpserv.lines()
    );
    assert!(tcpserv.exit_status().is_none() && on_port.exit_status().is_none());
    let lines = enforcing.stop();
    for counted in ["deny 10.7.0.2 in: denied 10000 times", "port 10000 in: denied 10000 times"] {
        assert!(lines.contains(&format!("fwnet: {counted}")), "{:#?}", &lines[lines.len() - 20..]);
    }
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// How often the process has given up the processor of its own accord, and how long it has run in all, in clock ticks: a
/// process that only waits changes neither.
fn wakes(pid: u32) -> (String, String) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let switches = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let times: Vec<&str> =
        stat.rsplit(')').next().unwrap().split_ascii_whitespace().skip(11).take(2).collect();
    (switches.to_owned(), times.join(" "))
}

/// Waits until the process sleeps in accept().
fn wait_blocked(pid: u32) {
    testbed::wait_until(DEADLINE, "the server sleeps in accept()", || {
        let call = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        call.contains("accept")
    });
}

#[test]
fn c9_the_clients_own_port_is_no_reason() {
    let network = trio();
    let [server, _, client] = network.hosts() else { panic!("a star of three") };
    let echo = Echo::tcp(&server.namespace, "[::]:20000");
    let enforcing = Enforcing::on(server, &["--port", "10000"]);
    let script = "import socket,sys; s=socket.create_connection(('10.7.0.1',20000),10,('',10000)); s.sendall(b'x'); sys.exit(s.recv(1)!=b'x')";
    // The client is another host, where nothing is judged.
    let output = client.namespace.command("python3").args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{}", complaint(&output));
    assert_eq!(echo.came(), 1);
    enforcing.stop();
}

#[test]
fn c10_every_call_that_accepts_is_covered() {
    let network = trio();
    let [server, bad, good] = network.hosts() else { panic!("a star of three") };
    let enforcing = Enforcing::on(server, &["--deny", "10.7.0.2"]);
    let doors =
        ["accept", "accept4", "uring-accept", "uring-accept-multishot", "ia32-socketcall-accept4"];
    for (port, name) in (21_000..).zip(doors) {
        let target = format!("10.7.0.1:{port}");
        let door = doors::named(name).unwrap();
        let mut listener = on(server, || doors::listen(door, target.parse().unwrap(), 5)).unwrap();
        assert_eq!(bad.namespace.inside(|| connect_errno(&target)), Some(ECONNREFUSED), "{name}");
        let _kept = good.namespace.inside(|| TcpStream::connect(&target)).unwrap();
        let accepted = listener.accept(Some(std::time::Instant::now() + DEADLINE)).unwrap();
        assert_eq!(accepted.peer().ip().to_string(), "10.7.0.3", "{name}");
    }
    enforcing.stop();
}

#[test]
fn c11_a_dual_stack_listener_is_covered() {
    let network = trio();
    let [server, bad, good] = network.hosts() else { panic!("a star of three") };
    let echo = Echo::serve(on(server, || TcpListener::bind("[::]:20000")).unwrap());
    let enforcing = Enforcing::on(server, &["--deny", "10.7.0.2"]);
    assert_eq!(bad.namespace.inside(|| connect_errno("10.7.0.1:20000")), Some(ECONNREFUSED));
    // The rule names the IPv4 address only.
    assert_eq!(bad.namespace.inside(|| connect_errno("[fd07::1]:20000")), None);
    assert_eq!(good.namespace.inside(|| connect_errno("10.7.0.1:20000")), None);
    testbed::wait_until(DEADLINE, "both come", || echo.came() == 2);
    enforcing.stop();
}

#[test]
fn c12_a_denied_peer_gets_a_reset_and_no_handshake() {
    let network = trio();
    let [server, bad, good] = network.hosts() else { panic!("a star of three") };
    let _listener = server.namespace.inside(|| TcpListener::bind("0.0.0.0:10000")).unwrap();
    let _other = server.namespace.inside(|| TcpListener::bind("0.0.0.0:20000")).unwrap();
    let enforcing = Enforcing::on(server, &["--deny", "10.7.0.2", "--port", "10000"]);
    let counts = || {
        server
            .namespace
            .inside(|| ["PassiveOpens", "OutRsts", "OutSegs"].map(|name| counter("Tcp", name)))
    };
    let before = counts();
    for (client, target) in [(bad, "10.7.0.1:20000"), (good, "10.7.0.1:10000")] {
        for door in ["connect", "fastopen-sendto"] {
            let error = client.namespace.inside(|| through(door, target)).unwrap_err();
            assert_eq!(error.errno(), Some(ECONNREFUSED), "{door} {target}");
        }
    }
    let after = counts();
    assert_eq!(after[0], before[0], "no handshake was begun");
    assert_eq!((after[1] - before[1], after[2] - before[2]), (4, 4), "resets, and segments in all");
    enforcing.stop();
}

#[test]
fn c15_the_lines_of_the_module() {
    let network = trio();
    let [server, bad, good] = network.hosts() else { panic!("a star of three") };
    let _denied = server.namespace.inside(|| TcpListener::bind("0.0.0.0:10000")).unwrap();
    let _open = server.namespace.inside(|| TcpListener::bind("0.0.0.0:20000")).unwrap();
    let enforcing =
        Enforcing::on(server, &["--deny", "10.7.0.2", "--port", "10000", "--debug", "1"]);
    for (client, target) in
        [(bad, "10.7.0.1:20000"), (good, "10.7.0.1:10000"), (good, "10.7.0.1:20000")]
    {
        client.namespace.inside(|| connect_errno(target));
    }
    let lines = enforcing.stop();
    let seen: Vec<String> = lines
        .iter()
        .filter(|line| line.starts_with("! accept"))
        .map(|line| without_port(line))
        .collect();
    let expected = [
        "! accept from 10.7.0.2:P",
        "! accept from 10.7.0.2:P denied",
        "! accept from 10.7.0.3:P",
        "! accept from denied port 10000",
        "! accept from 10.7.0.3:P",
    ];
    assert_eq!(seen, expected, "{lines:#?}");
}

/// The line with the client's port, which the kernel chose, as `P`.
fn without_port(line: &str) -> String {
    match line.split_once("10.7.0.") {
        Some((_, rest)) => {
            let port: String = rest.chars().skip(2).take_while(char::is_ascii_digit).collect();
            line.replacen(&format!(":{port}"), ":P", 1)
        }
        None => line.to_owned(),
    }
}

#[test]
fn c16_a_permitted_accept_is_as_without_a_firewall() {
    let network = trio();
    let [server, _, good] = network.hosts() else { panic!("a star of three") };
    let accepted = |port: u16| {
        let listener = on(server, || TcpListener::bind(("0.0.0.0", port))).unwrap();
        let mut client = good.namespace.inside(|| TcpStream::connect(("10.7.0.1", port))).unwrap();
        let (mut stream, from) = listener.accept().unwrap();
        client.write_all(b"x").unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        let same = from == client.local_addr().unwrap()
            && stream.local_addr().unwrap() == client.peer_addr().unwrap();
        (same, stream.nodelay().unwrap(), stream.read_timeout().unwrap(), stream.ttl().unwrap())
    };
    let before = accepted(20_000);
    let enforcing =
        Enforcing::on(server, &["--deny", "10.7.0.2", "--port", "10000", "--debug", "1"]);
    assert_eq!(accepted(20_001), before);
    assert!(before.0);
    enforcing.stop();
}
