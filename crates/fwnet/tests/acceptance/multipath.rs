//! MPTCP (RFC 8684) beside rules: transfers with and without it at either end, connections that are ended and made again,
//! queues of listeners, and further subflows, by this host's addresses and by those that the other end announces: each is
//! judged like a connection of its own, and the connection outlives those that are refused.
//!
//! The questions are those of the kernel's own tests (tools/testing/selftests/net/mptcp: mptcp_connect.sh, mptcp_connect.c,
//! mptcp_join.sh and mptcp_sockopt.c, Linux 6.12), each asked without rules and with rules about others before any rule
//! denies something. Those about scheduling are not asked: no hook of ours runs for it.

mod subflows;
mod told;

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    thread,
};

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, connect_unspec, ipproto, listen,
    socket_with, sockopt,
};
use testbed::Host;

use crate::shared::{DEADLINE, Enforcing, counter, on, star};

const SERVER: &str = "10.7.0.2:20000";
const SERVER_V6: &str = "[fd07::2]:20000";
/// Rules in both directions about nobody here.
const OTHERS: [&str; 4] = ["--deny", "198.51.100.7", "--port", "7"];
/// More than any buffer between the two ends holds.
const LENGTH: usize = 6 << 20;

fn stream_socket(target: SocketAddr, multipath: bool) -> OwnedFd {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let protocol = multipath.then_some(ipproto::MPTCP);
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, protocol).unwrap()
}

fn listener(host: &Host, address: &str, multipath: bool) -> TcpListener {
    on(host, || {
        let address: SocketAddr = address.parse().unwrap();
        let socket = stream_socket(address, multipath);
        sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        bind(&socket, &address).unwrap();
        listen(&socket, 8).unwrap();
        TcpListener::from(socket)
    })
}

fn client(host: &Host, target: &str, multipath: bool) -> TcpStream {
    on(host, || {
        let target: SocketAddr = target.parse().unwrap();
        let socket = stream_socket(target, multipath);
        connect(&socket, &target).unwrap();
        bounded(TcpStream::from(socket))
    })
}

