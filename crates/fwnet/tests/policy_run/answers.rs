//! A default deny, in and out, breaks no answers: what was allowed to ask is answered, and nothing else comes in.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use testbed::{Namespace, Network};

use crate::{
    document::Document,
    shared::{DEADLINE, EACCES, ECONNREFUSED, Echo, connect_errno, on},
};

/// Nothing is allowed but what a test adds.
const CLOSED: &str = "default deny in\ndefault deny out\n";

fn closed_but(rules: &str) -> Document {
    Document::new(&format!("{CLOSED}{rules}"))
}

/// A datagram socket in `namespace`, outside every cgroup of the tests; its reads end.
fn socket_in(namespace: &Namespace, address: &str) -> UdpSocket {
    readable(namespace.inside(|| UdpSocket::bind(address)).unwrap())
}

fn readable(socket: UdpSocket) -> UdpSocket {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Takes one datagram and says from whom.
#[track_caller]
fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2048];
    let (taken, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..taken].to_vec(), from)
}

/// Whether nothing is there to be taken. What was sent before a datagram that has come was there before it, because a
/// veth pair and loopback keep the order: so tests send what must not pass first and what must pass after it.
fn nothing_waits(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).unwrap();
    let waits = socket.recv_from(&mut [0; 2048]).is_ok();
    socket.set_nonblocking(false).unwrap();
    !waits
}

/// Asks `rounds` times from `from` and takes as many answers.
#[track_caller]
fn exchange(from: &UdpSocket, to: &str, rounds: usize) {
    for round in 0..rounds {
        let question = format!("question {round}");
        from.send_to(question.as_bytes(), to).unwrap();
        assert_eq!(receive(from).0, question.as_bytes(), "{to}");
    }
}

#[test]
fn dns_is_answered_to_an_unconnected_socket() {
    let network = Network::star(2);
    let [client, resolver] = network.hosts() else { panic!("a star of two") };
    let _v4 = Echo::udp(&resolver.namespace, "10.7.0.2:53");
    let _v6 = Echo::udp(&resolver.namespace, "[fd07::2]:53");
    for rules in ["allow me -> any : udp/53\n", "allow any -> 10.7.0.2, fd07::2 : udp/53\n"] {
        let document = closed_but(rules);
        let enforcing = document.enforce(client, &[]);
        on(client, || {
            // Never bound: the kernel chooses the port while it sends.
            exchange(&readable(UdpSocket::bind("0.0.0.0:0").unwrap()), "10.7.0.2:53", 3);
            exchange(&readable(UdpSocket::bind("[::]:0").unwrap()), "[fd07::2]:53", 3);
            let connected = readable(UdpSocket::bind("0.0.0.0:0").unwrap());
            connected.connect("10.7.0.2:53").unwrap();
            connected.send(b"question").unwrap();
            assert_eq!(receive(&connected).0, b"question");
        });
        enforcing.stop();
    }
}

#[test]
fn a_default_deny_in_alone_lets_answers_in() {
    let network = Network::star(2);
    let [client, resolver] = network.hosts() else { panic!("a star of two") };
    let _resolver = Echo::udp(&resolver.namespace, "10.7.0.2:53");
    let document = Document::new("default deny in\n");
    let enforcing = document.enforce(client, &[]);
    on(client, || {
        exchange(&readable(UdpSocket::bind("0.0.0.0:0").unwrap()), "10.7.0.2:53", 3);
    });
    enforcing.stop();
}

#[test]
fn ntp_is_answered_from_port_123_to_port_123() {
    let network = Network::star(2);
    let [client, server] = network.hosts() else { panic!("a star of two") };
    let echo = Echo::udp(&server.namespace, "[::]:123");
    let document = closed_but("allow me -> 10.7.0.2, fd07::2 : udp/123\n");
    let enforcing = document.enforce(client, &[]);
    on(client, || {
        exchange(&readable(UdpSocket::bind("0.0.0.0:123").unwrap()), "10.7.0.2:123", 3);
        exchange(&readable(UdpSocket::bind("[fd07::1]:123").unwrap()), "[fd07::2]:123", 3);
    });
    assert_eq!(echo.came(), 6);
    enforcing.stop();
}

