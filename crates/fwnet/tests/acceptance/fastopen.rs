//! TCP fast open (RFC 7413) beside rules: with a cookie and without, by every call that asks for it, with keys that change,
//! and to who does not offer it. What is denied leaves no byte, although the data would be in the first packet.
//!
//! The questions are those of the kernel's own tests (tools/testing/selftests/net/tcp_fastopen_backup_key.c and the fast open
//! runs of net/mptcp/mptcp_connect.sh, Linux 6.12), each asked without rules and with rules about others first.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, OwnedFd},
};

use doors::{Attempt, DoorError, named, open, outward, release};
use kernel::raw::option::set_fastopen_keys;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use testbed::{Host, Namespace, Network};

use crate::shared::{DEADLINE, ECONNREFUSED, Echo, Enforcing, counter, denial, on, star};

const SERVER: &str = "10.7.0.2:20000";
const SERVER_V6: &str = "[fd07::2]:20000";
/// Rules in both directions about nobody here.
const OTHERS: [&str; 4] = ["--deny", "198.51.100.7", "--port", "7"];

/// Bits of net.ipv4.tcp_fastopen (the kernel's Documentation/networking/ip-sysctl.rst): the client's side, the server's for
/// every listener, and on both data without a cookie.
const CLIENT: u32 = 0x1;
const SERVES: u32 = 0x2 | 0x400;
const CLIENT_UNASKED: u32 = CLIENT | 0x4;
const SERVES_UNASKED: u32 = SERVES | 0x200;

fn offer(namespace: &Namespace, bits: u32) {
    set(namespace, "tcp_fastopen", &bits.to_string());
}

fn set(namespace: &Namespace, switch: &str, value: &str) {
    let path = format!("/proc/sys/net/ipv4/{switch}");
    namespace.inside(|| fs::write(path, value)).unwrap();
}

/// What a host has counted of fast open.
fn counted(host: &Host, name: &str) -> u64 {
    host.namespace.inside(|| counter("TcpExt", name))
}

/// Whether this kernel has a door: MPTCP has fast open since Linux 6.2.
fn is_there(door: &str) -> bool {
    door != "mptcp-fastopen" || release() >= (6, 2)
}

/// One exchange through a door: what goes in the first packet, if it may, comes back.
fn exchange(door: &str, target: &str) -> Result<(), DoorError> {
    let target: SocketAddr = target.parse().unwrap();
    let attempt = Attempt { first: b"knock", ..Attempt::new(target, DEADLINE) };
    let mut opened = open(named(door).unwrap(), &attempt)?;
    let mut answer = [0; 8];
    let mut taken = 0;
    while taken < 5 {
        match opened.receive(&mut answer[taken..], Some(attempt.deadline))? {
            0 => break,
            more => taken += more,
        }
    }
    assert_eq!(&answer[..taken], b"knock", "{door} to {target}");
    Ok(())
}

/// Client and server, the server's network offering fast open so; with each set of rules in turn, nobody's and others'.
fn beside_rules(client: u32, server: u32, mut ask: impl FnMut(&Network)) {
    for rules in [None, Some(OTHERS)] {
        let network = star(2);
        let [near, far] = network.hosts() else { panic!("a star of two") };
        offer(&near.namespace, client);
        offer(&far.namespace, server);
        let enforcing = rules.map(|rules| [near, far].map(|host| Enforcing::on(host, &rules)));
        ask(&network);
        for enforcing in enforcing.into_iter().flatten() {
            let lines = enforcing.stop();
            assert!(!lines.iter().any(|line| line.ends_with("denied")), "{lines:#?}");
        }
    }
}

