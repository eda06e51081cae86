//! Every way out against every way in that fits, and every way out against a closed port, a denied address and silence.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use doors::{Attempt, Door, DoorError, Protocol, Stage, inward, listen, open, outward};

use crate::namespace::{FASTOPEN_ALWAYS, FASTOPEN_DEFAULT, inside};

const TIMEOUT: Duration = Duration::from_secs(10);

const LOOPBACK: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

#[test]
fn every_way_out_meets_every_way_in() {
    inside("matrix::every_way_out_meets_every_way_in", FASTOPEN_DEFAULT, || {
        let met = everything_meets();
        // Streams: 15 ways out to IPv4, 14 to IPv6 (not the mapped one), 14 ways in; datagrams: 4 and 3, one.
        assert_eq!(met, (15 + 14) * 14 + 4 + 3);
    });
}

#[test]
fn every_way_out_meets_every_way_in_with_data_in_the_syn() {
    inside(
        "matrix::every_way_out_meets_every_way_in_with_data_in_the_syn",
        FASTOPEN_ALWAYS,
        || {
            everything_meets();
            let data_in_syn = counter("TCPFastOpenPassive:");
            assert!(data_in_syn > 0, "no listener ever took data in a SYN");
        },
    );
}

/// Connects all pairs, and returns how many there were.
fn everything_meets() -> usize {
    let mut met = 0;
    for way_in in inward() {
        for address in LOOPBACK.map(|text| text.parse().unwrap()) {
            let ways_out: Vec<_> = outward()
                .filter(|out| out.protocol.meets(way_in.protocol) && out.reaches(address))
                .collect();
            converse(way_in, &ways_out, address);
            met += ways_out.len();
        }
    }
    met
}

/// One listener, and through each way out a conversation of two exchanges with it.
fn converse(way_in: &Door, ways_out: &[&Door], address: SocketAddr) {
    let mut listener =
        listen(way_in, address, 16).unwrap_or_else(|error| panic!("{way_in:?} {address}: {error}"));
    let target = SocketAddr::new(address.ip(), listener.local().port());
    for out in ways_out {
        let case = format!("{out:?} -> {way_in:?} at {target}");
        thread::scope(|scope| {
            let server = scope.spawn(|| {
                let deadline = Some(Instant::now() + TIMEOUT);
                let mut accepted =
                    listener.accept(deadline).unwrap_or_else(|error| panic!("{case}: {error}"));
                let mut buffer = [0; 64];
                for _ in 0..2 {
                    let taken = accepted.receive(&mut buffer, deadline).unwrap();
                    accepted.send(&buffer[..taken]).unwrap();
                    if way_in.protocol == Protocol::Udp {
                        break;
                    }
                }
                (accepted.local(), accepted.peer())
            });
            let attempt = Attempt { first: b"first", ..Attempt::new(target, TIMEOUT) };
            let mut opened = open(out, &attempt).unwrap_or_else(|error| panic!("{case}: {error}"));
            let mut buffer = [0; 64];
            let taken = opened.receive(&mut buffer, Some(attempt.deadline)).unwrap();
            assert_eq!(&buffer[..taken], b"first", "{case}");
            if way_in.protocol != Protocol::Udp {
                opened.send(b"second").unwrap();
                let taken = opened.receive(&mut buffer, Some(attempt.deadline)).unwrap();
                assert_eq!(&buffer[..taken], b"second", "{case}");
            }
            let (local, peer) = server.join().unwrap();
            assert_eq!((opened.peer(), local), (target, target), "{case}");
            assert_eq!(peer.port(), opened.local().port(), "{case}");
        });
    }
}

#[test]
fn a_closed_port_is_refused_through_every_way_out() {
    inside("matrix::a_closed_port_is_refused_through_every_way_out", FASTOPEN_DEFAULT, || {
        for target in ["127.0.0.1:9", "[::1]:9"] {
            each_way_out(target, |case, error| {
                assert_eq!(error.errno(), Some(111), "{case}: {error}");
            });
        }
    });
}

#[test]
fn a_denied_address_gives_eacces_through_every_way_out() {
    inside("matrix::a_denied_address_gives_eacces_through_every_way_out", FASTOPEN_DEFAULT, || {
        for target in ["192.0.2.129:80", "[2001:db8:2::1]:80"] {
            each_way_out(target, |case, error| {
                assert_eq!(error.errno(), Some(13), "{case}: {error}");
                assert!(
                    matches!(error.stage(), Some(Stage::Connect | Stage::Send)),
                    "{case}: {error}"
                );
            });
        }
    });
}

#[test]
fn silence_ends_at_the_deadline_through_every_stream_way_out() {
    inside(
        "matrix::silence_ends_at_the_deadline_through_every_stream_way_out",
        FASTOPEN_DEFAULT,
        || {
            for target in ["192.0.2.2:80", "[2001:db8:1::2]:80"] {
                let target: SocketAddr = target.parse().unwrap();
                for out in
                    outward().filter(|out| out.protocol != Protocol::Udp && out.reaches(target))
                {
                    let started = Instant::now();
                    let error =
                        open(out, &Attempt::new(target, Duration::from_millis(300))).unwrap_err();
                    let elapsed = started.elapsed();
                    assert!(
                        matches!(error, DoorError::TimedOut { .. }),
                        "{out:?} to {target}: {error:?}"
                    );
                    assert!(
                        elapsed >= Duration::from_millis(250),
                        "{out:?} gave up after {elapsed:?}"
                    );
                    assert!(elapsed < TIMEOUT, "{out:?} gave up after {elapsed:?}");
                }
            }
        },
    );
}

/// Attempts `target` through every way out that reaches it, and shows how each failed. A datagram fails at once or when
/// its answer is awaited.
fn each_way_out(target: &str, failed: impl Fn(&str, DoorError)) {
    let target: SocketAddr = target.parse().unwrap();
    for out in outward().filter(|out| out.reaches(target)) {
        let case = format!("{out:?} to {target}");
        let attempt = Attempt::new(target, TIMEOUT);
        let error = match open(out, &attempt) {
            Err(error) => error,
            Ok(mut opened) if out.protocol == Protocol::Udp => {
                opened.receive(&mut [0; 8], Some(attempt.deadline)).expect_err(&case)
            }
            Ok(_) => panic!("{case}: connected"),
        };
        failed(&case, error);
    }
}

/// A counter of /proc/net/netstat of this namespace.
fn counter(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/net/netstat").unwrap();
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let wanted = name.trim_end_matches(':');
        if let Some(at) = names.split_whitespace().position(|known| known == wanted) {
            return values.split_whitespace().nth(at).unwrap().parse().unwrap();
        }
    }
    panic!("the kernel does not count {name}")
}
