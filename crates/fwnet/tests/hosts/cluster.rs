//! Three controllers on three members of etcd and two relays, any of which may be killed, and an oracle that looks at
//! every connection.

use std::{
    cell::Cell,
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use testbed::etcd::Cluster;

use crate::{
    fixture::{DENIED, Fleet},
    shared::DEADLINE,
};

/// Hosts of the network with controllers and members of etcd, those with relays, and those of the fleet; of these, some
/// have no way to a controller but through relays.
const CENTRES: [u8; 3] = [0, 1, 2];
const RELAYS: [u8; 2] = [3, 4];
const HOSTS: [u8; 5] = [5, 6, 7, 8, 9];
const BEHIND: [u8; 2] = [7, 8];
/// How long it takes at most after a partition until everybody has the newest.
const HEALED: Duration = Duration::from_secs(5);
/// A host whose controller is behind a cable that is cut looks for another way after half a minute of silence.
const UNHEARD: Duration = Duration::from_secs(90);
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

/// What was tried.
#[derive(Debug, Default)]
struct Seen {
    connections: Cell<u64>,
    killed: BTreeMap<&'static str, u64>,
    converged: Duration,
}

/// What must never be otherwise, whatever is killed.
fn look(fleet: &Fleet, newest: &mut [u64], seen: &Seen) {
    for (from, to, wanted) in [
        ("web-1", "db-1", None),
        ("web-1", "db-2", None),
        ("ops-1", "db-1", DENIED),
        ("db-2", "db-1", DENIED),
        ("web-2", "db-2", None),
        ("db-1", "db-2", DENIED),
    ] {
        assert_eq!(fleet.connects(from, to), wanted, "{from} -> {to}");
        seen.connections.update(|it| it + 1);
    }
    for (member, newest) in fleet.members().iter().zip(newest) {
        // An agent that was killed a moment ago says nothing.
        let Some(found) = member.snapshot() else { continue };
        assert!(*newest <= found, "{} went back from {newest} to {found}", member.name);
        *newest = found;
    }
}

/// What is killed, or cut off, in a round.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Leader,
    Controller(u8),
    Agents,
    Partition,
    Relay(usize),
}

impl Trouble {
    fn of(round: u64) -> Self {
        match round % 5 {
            0 => Self::Leader,
            1 => Self::Controller(u8::try_from(round % 3).unwrap()),
            2 => Self::Agents,
            3 => Self::Partition,
            _ => Self::Relay(usize::from(round % 2 == 1)),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Leader => "leaders of etcd",
            Self::Controller(_) => "controllers",
            Self::Agents => "pairs of agents",
            Self::Partition => "partitions",
            Self::Relay(_) => "relays",
        }
    }
}

#[test]
fn whatever_is_killed_every_connection_meets_the_policy() {
    let places = u8::try_from(CENTRES.len() + RELAYS.len()).unwrap();
    let fleet = Fleet::new(places, &["web-1", "db-1", "db-2", "ops-1", "web-2"]);
    let places = CENTRES.map(|it| (fleet.host(it), IpAddr::V4(fleet.network.address(it))));
    let mut cluster = Cluster::start(&places, None);
    let store = format!("etcd://{}/shop", cluster.endpoints());
    for number in CENTRES {
        fleet.start_controller(number, Some(&store));
    }
    let mut relays = RELAYS.map(|it| Some(fleet.start_relay(it, &format!("r{it}"))));
    for (name, role) in
        [("web-1", "web"), ("db-1", "db"), ("db-2", "db"), ("ops-1", "ops"), ("web-2", "web")]
    {
        fleet.enrol(name, &[&format!("role={role}")]);
    }
    fleet.apply(&shop(true));
    fleet.realised();
    fleet.network.cut(&CENTRES, &BEHIND);
    fleet.says(UNHEARD, "that hosts are behind relays", |status| {
        let relays = status["relays"].as_array().into_iter().flatten();
        let carried = relays.filter_map(|it| it[1].as_u64()).sum::<u64>();
        status["connected"] == HOSTS.len() && BEHIND.len() as u64 <= carried
    });
    let (mut newest, mut seen) = ([0; 5], Seen::default());
    let asked = std::env::var("FWNET_CHAOS_S").ok().and_then(|text| text.parse().ok());
    let (start, lasts) = (Instant::now(), asked.map_or(CHAOS, Duration::from_secs));
    let mut round = 0;
    while start.elapsed() < lasts {
        let trouble = Trouble::of(round);
        *seen.killed.entry(trouble.word()).or_default() += 1;
        let mut killed = None;
        match trouble {
            Trouble::Leader => {
                let leader = cluster.wait_for_leader();
                cluster.kill(leader);
                killed = Some(leader);
            }
            Trouble::Controller(controller) => fleet.end_controller(controller, Signal::KILL),
            Trouble::Agents => {
                fleet.kill_agent("web-1");
                fleet.kill_agent("ops-1");
            }
            // No host reaches a controller or a relay, and nobody is told.
            Trouble::Partition => {
                fleet.network.cut(&CENTRES, &HOSTS);
                fleet.network.cut(&RELAYS, &HOSTS);
            }
            Trouble::Relay(which) => {
                let mut relay = relays[which].take().unwrap();
                relay.signal(Signal::KILL);
                relay.wait(DEADLINE);
            }
        }
        look(&fleet, &mut newest, &seen);
        let open = round % 2 == 1;
        fleet.apply(&shop(open));
        look(&fleet, &mut newest, &seen);
        if let Some(member) = killed {
            cluster.begin(member);
            cluster.wait_for(member);
        }
        match trouble {
            Trouble::Leader => {}
            Trouble::Controller(controller) => fleet.start_controller(controller, Some(&store)),
            Trouble::Agents => {
                for name in ["web-1", "ops-1"] {
                    let up = fleet.up(name, &[]);
                    assert!(up.status.success(), "{}", crate::shared::complaint(&up));
                }
            }
            Trouble::Partition => {
                fleet.network.heal(&CENTRES, &HOSTS);
                fleet.network.heal(&RELAYS, &HOSTS);
                fleet.network.cut(&CENTRES, &BEHIND);
            }
            Trouble::Relay(which) => {
                let number = RELAYS[which];
                relays[which] = Some(fleet.restart_relay(number, &format!("r{number}")));
            }
        }
        let converged = fleet.becomes("ops-1", "db-2", open);
        let healed = matches!(trouble, Trouble::Partition);
        assert!(!healed || converged < HEALED, "healed, and converged after {converged:?}");
        seen.converged = seen.converged.max(converged);
        look(&fleet, &mut newest, &seen);
        round += 1;
    }
    fleet.realised();
    look(&fleet, &mut newest, &seen);
    // For whoever runs it for long.
    eprintln!("{round} rounds in {:?}: {seen:?}, newest {newest:?}", start.elapsed());
    assert!(round >= 10, "every kind of trouble came twice: {round} rounds");
}