#[test]
fn a_cookie_is_had_once_and_then_the_first_packet_has_data() {
    beside_rules(CLIENT, SERVES, |network| {
        let [client, server] = network.hosts() else { panic!("a star of two") };
        let echo = Echo::serve(on(server, || TcpListener::bind("[::]:20000")).unwrap());
        let mut fast = 0;
        for target in [SERVER, SERVER_V6] {
            let asked = counted(server, "TCPFastOpenCookieReqd");
            on(client, || exchange("fastopen-sendto", target)).unwrap();
            assert_eq!(counted(server, "TCPFastOpenCookieReqd"), asked + 1, "{target}");
            for door in ["fastopen-sendto", "fastopen-sendmsg", "fastopen-connect"] {
                on(client, || exchange(door, target)).unwrap();
                fast += 1;
                assert_eq!(counted(server, "TCPFastOpenPassive"), fast, "{door} to {target}");
                assert_eq!(counted(client, "TCPFastOpenActive"), fast, "{door} to {target}");
            }
        }
        assert_eq!(echo.came(), 8);
        assert_eq!(counted(server, "TCPFastOpenPassiveFail"), 0);
    });
}

#[test]
fn data_without_a_cookie_is_taken_where_both_ends_want_it() {
    beside_rules(CLIENT_UNASKED, SERVES_UNASKED, |network| {
        let [client, server] = network.hosts() else { panic!("a star of two") };
        let _echo = Echo::serve(on(server, || TcpListener::bind("[::]:20000")).unwrap());
        for (fast, target) in (1..).zip([SERVER, SERVER_V6]) {
            on(client, || exchange("fastopen-sendto", target)).unwrap();
            assert_eq!(counted(server, "TCPFastOpenPassive"), fast, "{target}");
        }
    });
}

#[test]
fn who_offers_none_is_reached_by_a_plain_handshake() {
    beside_rules(CLIENT_UNASKED, 0, |network| {
        let [client, server] = network.hosts() else { panic!("a star of two") };
        let echo = Echo::serve(on(server, || TcpListener::bind("[::]:20000")).unwrap());
        let doors = ["fastopen-sendto", "fastopen-sendmsg", "fastopen-connect", "mptcp-fastopen"];
        for (came, door) in (1..).zip(doors.into_iter().filter(|door| is_there(door))) {
            on(client, || exchange(door, SERVER)).unwrap();
            assert_eq!((echo.came(), counted(server, "TCPFastOpenPassive")), (came, 0), "{door}");
        }
    });
}

#[test]
fn no_cookie_is_refused_while_keys_change() {
    const OLD: &str = "00112233-44556677-8899aabb-ccddeeff";
    const NEW: &str = "ffeeddcc-bbaa9988-77665544-33221100";
    beside_rules(CLIENT, SERVES, |network| {
        let [client, server] = network.hosts() else { panic!("a star of two") };
        set(&server.namespace, "tcp_fastopen_key", OLD);
        // Several listeners share the port, and any of them may get a connection.
        let listeners = [(); 3].map(|()| on(server, sharing_listener));
        let _echoes = listeners.each_ref().map(|it| Echo::serve(it.try_clone().unwrap()));
        let fast = || counted(server, "TCPFastOpenPassive");
        on(client, || exchange("fastopen-sendto", SERVER)).unwrap();
        assert_eq!(fast(), 0, "the first has no cookie yet");
        let mut before = 0;
        let mut six_are_fast = |keys: &str| {
            for _ in 0..6 {
                on(client, || exchange("fastopen-sendto", SERVER)).unwrap();
                before += 1;
                assert_eq!(fast(), before, "with {keys}");
            }
        };
        for keys in in_turn(OLD, NEW) {
            set(&server.namespace, "tcp_fastopen_key", &keys);
            six_are_fast(&keys);
        }
        // Keys of a listener's own go before those of its network.
        for keys in in_turn(NEW, OLD) {
            for listener in &listeners {
                set_fastopen_keys(listener.as_fd(), &bytes(&keys)).unwrap();
            }
            six_are_fast(&keys);
        }
        assert_eq!(counted(server, "TCPFastOpenPassiveFail"), 0);
        let behind = counted(server, "TCPFastOpenPassiveAltKey");
        assert!(behind > 0, "a cookie of the old key was taken behind the new one");
    });
}

