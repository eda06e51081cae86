//! Connections of the small world, judged by reading the policies aloud at both ends, and looked up in answers.

use policy::{
    Facts, Identities, Inventory, Policy, Spoken,
    analysis::{Basis, Group, Processes, Relation, Symbols},
    read_aloud,
    syntax::{Addresses, ServiceKind},
};
use verdict::{Address, Direction, Endpoint, Flow, Protocol, Subject, Verdict};

use super::world::{self, Choices};

/// One end: a host of the inventory or nobody's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: Option<String>,
    /// `None` for a host without addresses as it connects.
    pub(crate) address: Option<Address>,
}

/// A connection with the processes at either end.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) relation: Relation,
    pub(crate) from: Place,
    pub(crate) to: Place,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) from_subject: Subject,
    pub(crate) to_subject: Subject,
}

/// Of every piece that the selectors of this world cut addresses into, one; those that hosts have are not outside.
const OUTSIDE: [&str; 22] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.1.0",
    "10.0.1.1",
    "10.0.1.2",
    "11.0.0.0",
    "192.0.2.9",
    "198.51.101.0",
    "2001:db8::1",
    "2001:db8:0:1::7",
    "10.0.0.3",
    "10.0.2.1",
    "198.51.100.7",
    "2001:db8::2",
    "255.255.255.255",
    "10.0.0.0",
    "10.0.0.255",
    "192.0.2.10",
    "2001:db8:ffff::1",
    "9.255.255.255",
    "::2",
    "ffff::",
];

/// Every place of the world that takes part in flows between hosts, and with the outside.
pub(crate) fn places(inventory: &Inventory) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for host in inventory.hosts() {
        let own = host.addresses.iter().filter(|address| !address.is_loopback());
        let own: Vec<Option<Address>> = own.copied().map(Some).collect();
        let own = if own.is_empty() { vec![None] } else { own };
        let id = || Some(host.id.clone());
        places.extend(own.into_iter().map(|address| Place { host: id(), address }));
    }
    for text in OUTSIDE {
        let address = world::address(text);
        if inventory.find_address(address).is_none() {
            places.push(Place { host: None, address: Some(address) });
        }
    }
    places
}

/// A subject that rules of this world may mean.
pub(crate) fn subject(choices: &mut Choices, symbols: &Symbols) -> Subject {
    let user = choices.of(&["root", "alice", "bob", "ghost", "2", "nobody"]);
    let group = choices.of(&["root", "staff", "ghost", "nobody"]);
    let exe = choices.of(&["/bin/none", "/bin/a", "/bin/b", "/bin/ghost", "other"]);
    let unit = symbols.unit(choices.of(&["none.service", "a.service", "/b", "/b/c", "other"]));
    let container = ["web", world::CONTAINER, &world::CONTAINER[..12], "db", "other"];
    let container = symbols.container(choices.of(&container));
    let netns = choices.of(&["host", "blue", "ghost", "other"]);
    let mut line: Vec<u64> = container.into_iter().chain(unit).collect();
    line.extend(unit.into_iter().flat_map(|unit| symbols.above(unit)));
    Subject {
        uid: user.parse().ok().or_else(|| symbols.user(user)).unwrap_or(77_777),
        gid: if group == "root" { 0 } else { symbols.group(group).unwrap_or(77_777) },
        exe: symbols.exe(exe).unwrap_or(0),
        netns: symbols.netns(netns).unwrap_or(0),
        ..world::within(&line)
    }
}