#[test]
fn quic_goes_both_ways_over_every_kind_of_address() {
    /// More than any queue between the two holds is never under way at once.
    const BURST: usize = 16;

    let network = Network::star(2);
    let [client, server] = network.hosts() else { panic!("a star of two") };
    let server = socket_in(&server.namespace, "[::]:443");
    let document = closed_but("allow me -> 10.7.0.2, fd07::2 : udp/443\n");
    let enforcing = document.enforce(client, &[]);
    for (local, target) in [
        ("0.0.0.0:0", "10.7.0.2:443"),
        ("[::]:0", "[fd07::2]:443"),
        ("[::]:0", "[::ffff:10.7.0.2]:443"),
    ] {
        let client = readable(on(client, || UdpSocket::bind(local)).unwrap());
        on(network.hosts().first().unwrap(), || {
            client.send_to(b"initial", target).unwrap();
            let (_, back) = receive(&server);
            for round in 0..8 {
                for _ in 0..BURST {
                    server.send_to(b"down", back).unwrap();
                }
                for _ in 0..BURST {
                    assert_eq!(receive(&client).0, b"down", "{target}, round {round}");
                    client.send_to(b"up", target).unwrap();
                }
                for _ in 0..BURST {
                    assert_eq!(receive(&server).0, b"up", "{target}, round {round}");
                }
            }
        });
    }
    enforcing.stop();
}

#[test]
fn a_server_answers_an_allowed_client_under_a_default_deny_out() {
    let network = Network::star(3);
    let [server, client, stranger] = network.hosts() else { panic!("a star of three") };
    let document = closed_but("allow 10.7.0.2, fd07::2 -> me : udp/20000\n");
    let enforcing = document.enforce(server, &["-o", "json"]);
    let service = readable(on(server, || UdpSocket::bind("[::]:20000")).unwrap());
    let asking = socket_in(&client.namespace, "[::]:0");
    for (target, from) in [("10.7.0.1:20000", "stranger 4"), ("[fd07::1]:20000", "stranger 6")] {
        socket_in(&stranger.namespace, "[::]:0").send_to(from.as_bytes(), target).unwrap();
        asking.send_to(b"question", target).unwrap();
        on(server, || {
            let (question, back) = receive(&service);
            assert_eq!(question, b"question", "{target}");
            service.send_to(b"answer", back).unwrap();
            // To another port of the same client nobody asked for anything.
            let mut elsewhere = back;
            elsewhere.set_port(back.port() ^ 1);
            let error = service.send_to(b"answer", elsewhere).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(EACCES), "{target}");
        });
        assert_eq!(receive(&asking).0, b"answer", "{target}");
    }
    let events = enforcing.stop_events();
    assert_eq!(events.len(), 4, "two strangers, two ports: {events:#?}");
}

#[test]
fn loopback_is_left_alone() {
    let network = Network::star(2);
    let host = &network.hosts()[0];
    let document = closed_but("");
    let enforcing = document.enforce(host, &[]);
    on(host, || {
        let _stream = Echo::tcp(&host.namespace, "[::]:20000");
        let _datagram = Echo::udp(&host.namespace, "[::]:20000");
        for target in ["127.0.0.1:20000", "127.9.9.9:20000", "[::1]:20000", "0.0.0.0:20000"] {
            assert_eq!(connect_errno(target), None, "{target}");
        }
        exchange(&readable(UdpSocket::bind("127.0.0.1:0").unwrap()), "127.0.0.1:20000", 3);
        exchange(&readable(UdpSocket::bind("[::1]:0").unwrap()), "[::1]:20000", 3);
        assert_eq!(connect_errno("10.7.0.2:20000"), Some(EACCES));
    });
    enforcing.stop();
}

#[test]
fn an_established_connection_goes_on_under_a_policy_that_would_deny_it() {
    let network = Network::star(2);
    let [host, peer] = network.hosts() else { panic!("a star of two") };
    let _far = Echo::tcp(&peer.namespace, "[::]:20000");
    let document = Document::new("allow any -> any\n");
    let enforcing = document.enforce(host, &[]);
    let _near = Echo::serve(on(host, || std::net::TcpListener::bind("[::]:20001")).unwrap());
    let out = on(host, || TcpStream::connect("10.7.0.2:20000")).unwrap();
    let inward = peer.namespace.inside(|| TcpStream::connect("10.7.0.1:20001")).unwrap();
    let talk = |mut stream: &TcpStream, word: &[u8]| {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(word).unwrap();
        let mut answer = vec![0; word.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, word);
    };
    for stream in [&out, &inward] {
        talk(stream, b"before");
    }
    document.swap(&enforcing, CLOSED, 2);
    for stream in [&out, &inward] {
        talk(stream, b"under a default deny");
    }
    document.swap(&enforcing, "deny any -> any\n", 3);
    for stream in [&out, &inward] {
        talk(stream, b"under a rule that denies everything");
    }
    assert_eq!(on(host, || connect_errno("10.7.0.2:20000")), Some(EACCES));
    assert_eq!(peer.namespace.inside(|| connect_errno("10.7.0.1:20001")), Some(ECONNREFUSED));
    enforcing.stop();
}

