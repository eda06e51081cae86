//! The loads: with nothing denied a race must reach both addresses, or it would prove nothing; a storm adds up.

use std::net::SocketAddr;
use std::time::Duration;

use doors::race::{Call, Race};
use doors::storm::Storm;
use doors::{named, race, storm};

use crate::namespace::{FASTOPEN_DEFAULT, inside};

#[test]
fn a_race_without_rules_reaches_both_addresses() {
    inside("race::a_race_without_rules_reaches_both_addresses", FASTOPEN_DEFAULT, || {
        let listener = std::net::TcpListener::bind("0.0.0.0:10000").unwrap();
        std::thread::spawn(move || listener.incoming().for_each(drop));
        for call in [Call::Connect, Call::FastOpen] {
            let allowed: SocketAddr = "127.0.0.1:10000".parse().unwrap();
            let denied: SocketAddr = "127.0.0.2:10000".parse().unwrap();
            // How many rewrites fall between two connects is the scheduler's choice: go on until both were seen.
            let mut seen = race::Finish::default();
            for _ in 0..100 {
                let finish = race::run(&Race { allowed, denied, count: 200, call }).unwrap();
                assert_eq!(finish.attempts, 200);
                assert_eq!(finish.reached_other, 0, "one word differs: there is no mixture");
                assert!(finish.failed.is_empty(), "{finish:?}");
                assert_eq!(finish.reached_allowed + finish.reached_denied, 200);
                assert!(finish.rewrites > 0);
                seen.reached_allowed += finish.reached_allowed;
                seen.reached_denied += finish.reached_denied;
                if seen.reached_allowed > 0 && seen.reached_denied > 0 {
                    break;
                }
            }
            assert!(seen.reached_allowed > 0 && seen.reached_denied > 0, "{call:?}: {seen:?}");
        }
    });
}

#[test]
fn a_race_between_families_is_refused() {
    let race = Race {
        allowed: "127.0.0.1:1".parse().unwrap(),
        denied: "[::1]:1".parse().unwrap(),
        count: 1,
        call: Call::Connect,
    };
    assert!(race::run(&race).is_err());
}

#[test]
fn a_storm_counts_every_attempt() {
    inside("race::a_storm_counts_every_attempt", FASTOPEN_DEFAULT, || {
        let listener = std::net::TcpListener::bind("127.0.0.1:10000").unwrap();
        std::thread::spawn(move || listener.incoming().for_each(drop));
        let storm = |target: &str, door| {
            let timeout = Duration::from_secs(10);
            let target = target.parse().unwrap();
            storm::run(&Storm {
                door: named(door).unwrap(),
                target,
                count: 301,
                threads: 4,
                timeout,
            })
        };
        let open = storm("127.0.0.1:10000", "connect");
        assert_eq!((open.attempts, open.connected, open.failed.len()), (301, 301, 0), "{open:?}");
        let closed = storm("127.0.0.1:9", "uring-connect");
        assert_eq!((closed.attempts, closed.connected), (301, 0));
        assert_eq!(closed.failed.get("ECONNREFUSED"), Some(&301));
        let denied = storm("192.0.2.129:9", "fastopen-sendto");
        assert_eq!(denied.failed.get("EACCES"), Some(&301));
    });
}