/// A connection of the world, of whatever relation.
pub(crate) fn attempt(choices: &mut Choices, inventory: &Inventory, symbols: &Symbols) -> Attempt {
    let places = places(inventory);
    let from = places[choices.below(places.len())].clone();
    let mut to = places[choices.below(places.len())].clone();
    let mut from = from;
    let relation = match (&from.host, choices.below(6)) {
        (Some(_), 0) => {
            let local = ["127.0.0.1", "127.0.0.9", "127.255.255.255"].map(world::address);
            let v6 = choices.once_in(3);
            let end = |choices: &mut Choices| {
                Some(if v6 { Address::LOOPBACK_V6 } else { local[choices.below(3)] })
            };
            to = Place { host: from.host.clone(), address: end(choices) };
            from.address = end(choices);
            Relation::Loopback
        }
        (Some(_), 1) => {
            let own: Vec<&Place> = places.iter().filter(|place| place.host == from.host).collect();
            to = own[choices.below(own.len())].clone();
            Relation::Itself
        }
        _ if from.host.is_some() && from.host == to.host => Relation::Itself,
        _ => Relation::Between,
    };
    // Where a host without addresses accepts, it does so at an address of nobody else.
    if to.address.is_none() && to.host.is_some() {
        let outside: Vec<&Place> = places.iter().filter(|place| place.host.is_none()).collect();
        to.address = outside[choices.below(outside.len())].address;
    }
    let protocols = [Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::ICMP, Protocol(99)];
    let protocol = protocols[choices.below(protocols.len())];
    let ported = protocol == Protocol::TCP || protocol == Protocol::UDP;
    let ports = [80, 53, 443, 22, 81, 123, 1, 65_535];
    let port = if ported { ports[choices.below(ports.len())] } else { 0 };
    let (from_subject, to_subject) = (subject(choices, symbols), subject(choices, symbols));
    Attempt { relation, from, to, protocol, port, from_subject, to_subject }
}

/// What each end says; `None` where that end is nobody's.
pub(crate) struct Heard {
    pub(crate) out: Option<Spoken>,
    pub(crate) into: Option<Spoken>,
}

impl Heard {
    pub(crate) fn allowed(&self, basis: Basis) -> bool {
        [&self.out, &self.into].into_iter().flatten().all(|spoken| match basis {
            Basis::Enforced => spoken.enforced.verdict == Verdict::Allow,
            Basis::Would => spoken.would.verdict == Verdict::Allow,
        })
    }
}

/// Whether there can be such a connection and both ends know what they need to judge it.
pub(crate) fn can_be(attempt: &Attempt, inventory: &Inventory) -> bool {
    let Attempt { relation, from, to, .. } = attempt;
    let placed = |place: &Place| {
        let host = place.host.as_ref().and_then(|host| inventory.find(host));
        let host = host.and_then(|host| inventory.host(host));
        host.is_none_or(|host| host.addresses.iter().any(|address| !address.is_loopback()))
    };
    let same_family = match (from.address, to.address) {
        (Some(from), Some(to)) => from.is_v4() == to.is_v4(),
        (None, _) | (_, None) => true,
    };
    same_family
        && match relation {
            Relation::Loopback => true,
            Relation::Itself => placed(from),
            Relation::Between => {
                (from.host.is_some() || to.host.is_some())
                    && (placed(from) || to.host.is_none())
                    && (placed(to) || from.host.is_none())
            }
        }
}

/// Reads `policies` aloud at both ends.
pub(crate) fn hear(
    policies: &[Policy],
    inventory: &Inventory,
    symbols: &Symbols,
    attempt: &Attempt,
) -> Heard {
    let nowhere = Address::UNSPECIFIED_V4;
    let source = Endpoint { address: attempt.from.address.unwrap_or(nowhere), port: 50_000 };
    let target = Endpoint { address: attempt.to.address.unwrap_or(nowhere), port: attempt.port };
    let at = |place: &Place, direction: Direction| {
        let host = place.host.as_ref()?;
        let facts = Facts::new(inventory, host, symbols, world::now());
        let (local, remote, subject) = match direction {
            Direction::Out => (source, target, attempt.from_subject),
            Direction::In => (target, source, attempt.to_subject),
        };
        let flow = Flow { direction, protocol: attempt.protocol, local, remote, subject };
        Some(read_aloud(policies, &facts, &flow))
    };
    Heard { out: at(&attempt.from, Direction::Out), into: at(&attempt.to, Direction::In) }
}

fn within(ranges: &[String], address: Option<Address>) -> bool {
    let Some(address) = address else { return false };
    ranges.iter().any(|text| {
        let addresses: Addresses = text.parse().expect("answers write addresses as policies do");
        let mut ranges = addresses.ranges();
        ranges.any(|(first, last)| (first..=last).contains(&address.bits()))
    })
}

