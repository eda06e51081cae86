//! Three controllers on three members of etcd, any of which may be killed, and an oracle that looks at every connection.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use testbed::etcd::Cluster;

use crate::fixture::{DENIED, Fleet};

/// Hosts of the network with controllers and members of etcd, and those of the fleet.
const CENTRES: [u8; 3] = [0, 1, 2];
const HOSTS: [u8; 5] = [3, 4, 5, 6, 7];
/// How long it takes at most after a partition until everybody has the newest.
const HEALED: Duration = Duration::from_secs(5);
/// How long things are killed, unless `FWNET_CHAOS_S` says so many seconds.
const CHAOS: Duration = Duration::from_secs(120);

/// Databases take the web's connections and nobody else's; who may reach `db-2` changes all the time.
fn shop(open: bool) -> String {
    let second = if open { "role=web | role=ops" } else { "role=web" };
    format!(
        "deny any except role=web -> db-1 : tcp/5432\n\
         deny any except ({second}) -> db-2 : tcp/5432\n"
    )
}

/// What must never be otherwise, whatever is killed.
fn look(fleet: &Fleet, newest: &mut [u64]) {
    for (from, to, wanted) in [
        ("web-1", "db-1", None),
        ("web-1", "db-2", None),
        ("ops-1", "db-1", DENIED),
        ("db-2", "db-1", DENIED),
    ] {
        assert_eq!(fleet.connects(from, to), wanted, "{from} -> {to}");
    }
    for (member, newest) in fleet.members().iter().zip(newest) {
        // An agent that was killed a moment ago says nothing.
        let Some(found) = member.snapshot() else { continue };
        assert!(*newest <= found, "{} went back from {newest} to {found}", member.name);
        *newest = found;
    }
}

#[test]
fn whatever_is_killed_every_connection_meets_the_policy() {
    let fleet = Fleet::new(3, &["web-1", "db-1", "db-2", "ops-1", "web-2"]);
    let places = CENTRES.map(|it| (fleet.host(it), IpAddr::V4(fleet.network.address(it))));
    let mut cluster = Cluster::start(&places, None);
    let store = format!("etcd://{}/shop", cluster.endpoints());
    for number in CENTRES {
        fleet.start_controller(number, Some(&store));
    }
    for (name, role) in
        [("web-1", "web"), ("db-1", "db"), ("db-2", "db"), ("ops-1", "ops"), ("web-2", "web")]
    {
        fleet.enrol(name, &[&format!("role={role}")]);
    }
    fleet.apply(&shop(true));
    fleet.realised();
    let mut newest = [0; 5];
    let asked = std::env::var("FWNET_CHAOS_S").ok().and_then(|text| text.parse().ok());
    let (start, lasts) = (Instant::now(), asked.map_or(CHAOS, Duration::from_secs));
    let mut round = 0;
    while start.elapsed() < lasts {
        let controller = u8::try_from(round % 3).unwrap();
        let killed = match round % 4 {
            0 => {
                let leader = cluster.wait_for_leader();
                cluster.kill(leader);
                Some(leader)
            }
            1 => {
                fleet.end_controller(controller, Signal::KILL);
                None
            }
            2 => {
                fleet.kill_agent("web-1");
                fleet.kill_agent("ops-1");
                None
            }
            // A partition: no host reaches a controller, and nobody is told.
            _ => {
                fleet.network.cut(&CENTRES, &HOSTS);
                None
            }
        };
        look(&fleet, &mut newest);
        let open = round % 2 == 1;
        fleet.apply(&shop(open));
        look(&fleet, &mut newest);
        if let Some(member) = killed {
            cluster.begin(member);
            cluster.wait_for(member);
        }
        match round % 4 {
            1 => fleet.start_controller(controller, Some(&store)),
            2 => {
                for name in ["web-1", "ops-1"] {
                    let up = fleet.up(name, &[]);
                    assert!(up.status.success(), "{}", crate::shared::complaint(&up));
                }
            }
            3 => fleet.network.heal(&CENTRES, &HOSTS),
            _ => {}
        }
        let converged = fleet.becomes("ops-1", "db-2", open);
        assert!(round % 4 != 3 || converged < HEALED, "healed, and converged after {converged:?}");
        look(&fleet, &mut newest);
        round += 1;
    }
    fleet.realised();
    look(&fleet, &mut newest);
    assert!(round >= 8, "every kind of trouble came twice: {round} rounds");
}
