//! A version that is tried is halted and rolled back by itself: when hosts that try it are not heard of any more, refuse
//! it, fail its tests, or deny much more than before.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use crate::{
    fixture::{DENIED, Fleet},
    shared::{complaint, text},
};

/// Databases take the web's connections and nobody else's.
const SHOP: &str = "allow role=web -> role=db : tcp/5432\n\
                    deny any except role=web -> role=db : tcp/5432\n\
                    test allow role=web -> role=db : tcp/5432\n";
/// Nobody reaches them.
const CLOSED: &str = "deny any -> role=db : tcp/5432\n";

/// A host that says nothing for so long is lost: three beats of ten seconds. A machine that does much else gets as much
/// again.
const LOST: Duration = Duration::from_secs(60);
/// A trial that nobody ends: longer than that, and a minute and a half for the kernel to go back by itself.
const CONFIRM: &str = "90s";
const GONE_BACK: Duration = Duration::from_secs(120);
/// A partition that heals is over for everybody within this time.
const HEALED: Duration = Duration::from_secs(5);
/// Two beats, and what there is to do besides.
const BEATS: Duration = Duration::from_secs(60);

/// The newest version was tried and halted.
const HALTED: Option<i32> = Some(3);

fn shop() -> Fleet {
    let fleet = Fleet::new(1, &["web-1", "web-2", "web-3", "db-1", "ops-1"]);
    fleet.start_controller(0, None);
    for (name, role) in
        [("web-1", "web"), ("web-2", "web"), ("web-3", "web"), ("db-1", "db"), ("ops-1", "ops")]
    {
        fleet.enrol(name, &[&format!("role={role}")]);
    }
    fleet.apply(SHOP);
    fleet.realised();
    fleet
}

/// Every host enforces the former policy: real connections say so, and the operator is told why.
#[track_caller]
fn is_as_before(fleet: &Fleet, why: &str) {
    for web in ["web-1", "web-2", "web-3"] {
        fleet.becomes(web, "db-1", true);
    }
    assert_eq!(fleet.connects("ops-1", "db-1"), DENIED);
    let waited = fleet.call(&["status", "--wait"]);
    let says = text(&waited);
    assert_eq!(waited.status.code(), HALTED, "{says} {}", complaint(&waited));
    assert!(says.contains("was halted, version 1 goes on: "), "{says}");
    assert!(says.contains(why), "{says}");
}

#[test]
fn canaries_that_are_lost_halt_the_rollout_and_go_back_by_themselves() {
    let fleet = shop();
    let closed = fleet.bundle(CLOSED);
    fleet.fleet(&["apply", &closed, "--canary", "role=web", "--confirm", CONFIRM]);
    fleet.tried(2, 3);
    for web in ["web-1", "web-2", "web-3"] {
        assert_eq!(fleet.connects(web, "db-1"), DENIED, "{web} tries it");
    }
    // One agent is killed, another one is cut off without a word. One would be no reason.
    fleet.kill_agent("web-1");
    fleet.network.cut(&[0], &[fleet.member("web-2").index]);
    let why = fleet.halted(LOST);
    assert!(why.starts_with("2 of 3 hosts that try it are lost, web-1 among them"), "{why}");
    fleet.becomes("web-3", "db-1", true);
    // Nobody can tell these two: their kernels know.
    fleet.becomes_within(GONE_BACK, "web-1", "db-1", true);
    fleet.becomes_within(GONE_BACK, "web-2", "db-1", true);
    is_as_before(&fleet, "hosts that try it are lost");
    // Who was cut off for more than a minute is back as soon as one who was for a second.
    fleet.network.heal(&[0], &[fleet.member("web-2").index]);
    let healed = Instant::now();
    fleet.says(BEATS, "that web-2 is back", |status| {
        let laggards = status["laggards"].as_array().map_or(&[][..], Vec::as_slice);
        laggards.iter().all(|it| it["host"] != "web-2")
    });
    assert!(healed.elapsed() < HEALED, "web-2 was back after {:?}", healed.elapsed());
    assert!(fleet.up("web-1", &[]).status.success());
    fleet.realised();
}

