//! A host of a fleet: it takes what a controller assigns to it, as far as that is signed, and goes on without one.

use std::io;

use rustix::process::Signal;
use testbed::wait_until;
use wire::sync::{Stage, Stance};

use crate::{
    controller::{Controller, Wish},
    fixture::fine,
    shared::{DEADLINE, EACCES, on},
    signed::Fleet,
};

/// An endpoint that no route leads to.
const NOWHERE: &str = "192.0.2.77:8443";

/// Denies 127.0.0.`last`, and whoever has the role `bad`.
fn policy(last: u8) -> String {
    format!("deny any -> 127.0.0.{last}\ndeny role=web -> role=bad : tcp/80\n")
}

impl Fleet {
    fn wait_denied(&self, last: u8) {
        wait_until(DEADLINE, &format!("127.0.0.{last} alone to be denied"), || {
            self.denied() == [last]
        });
    }

    /// Whether connecting there is denied, by an address that no route leads to.
    fn denies(&self, target: &str) -> bool {
        on(&self.host, || {
            let tried = std::net::TcpStream::connect(target);
            tried.err().as_ref().and_then(io::Error::raw_os_error) == Some(EACCES)
        })
    }

    fn wait_connected(&self, connected: bool) {
        let what = if connected { "a controller" } else { "no controller" };
        wait_until(DEADLINE, what, || {
            self.bed.status()["fleet"]["connected_to"].is_string() == connected
        });
    }
}

impl Controller {
    #[track_caller]
    fn wait_stage(&self, target: &[u8], stage: Stage) -> String {
        wait_until(DEADLINE, &format!("{stage:?}"), || {
            self.progress(target).is_some_and(|(found, _)| found == stage)
        });
        self.progress(target).unwrap().1
    }
}

#[test]
fn a_host_follows_its_controller_and_goes_on_without_it() {
    let fleet = Fleet::new("");
    let first = fleet.bundle_of(1, &policy(2), "1d");
    let second = fleet.bundle_of(2, &policy(3), "1d");
    let third = fleet.bundle_of(3, &policy(4), "1d");
    fine(&fleet.host.namespace.inside(|| fleet.up(&first)));
    assert!(fleet.bed.status()["fleet"].is_null());
    let controller = Controller::new(&fleet.host, &fleet.bed.path("authority"));
    let bad = [("db-1", "bad", 9), ("db-2", "good", 10)];
    let wish = Wish { bundle: &second, hosts: &bad, ..Wish::default() };
    let target = controller.assign(&wish);
    controller.enrol(&fleet.path("state"), NOWHERE);

    // A target is enforced, and real connections are denied by it.
    controller.wait_stage(&target, Stage::Enforced);
    assert_eq!(fleet.denied(), [3]);
    assert!(fleet.denies("192.0.2.9:80") && !fleet.denies("192.0.2.10:80"));
    fleet.wait_connected(true);
    let status = fleet.bed.status();
    assert_eq!(status["fleet"]["stage"], "enforced");
    assert_eq!(status["policy"]["signed"]["snapshot"], 2);
    assert!(fleet.told("fleet-connected"));
    wait_until(DEADLINE, "a beat that tells of denials", || {
        controller.beats().1.is_some_and(|beat| beat.target == target && beat.denied > 0)
    });

    // A relabel comes as a difference.
    let relabelled = [("db-1", "good", 9), ("db-2", "bad", 10)];
    let wish = Wish { hosts: &relabelled, ..wish };
    let target = controller.assign(&wish);
    controller.wait_stage(&target, Stage::Enforced);
    assert_eq!(controller.differences(), 1);
    assert!(!fleet.denies("192.0.2.9:80") && fleet.denies("192.0.2.10:80"));

    // A trial that nobody confirms goes back, and the bundle of before is acceptable again.
    let trial = controller.assign(&Wish { bundle: &third, confirm_within_s: 8, ..wish.clone() });
    controller.wait_stage(&trial, Stage::Trial);
    assert_eq!(fleet.denied(), [4]);
    assert_eq!(fleet.bed.status()["fleet"]["stage"], "trial");
    let why = controller.wait_stage(&trial, Stage::Refused);
    assert_eq!(why, "it was not confirmed in time");
    fleet.wait_denied(3);
    let both = [("db-1", "bad", 9), ("db-2", "bad", 10)];
    let again = controller.assign(&Wish { hosts: &both, ..wish.clone() });
    controller.wait_stage(&again, Stage::Enforced);
    assert_eq!(fleet.denied(), [3]);

    // A document that is held back is refused by its name.
    let held_back = controller.assign(&Wish { bundle: &third, held_back: true, ..wish.clone() });
    let why = controller.wait_stage(&held_back, Stage::Refused);
    assert!(why.contains("the document `base` (version 3) was held back"), "{why}");
    assert_eq!(fleet.denied(), [3]);
    assert!(fleet.told("policy-refused") && fleet.told("fleet-refused"));

    // Nonsense ends the connection, and nothing else.
    for nonsense in [vec![255; 64], vec![0, 0, 0, 3, 255, 255, 255]] {
        let beats = controller.beats().0;
        controller.talk_nonsense(nonsense);
        wait_until(DEADLINE, "beats on another connection", || controller.beats().0 > beats + 10);
        assert_eq!(fleet.denied(), [3]);
    }
    assert!(fleet.told("fleet-lost"));

    // Without a controller everything stays, also for the next agent.
    controller.go_away(true);
    fleet.wait_connected(false);
    assert_eq!(fleet.denied(), [3]);
    fleet.bed.signal(Signal::KILL);
    assert_eq!(fleet.denied(), [3]);
    fleet.host.namespace.inside(|| fleet.bed.start_again());
    assert_eq!(fleet.denied(), [3]);
    controller.go_away(false);
    let wish = Wish { bundle: &third, ..wish };
    let target = controller.assign(&wish);
    controller.wait_stage(&target, Stage::Enforced);
    assert_eq!(fleet.denied(), [4]);

    // What is confirmed is seen: the bundle of before is refused from now on.
    let old = controller.assign(&Wish { bundle: &second, ..wish.clone() });
    let why = controller.wait_stage(&old, Stage::Refused);
    assert!(why.contains("version 3 was seen already"), "{why}");

    // A host that is shut off reaches controllers and nobody else.
    let target = controller.assign(&Wish { quarantine: true, ..wish.clone() });
    controller.wait_stage(&target, Stage::Enforced);
    wait_until(DEADLINE, "lockdown", || fleet.bed.status()["stance"] == "lockdown");
    assert!(!fleet.denies(NOWHERE) && fleet.denies("192.0.2.77:8444"));
    wait_until(DEADLINE, "a beat from lockdown", || {
        controller.beats().1.is_some_and(|beat| beat.stance() == Stance::Lockdown)
    });
    controller.assign(&wish);
    wait_until(DEADLINE, "the policy", || fleet.bed.status()["stance"] == "policy");
    assert_eq!(fleet.denied(), [4]);
    let shown = fleet.bed.done(&["status"]);
    assert!(shown.contains("fleet       web-1 connected to 127.0.0.1:"), "{shown}");
}
