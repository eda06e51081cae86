//! Certificates of some seconds: an agent and a relay renew theirs while they are connected, and go on; the first ones are
//! worth nothing once they were replaced twice.

use std::{path::Path, time::Duration};

use ::fleet::{joining, membership::Membership};
use jiff::Timestamp;
use testbed::wait_until;

use crate::{
    fixture::{DENIED, Fleet},
    shared::DEADLINE,
};

const SHOP: &str = "deny any except role=web -> role=db : tcp/5432\n";
const CLOSED: &str = "deny any -> role=db : tcp/5432\n";

/// Long enough that whoever renews in the middle has time for it, on a machine that does much else.
const LIFETIME: &str = "40s";
/// Half of that, and as much as such a machine may need.
const RENEWED: Duration = Duration::from_secs(60);

fn kept(directory: &Path) -> Membership {
    Membership::load(directory).unwrap().unwrap()
}

/// Gets the certificate after the one that `member` has, in its place.
fn renewed(fleet: &Fleet, member: &Membership) -> Result<Membership, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let renew = || runtime.block_on(joining::renew(member)).map_err(|error| error.to_string());
    fleet.host(0).namespace.inside(renew)
}

#[test]
fn an_agent_and_a_relay_renew_their_certificates_and_go_on() {
    let fleet = Fleet::new(2, &["web-1", "db-1"]);
    fleet.start_controller_with(0, None, &["--certificates", LIFETIME]);
    let relay = fleet.start_relay(1, "r1");
    fleet.enrol("web-1", &["role=web"]);
    fleet.enrol("db-1", &["role=db"]);
    fleet.apply(SHOP);
    fleet.realised();
    let (of_relay, of_host) = (fleet.path("r1"), fleet.member("web-1").membership());
    for directory in [Path::new(&of_relay), &of_host] {
        let first = kept(directory);
        wait_until(RENEWED, "a renewal", || kept(directory).certificate != first.certificate);
        // What is renewed with a copy counts as well, and what was kept there is good until it is renewed again.
        renewed(&fleet, &kept(directory)).unwrap();
        let refused = renewed(&fleet, &first).unwrap_err();
        let expired = first.expires <= Timestamp::now();
        assert!(expired || refused.contains("was replaced or revoked"), "{refused}");
    }
    // Connections that began with the first ones have ended. Everybody is back with the second ones: what is new reaches
    // hosts, and what they say of it arrives.
    assert_eq!(fleet.connects("web-1", "db-1"), None);
    fleet.apply(CLOSED);
    fleet.realised();
    assert_eq!(fleet.connects("web-1", "db-1"), DENIED);
    fleet.says(DEADLINE, "that the relay is there", |status| {
        status["relays"].as_array().is_some_and(|relays| relays.len() == 1)
    });
    drop(relay);
}