#[test]
fn a_rule_that_denies_the_answer_by_name_is_stronger_than_the_question() {
    let network = Network::star(3);
    let [client, denied, other] = network.hosts() else { panic!("a star of three") };
    let _denied = Echo::udp(&denied.namespace, "10.7.0.2:53");
    let _other = Echo::udp(&other.namespace, "10.7.0.3:53");
    let document =
        closed_but("allow me -> any : udp/53\ndeny 10.7.0.2 -> me : udp/any  id=\"mute\"\n");
    let enforcing = document.enforce(client, &["-o", "json"]);
    on(client, || {
        let socket = readable(UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.send_to(b"mute", "10.7.0.2:53").unwrap();
        enforcing.line("\"mute\"");
        exchange(&socket, "10.7.0.3:53", 3);
        assert!(nothing_waits(&socket));
    });
    let events = enforcing.stop_events();
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(events[0]["rule"]["id"], "mute");
}

#[test]
fn nobody_but_the_one_who_was_asked_gets_in_and_only_to_the_port_that_asked() {
    let network = Network::star(3);
    let [host, peer, third] = network.hosts() else { panic!("a star of three") };
    let document = closed_but("allow me -> any : udp/20000\n");
    let enforcing = document.enforce(host, &["-o", "json"]);
    let asking = readable(on(host, || UdpSocket::bind("10.7.0.1:30000")).unwrap());
    let beside = readable(on(host, || UdpSocket::bind("10.7.0.1:30001")).unwrap());
    let asked = socket_in(&peer.namespace, "10.7.0.2:20000");
    let same_peer = socket_in(&peer.namespace, "10.7.0.2:20001");
    let stranger = socket_in(&third.namespace, "10.7.0.3:20000");
    // Before anything was asked, not even the one who will be asked gets in.
    asked.send_to(b"too early", "10.7.0.1:30000").unwrap();
    on(host, || asking.send_to(b"question", "10.7.0.2:20000")).unwrap();
    assert_eq!(receive(&asked).0, b"question");
    asked.send_to(b"other port", "10.7.0.1:30001").unwrap();
    same_peer.send_to(b"from another port", "10.7.0.1:30000").unwrap();
    stranger.send_to(b"from another peer", "10.7.0.1:30000").unwrap();
    for _ in 0..3 {
        asked.send_to(b"answer", "10.7.0.1:30000").unwrap();
        assert_eq!(receive(&asking), (b"answer".to_vec(), "10.7.0.2:20000".parse().unwrap()));
    }
    for line in ["30001", "20001", "10.7.0.3"] {
        enforcing.line(line);
    }
    assert!(nothing_waits(&asking) && nothing_waits(&beside));
    let events = enforcing.stop_events();
    assert_eq!(events.len(), 4, "{events:#?}");
}

#[test]
fn an_answer_is_one_in_its_own_network_namespace_only() {
    let network = Network::star(3);
    let [asking, silent, peer] = network.hosts() else { panic!("a star of three") };
    let document = closed_but("allow any -> 10.7.0.3 : udp/20000\n");
    let namespaces = [&asking.namespace, &silent.namespace];
    let enforcing = document.enforce_in(&asking.cgroup, &namespaces, &["-o", "json"]);
    let first = readable(on(asking, || UdpSocket::bind("0.0.0.0:30000")).unwrap());
    // The same process and port, in the other namespace.
    let second = {
        let _visit = asking.cgroup.enter_current_process();
        silent.namespace.inside(|| UdpSocket::bind("0.0.0.0:30000")).unwrap()
    };
    let peer = socket_in(&peer.namespace, "10.7.0.3:20000");
    on(asking, || first.send_to(b"question", "10.7.0.3:20000")).unwrap();
    assert_eq!(receive(&peer).1, "10.7.0.1:30000".parse().unwrap());
    peer.send_to(b"astray", "10.7.0.2:30000").unwrap();
    enforcing.line("10.7.0.2");
    peer.send_to(b"answer", "10.7.0.1:30000").unwrap();
    assert_eq!(receive(&first).0, b"answer");
    assert!(nothing_waits(&second));
    second.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    assert!(second.recv_from(&mut [0; 16]).is_err());
    let events = enforcing.stop_events();
    assert_eq!(events.len(), 1, "{events:#?}");
}
