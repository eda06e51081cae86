//! The rules of each situation. All of them need every hook: each has a first rule of every kind that matches nothing which
//! the matrix does.

use std::net::IpAddr;

use image::{AddressSet, Image, Rule, RuleSet, Service, SubjectTest, compile};
use verdict::{Address, Direction, Protocol, Verdict};

/// A protocol that no row uses (RFC 3692, for experiments).
const UNUSED_PROTOCOL: Protocol = Protocol(253);
/// A port that no row uses.
const UNUSED_PORT: u16 = 9;
/// A user that nobody is.
const UNUSED_USER: u32 = 4_000_000_000;

/// What a set of rules denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Nobody.
    Nobody,
    /// Everybody, in one direction.
    Everybody(Direction),
    /// The peer, in one direction.
    Peer(Direction),
}

/// The image of rules that deny as is said and allow everything else. The peer is at one of `peers`.
pub(crate) fn image(denied: Denied, peers: &[IpAddr]) -> Image {
    let mut rules = RuleSet::default();
    let prefix = |ip: &IpAddr| match ip {
        IpAddr::V4(v4) => (Address::v4(v4.to_bits()), 128),
        IpAddr::V6(v6) => (Address::from_bits(v6.to_bits()), 128),
    };
    rules.sets.push(AddressSet::from_prefixes(peers.iter().map(prefix)));
    for direction in [Direction::Out, Direction::In] {
        let services = vec![
            Service::protocol(UNUSED_PROTOCOL),
            Service::tcp(UNUSED_PORT..=UNUSED_PORT),
            Service::udp(UNUSED_PORT..=UNUSED_PORT),
        ];
        let deny = || Rule { flags: 0, ..Rule::default(direction, Verdict::Deny, 0) };
        rules.rules.push(Rule { id: format!("unused {direction:?}"), services, ..deny() });
        let users = vec![UNUSED_USER];
        let subject = SubjectTest { users, ..SubjectTest::default() };
        rules.rules.push(Rule { id: format!("nobody {direction:?}"), subject, ..deny() });
        if denied == Denied::Everybody(direction) {
            // By name: a default deny alone leaves packet sockets to DHCP clients.
            let services = vec![Service::protocol(Protocol::RAW)];
            rules.rules.push(Rule { id: "raw".to_owned(), services, ..deny() });
        }
        if denied == Denied::Peer(direction) {
            rules.rules.push(Rule { id: "peer".to_owned(), remote: Some(0), ..deny() });
        }
        let default = match denied {
            Denied::Everybody(denied) if denied == direction => Verdict::Deny,
            Denied::Nobody | Denied::Everybody(_) | Denied::Peer(_) => Verdict::Allow,
        };
        rules.rules.push(Rule::default(direction, default, 1));
    }
    compile(&rules).expect("nine rules fit, and each direction has its default")
}

/// The image of lockdown, which no row brings into force: everybody is denied.
pub(crate) fn lockdown() -> Image {
    let mut rules = RuleSet::default();
    let directions = [Direction::Out, Direction::In].into_iter();
    rules.rules = directions.map(|it| Rule::default(it, Verdict::Deny, 0)).collect();
    compile(&rules).expect("two rules fit, and each direction has its default")
}