#[test]
fn a_canary_that_refuses_or_fails_its_tests_halts_the_rollout() {
    let fleet = shop();
    let db = fleet.address("db-1").to_string();
    let done = |name: &str, verb: &[&str]| {
        let output = fleet.there(name, verb);
        assert!(output.status.success(), "{} {}", text(&output), complaint(&output));
    };
    // What is denied on one host at run time is known to that host alone.
    done("web-1", &["deny", "add", &db]);
    let status = fleet.says(BEATS, "that tests fail on web-1", |status| {
        status["failing_hosts"][0]["host"] == "web-1"
    });
    let says = status["failing_hosts"][0]["failing"].as_str().unwrap();
    let fails = format!(
        "shop@1:3: test allow role=web -> role=db : tcp/5432: web-1 -> db-1 : tcp/5432 is deny at \
         web-1 by deny/{db}"
    );
    assert_eq!(says, fails);
    let told = fleet.call(&["status"]);
    assert_eq!(told.status.code(), Some(1));
    assert!(text(&told).contains(&format!("tests fail on web-1: {fails}")), "{}", text(&told));

    // It fails before anything of it is enforced.
    let second = fleet.bundle(&format!("{SHOP}deny role=ops -> role=web : tcp/5432\n"));
    fleet.fleet(&["apply", &second, "--canary", "role=web", "--confirm", "10m"]);
    let why = fleet.halted(BEATS);
    assert!(why.starts_with("web-1 refuses it: 1 of the policy's tests fail: shop@2:3: "), "{why}");
    done("web-1", &["deny", "rm", &db]);
    is_as_before(&fleet, "web-1 refuses it");
    assert_eq!(fleet.connects("ops-1", "web-2"), None, "nothing is left of it");

    fleet.realised();

    // It fails later, while all of them try it.
    let third = fleet.bundle(&format!("{SHOP}deny role=ops -> role=web : tcp/5432\n"));
    fleet.fleet(&["apply", &third, "--canary", "role=web", "--confirm", "10m"]);
    fleet.tried(3, 3);
    fleet.becomes("ops-1", "web-2", false);
    done("web-2", &["deny", "add", &db]);
    let why = fleet.halted(BEATS);
    assert!(why.starts_with("tests fail on web-2: shop@3:3: "), "{why}");
    done("web-2", &["deny", "rm", &db]);
    is_as_before(&fleet, "tests fail on web-2");
    fleet.becomes("ops-1", "web-2", true);

    // Somebody at the machine ends the trial.
    let fourth = fleet.bundle(CLOSED);
    fleet.fleet(&["apply", &fourth, "--canary", "role=web", "--confirm", "10m"]);
    fleet.tried(4, 3);
    done("web-3", &["rollback"]);
    let why = fleet.halted(BEATS);
    assert!(why.starts_with("web-3 refuses it: "), "{why}");
    is_as_before(&fleet, "web-3 refuses it");
    fleet.realised();
}

#[test]
fn a_jump_in_denials_halts_the_rollout() {
    let fleet = shop();
    let closed = fleet.bundle(CLOSED);
    fleet.fleet(&["apply", &closed, "--canary", "host=web-1", "--confirm", "10m"]);
    fleet.tried(2, 1);
    let denied = Cell::new(0);
    let status = fleet.says(BEATS, "that it was halted", |status| {
        denied.update(|it| it + fleet.hammers("web-1", "db-1", 300));
        status["rollout"]["state"]["halted"].is_string()
    });
    assert!(denied.get() >= 300, "{denied:?}");
    let why = status["rollout"]["state"]["halted"].as_str().unwrap();
    assert!(why.starts_with("web-1 denies ") && why.ends_with(" and 0.0 before"), "{why}");
    is_as_before(&fleet, "web-1 denies ");
    fleet.realised();
}
