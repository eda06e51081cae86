//! What every way in has in common when nobody comes, and what wrong uses of a door give.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use doors::{Attempt, DoorError, inward, listen, named, open};

use crate::namespace::{FASTOPEN_DEFAULT, inside};

#[test]
fn every_way_in_waits_until_the_deadline_and_can_go_on() {
    inside("inward::every_way_in_waits_until_the_deadline_and_can_go_on", FASTOPEN_DEFAULT, || {
        for way_in in inward() {
            let mut listener = listen(way_in, "127.0.0.1:0".parse().unwrap(), 5).unwrap();
            for _ in 0..2 {
                let started = Instant::now();
                let error = listener.accept(Some(started + Duration::from_millis(60))).unwrap_err();
                assert!(matches!(error, DoorError::TimedOut { .. }), "{way_in:?}: {error:?}");
                assert!(started.elapsed() >= Duration::from_millis(50), "{way_in:?}");
            }
            let out = if way_in.name == "udp-receive" { "udp-sendto" } else { "connect" };
            let target = SocketAddr::new([127, 0, 0, 1].into(), listener.local().port());
            let opened =
                open(named(out).unwrap(), &Attempt::new(target, Duration::from_secs(5))).unwrap();
            let accepted = listener.accept(None).unwrap();
            assert_eq!(accepted.peer().port(), opened.local().port(), "{way_in:?}");
        }
    });
}

#[test]
fn a_port_in_use_is_refused_at_bind_by_every_way_in() {
    inside("inward::a_port_in_use_is_refused_at_bind_by_every_way_in", FASTOPEN_DEFAULT, || {
        let address: SocketAddr = "127.0.0.1:10000".parse().unwrap();
        let _stream = listen(named("accept").unwrap(), address, 5).unwrap();
        let _datagram = listen(named("udp-receive").unwrap(), address, 5).unwrap();
        for way_in in inward().filter(|way_in| way_in.name != "autobind") {
            let error = listen(way_in, address, 5).unwrap_err();
            assert_eq!(error.errno(), Some(98), "{way_in:?}: {error}");
        }
    });
}

#[test]
fn a_door_used_the_wrong_way_says_so() {
    let attempt = Attempt::new("[::1]:9".parse().unwrap(), Duration::from_secs(1));
    let told = |name| open(named(name).unwrap(), &attempt).unwrap_err().to_string();
    assert_eq!(told("accept"), "not offered here: accept is a way in");
    assert_eq!(
        told("connect-mapped"),
        "not offered here: connect-mapped takes IPv4 addresses only"
    );
    let error = listen(named("mptcp").unwrap(), attempt.target, 5).unwrap_err();
    assert_eq!(error.to_string(), "not offered here: mptcp is a way out");
}