/// Whether a group has this place.
pub(crate) fn has(group: &Group, place: &Place) -> bool {
    match &place.host {
        None => within(&group.outside, place.address),
        Some(host) => {
            let part = |part: &policy::analysis::Part| {
                part.hosts.contains(host) && within(&part.addresses, place.address)
            };
            group.hosts.contains(host) || group.parts.iter().any(part)
        }
    }
}

/// Whether services written in an answer hold this one.
pub(crate) fn serves(services: &[String], protocol: Protocol, port: u16) -> bool {
    services.iter().any(|text| {
        if let Some(named) = text.strip_prefix("every protocol but ") {
            return !named.split(", ").any(|word| {
                let kind: ServiceKind = format!("{word}/any").parse().expect("a protocol");
                matches!(kind, ServiceKind::Ports(own, _) if own == protocol)
            });
        }
        match text.parse().expect("answers write services as policies do") {
            ServiceKind::Any => true,
            ServiceKind::Ports(own, ports) => {
                own == protocol && (port == 0 || ports.first <= port && port <= ports.last)
            }
            ServiceKind::Named(_) => false,
        }
    })
}

/// Whether processes written in an answer hold this one.
pub(crate) fn runs(processes: &Processes, subject: &Subject, symbols: &Symbols) -> bool {
    let one = |texts: &[String]| texts.iter().any(|text| qualifies(text, subject, symbols));
    match processes {
        Processes::Any => true,
        Processes::Only(texts) => one(texts),
        Processes::AllBut(texts) => !one(texts),
    }
}

/// `[user=alice exe not in (/bin/a, /bin/b) unit=/b except /b/c]`
pub(crate) fn qualifies(text: &str, subject: &Subject, symbols: &Symbols) -> bool {
    let mut left =
        text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).expect("brackets");
    while !left.is_empty() {
        let split = left.find([' ', '=']).expect("a facet and its values");
        let (facet, rest) = left.split_at(split);
        let (inside, values, rest) = if let Some(rest) = rest.strip_prefix('=') {
            let (value, rest) = value(rest);
            (true, vec![value], rest)
        } else {
            let inside = !rest.starts_with(" not in (");
            let mut rest = &rest[rest.find('(').expect("a list") + 1..];
            let mut values = Vec::new();
            loop {
                let (one, after) = value(rest);
                values.push(one);
                match after.strip_prefix(", ") {
                    Some(next) => rest = next,
                    None => break (inside, values, after.strip_prefix(')').expect("a list")),
                }
            }
        };
        let known = |value: &str| match facet {
            "user" => value.parse().ok().or_else(|| symbols.user(value)) == Some(subject.uid),
            "group" => value.parse().ok().or_else(|| symbols.group(value)) == Some(subject.gid),
            "exe" => symbols.exe(value) == Some(subject.exe),
            "unit" => subject.cgroups().any(|cgroup| symbols.unit(value) == Some(cgroup)),
            "container" => subject.cgroups().any(|cgroup| symbols.container(value) == Some(cgroup)),
            "netns" => symbols.netns(value) == Some(subject.netns),
            other => panic!("{other} in {text}"),
        };
        let means = |(value, without): &(&str, Vec<&str>)| {
            known(value) && !without.iter().any(|value| known(value))
        };
        if values.iter().any(means) != inside {
            return false;
        }
        left = rest.trim_start();
    }
    true
}

/// A value with what is left out of it, and what follows.
fn value(text: &str) -> ((&str, Vec<&str>), &str) {
    let word = |text| -> (&str, &str) {
        let text: &str = text;
        text.split_at(text.find([' ', ',', ')']).unwrap_or(text.len()))
    };
    let (value, rest) = word(text);
    match rest.strip_prefix(" except ") {
        None => ((value, Vec::new()), rest),
        Some(rest) => match rest.strip_prefix('(') {
            Some(list) => {
                let (list, rest) = list.split_once(')').expect("a list");
                ((value, list.split(", ").collect()), rest)
            }
            None => {
                let (without, rest) = word(rest);
                ((value, vec![without]), rest)
            }
        },
    }
}
