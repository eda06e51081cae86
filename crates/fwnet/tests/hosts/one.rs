//! One controller with its store in a file: policy by labels at both ends, relabelling, a canary that is rolled back, a
//! partition, quarantine.

use std::time::Duration;

use rustix::process::Signal;
use testbed::wait_until;

use crate::{
    fixture::{DENIED, Fleet},
    shared::DEADLINE,
};

/// Databases take the web's connections and nobody else's.
const SHOP: &str =
    "allow role=web -> role=db : tcp/5432\ndeny any except role=web -> role=db : tcp/5432\n";

/// Five hosts with one controller, enrolled.
fn shop() -> Fleet {
    let fleet = Fleet::new(1, &["web-1", "web-2", "db-1", "db-2", "ops-1"]);
    fleet.start_controller(0, None);
    for (name, role) in
        [("web-1", "web"), ("web-2", "web"), ("db-1", "db"), ("db-2", "db"), ("ops-1", "ops")]
    {
        fleet.enrol(name, &[&format!("role={role}")]);
    }
    fleet
}

#[test]
fn policy_by_labels_is_enforced_at_both_ends_and_follows_them() {
    let fleet = shop();
    assert_eq!(fleet.connects("ops-1", "db-1"), None, "nothing is denied yet");
    fleet.apply(SHOP);
    fleet.becomes("ops-1", "db-1", false);
    fleet.realised();
    assert!(fleet.members().iter().all(|it| it.snapshot() == Some(1)), "as every agent says");
    assert_eq!(fleet.connects("ops-1", "db-1"), DENIED, "refused where it begins");
    assert_eq!(fleet.connects("ops-1", "db-2"), DENIED);
    for db in ["db-1", "db-2"] {
        fleet.becomes("web-1", db, true);
        fleet.becomes("web-2", db, true);
    }
    fleet.realised();

    // Labels are looked at anew, at both ends.
    fleet.fleet(&["label", "ops-1", "role=web"]);
    fleet.becomes("ops-1", "db-1", true);
    fleet.fleet(&["label", "web-2", "role=ops"]);
    fleet.becomes("web-2", "db-1", false);
    fleet.becomes("web-1", "db-1", true);
}

#[test]
fn a_canary_is_rolled_back_and_another_confirmed() {
    let fleet = shop();
    fleet.apply(SHOP);
    fleet.becomes("ops-1", "db-1", false);
    fleet.realised();
    let closed = fleet.bundle("deny any -> role=db : tcp/5432\n");
    fleet.fleet(&["apply", &closed, "--canary", "role=web & host=web-1", "--confirm", "10m"]);
    fleet.becomes("web-1", "db-1", false);
    assert_eq!(fleet.connects("web-2", "db-1"), None, "only the canary has it");
    fleet.fleet(&["rollback"]);
    fleet.becomes("web-1", "db-1", true);
    fleet.realised();

    let closed = fleet.bundle("deny any -> role=db : tcp/5432\n");
    fleet.fleet(&["apply", &closed, "--canary", "1", "--confirm", "10m"]);
    wait_until(DEADLINE, "one host on trial", || {
        fleet.members().iter().any(|it| !it.status()["confirm_until"].is_null())
    });
    fleet.fleet(&["confirm"]);
    for web in ["web-1", "web-2"] {
        fleet.becomes(web, "db-1", false);
    }
}

#[test]
fn a_partition_changes_nothing_and_heals_within_seconds() {
    let fleet = shop();
    fleet.apply(SHOP);
    fleet.realised();
    fleet.network.unplug(0);
    assert_eq!(fleet.connects("ops-1", "db-1"), DENIED);
    assert_eq!(fleet.connects("web-1", "db-1"), None);
    fleet.network.plug(0);
    fleet.fleet(&["label", "ops-1", "role=web"]);
    let healed = fleet.becomes("ops-1", "db-1", true);
    assert!(healed < Duration::from_secs(5), "converged after {healed:?}");

    // Without the controller everything stays, also for an agent that begins anew.
    fleet.end_controller(0, Signal::KILL);
    fleet.kill_agent("web-2");
    assert_eq!(fleet.connects("web-2", "db-1"), None);
    let up = fleet.up("web-2", &[]);
    assert!(up.status.success());
    assert_eq!(fleet.connects("web-2", "db-1"), None);
    fleet.start_controller(0, None);
    fleet.fleet(&["label", "web-2", "role=ops"]);
    fleet.becomes("web-2", "db-1", false);
}

#[test]
fn a_host_in_quarantine_reaches_nobody_until_it_is_released() {
    let fleet = shop();
    fleet.apply(SHOP);
    fleet.becomes("ops-1", "db-1", false);
    fleet.becomes("web-1", "db-1", true);
    fleet.fleet(&["quarantine", "web-1"]);
    fleet.becomes("web-1", "web-2", false);
    fleet.becomes("web-1", "db-1", false);
    assert_eq!(fleet.connects("web-2", "db-1"), None);
    fleet.fleet(&["release", "web-1"]);
    fleet.becomes("web-1", "db-1", true);
}
