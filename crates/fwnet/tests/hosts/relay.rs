//! Hosts behind a relay: they are told what concerns them, and what they say arrives, although no controller can be reached.

use std::time::Duration;

use rustix::process::Signal;

use crate::fixture::{DENIED, Fleet};

/// Databases take the web's connections and nobody else's.
const SHOP: &str = "deny any except role=web -> role=db : tcp/5432\n";

/// Nobody tells a host that its controller is behind a cable that is cut: TCP's clocks do, in half a minute, and then it
/// tries the others.
const UNHEARD: Duration = Duration::from_secs(90);

#[test]
fn hosts_behind_a_relay_hear_and_are_heard() {
    let fleet = Fleet::new(2, &["web-1", "db-1", "ops-1"]);
    fleet.start_controller(0, None);
    let relay = fleet.start_relay(1, "r1");
    for (name, role) in [("web-1", "web"), ("db-1", "db"), ("ops-1", "ops")] {
        fleet.enrol(name, &[&format!("role={role}")]);
    }
    fleet.apply(SHOP);
    fleet.realised();
    // From here on the way to the controller is the relay, for all of them.
    fleet.network.cut(&[0], &[2, 3, 4]);
    assert_eq!(fleet.connects("ops-1", "db-1"), DENIED);
    fleet.fleet(&["label", "ops-1", "role=web"]);
    fleet.becomes_within(UNHEARD, "ops-1", "db-1", true);
    fleet.realised();
    fleet.fleet(&["quarantine", "web-1"]);
    fleet.becomes("web-1", "db-1", false);
    fleet.fleet(&["release", "web-1"]);
    fleet.becomes("web-1", "db-1", true);
    // A relay that is killed takes nothing with it.
    fleet.network.heal(&[0], &[2, 3, 4]);
    relay.signal(Signal::KILL);
    fleet.fleet(&["label", "ops-1", "role=ops"]);
    fleet.becomes("ops-1", "db-1", false);
    fleet.realised();
}