/// A new key is added behind the old one, then they change places, then the old one goes.
fn in_turn(old: &str, new: &str) -> [String; 4] {
    [old.to_owned(), format!("{old},{new}"), format!("{new},{old}"), new.to_owned()]
}

/// Keys as the option has them, of how the network's switch has them: numbers of 32 bits, the lowest byte first.
fn bytes(keys: &str) -> Vec<u8> {
    let numbers = keys.split([',', '-']).map(|number| u32::from_str_radix(number, 16).unwrap());
    numbers.flat_map(u32::to_le_bytes).collect()
}

fn sharing_listener() -> TcpListener {
    let socket: OwnedFd =
        socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    sockopt::set_socket_reuseport(&socket, true).unwrap();
    bind(&socket, &SocketAddr::from(([0, 0, 0, 0], 20_000))).unwrap();
    listen(&socket, 8).unwrap();
    TcpListener::from(socket)
}

#[test]
fn to_who_is_denied_no_packet_leaves_with_a_cookie_or_without() {
    for (client_bits, server_bits) in [(CLIENT, SERVES), (CLIENT_UNASKED, SERVES_UNASKED)] {
        let network = star(2);
        let [client, server] = network.hosts() else { panic!("a star of two") };
        offer(&client.namespace, client_bits);
        offer(&server.namespace, server_bits);
        let echo = Echo::tcp(&server.namespace, "[::]:20000");
        for target in [SERVER, SERVER_V6] {
            on(client, || exchange("fastopen-sendto", target)).unwrap();
        }
        let rules = ["--deny", "10.7.0.2", "--deny", "fd07::2"];
        let enforcing = Enforcing::start(&client.cgroup, &[], &rules);
        let (came, fast) = (echo.came(), counted(server, "TCPFastOpenPassive"));
        let begun = || client.namespace.inside(|| counter("Tcp", "ActiveOpens"));
        let before = begun();
        let doors = outward().filter(|door| door.name.contains("fastopen") && is_there(door.name));
        for door in doors {
            for target in [SERVER, SERVER_V6] {
                let target: SocketAddr = target.parse().unwrap();
                if door.reaches(target) {
                    let error =
                        on(client, || exchange(door.name, &target.to_string())).unwrap_err();
                    assert_eq!(error.errno(), Some(denial()), "{} to {target}", door.name);
                }
            }
        }
        assert_eq!(begun(), before, "connections begun");
        assert_eq!((echo.came(), counted(server, "TCPFastOpenPassive")), (came, fast));
        enforcing.stop();
        on(client, || exchange("fastopen-sendto", SERVER)).unwrap();
        assert_eq!(counted(server, "TCPFastOpenPassive"), fast + 1);
    }
}

#[test]
fn data_in_the_first_packet_of_who_is_denied_reaches_nobody() {
    let network = star(2);
    let [client, server] = network.hosts() else { panic!("a star of two") };
    offer(&client.namespace, CLIENT);
    offer(&server.namespace, SERVES);
    let echo = Echo::serve(on(server, || TcpListener::bind("[::]:20000")).unwrap());
    for _ in 0..2 {
        on(client, || exchange("fastopen-sendto", SERVER)).unwrap();
    }
    assert_eq!(counted(server, "TCPFastOpenPassive"), 1);
    let enforcing = Enforcing::on(server, &["--deny", "10.7.0.1"]);
    for door in ["fastopen-sendto", "fastopen-sendmsg", "fastopen-connect"] {
        let error = on(client, || exchange(door, SERVER)).unwrap_err();
        assert_eq!(error.errno(), Some(ECONNREFUSED), "{door}: {error}");
    }
    assert_eq!((echo.came(), counted(server, "TCPFastOpenPassive")), (2, 1));
    let lines = enforcing.stop();
    let denials = lines.iter().filter(|line| line.starts_with("! accept from 10.7.0.1:")).count();
    assert_eq!(denials, 3, "{lines:#?}");
}