fn bounded(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Bytes in which one that is lost, doubled or misplaced shows.
fn pattern(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Sends from both ends at once, ends each direction behind its data, and compares everything.
#[track_caller]
fn transfer(near: &TcpStream, far: &TcpStream, length: usize) {
    both_ways(near, far, length, true);
}

/// The same, and the connection goes on.
#[track_caller]
fn carry(near: &TcpStream, far: &TcpStream, length: usize) {
    both_ways(near, far, length, false);
}

#[track_caller]
fn both_ways(near: &TcpStream, far: &TcpStream, length: usize, ends: bool) {
    let (up, down) = (pattern(7, length), pattern(8, length));
    thread::scope(|scope| {
        for (mut stream, data) in [(near, &up), (far, &down)] {
            scope.spawn(move || {
                stream.write_all(data).unwrap();
                if ends {
                    stream.shutdown(Shutdown::Write).unwrap();
                }
            });
        }
        for (mut stream, data) in [(far, &up), (near, &down)] {
            scope.spawn(move || {
                let mut came = vec![0; data.len()];
                stream.read_exact(&mut came).unwrap();
                assert!(came == *data, "other bytes came");
                assert!(!ends || stream.read(&mut [0]).unwrap() == 0, "more came than was sent");
            });
        }
    });
}

/// One byte each way, so that both ends know that the connection stands.
#[track_caller]
fn ping(mut near: &TcpStream, mut far: &TcpStream) {
    let mut byte = [0];
    near.write_all(b"a").unwrap();
    far.read_exact(&mut byte).unwrap();
    far.write_all(b"b").unwrap();
    near.read_exact(&mut byte).unwrap();
}

/// A listener of `far`, and both ends of a connection to it that stands.
#[track_caller]
fn connected(near: &Host, far: &Host, target: &str) -> (TcpListener, TcpStream, TcpStream) {
    let any = if target == SERVER { "0.0.0.0:20000" } else { "[::]:20000" };
    let listener = listener(far, any, true);
    let near_end = client(near, target, true);
    let far_end = bounded(listener.accept().unwrap().0);
    ping(&near_end, &far_end);
    (listener, near_end, far_end)
}

/// What a host has counted of MPTCP.
fn counted(host: &Host, name: &str) -> u64 {
    host.namespace.inside(|| counter("MPTcpExt", name))
}

#[test]
fn transfers_are_whole_with_multipath_at_both_ends_one_or_none() {
    for rules in [None, Some(OTHERS)] {
        let network = star(2);
        let [near, far] = network.hosts() else { panic!("a star of two") };
        let enforcing = rules.map(|rules| [near, far].map(|host| Enforcing::on(host, &rules)));
        let mut capable = 0;
        for (target, any) in [(SERVER, "0.0.0.0:20000"), (SERVER_V6, "[::]:20000")] {
            for (ours, theirs) in [(true, true), (true, false), (false, true), (false, false)] {
                let listener = listener(far, any, theirs);
                let near_end = client(near, target, ours);
                let far_end = bounded(listener.accept().unwrap().0);
                transfer(&near_end, &far_end, LENGTH);
                capable += u64::from(ours && theirs);
                assert_eq!(
                    counted(far, "MPCapableSYNRX"),
                    capable,
                    "{target}: multipath here {ours}, there {theirs}"
                );
            }
        }
        for enforcing in enforcing.into_iter().flatten() {
            let lines = enforcing.stop();
            assert!(!lines.iter().any(|line| line.ends_with("denied")), "{lines:#?}");
        }
    }
}

#[test]
fn a_connection_is_ended_and_made_again_on_the_same_socket() {
    for rules in [None, Some(OTHERS)] {
        let network = star(2);
        let [near, far] = network.hosts() else { panic!("a star of two") };
        let enforcing = rules.map(|rules| [near, far].map(|host| Enforcing::on(host, &rules)));
        let listener = listener(far, "0.0.0.0:20000", true);
        let stream = client(near, SERVER, true);
        for round in 0..4 {
            let far_end = bounded(listener.accept().unwrap().0);
            ping(&stream, &far_end);
            if round < 3 {
                on(near, || {
                    connect_unspec(&stream).unwrap();
                    connect(&stream, &SERVER.parse::<SocketAddr>().unwrap()).unwrap();
                });
            } else {
                transfer(&stream, &far_end, LENGTH);
            }
        }
        assert_eq!(counted(far, "MPCapableACKRX"), 4);
        drop(enforcing);
    }
}

#[test]
fn who_waits_in_a_listeners_queue_is_taken_in_order_or_ended_with_it() {
    for rules in [None, Some(OTHERS)] {
        let network = star(2);
        let [near, far] = network.hosts() else { panic!("a star of two") };
        let enforcing = rules.map(|rules| [near, far].map(|host| Enforcing::on(host, &rules)));
        let listener = listener(far, "0.0.0.0:20000", true);
        let waiting: Vec<_> = (0..6u8)
            .map(|number| {
                let mut stream = client(near, SERVER, true);
                stream.write_all(&[number]).unwrap();
                stream
            })
            .collect();
        for number in 0..4u8 {
            let mut taken = bounded(listener.accept().unwrap().0);
            let mut byte = [u8::MAX];
            taken.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [number]);
        }
        drop(listener);
        for mut stream in waiting.into_iter().skip(4) {
            // An end or a reset, as the kernel has it; never data, and never silence.
            match stream.read(&mut [0]) {
                Ok(taken) => assert_eq!(taken, 0),
                Err(error) => assert_ne!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        drop(enforcing);
    }
}

#[test]
fn a_network_without_multipath_says_so_as_ever() {
    let network = star(1);
    let [host] = network.hosts() else { panic!("a star of one") };
    host.namespace.inside(|| fs::write("/proc/sys/net/mptcp/enabled", "0")).unwrap();
    let made = || {
        socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            Some(ipproto::MPTCP),
        )
        .map(drop)
        .unwrap_err()
    };
    let without = on(host, made);
    let enforcing = Enforcing::on(host, &OTHERS);
    assert_eq!(on(host, made), without);
    enforcing.stop();
}
