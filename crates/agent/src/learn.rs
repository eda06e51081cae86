//! A policy drafted from recorded flows: every flow that was allowed is allowed by it, and beyond that as little as can
//! be said in few lines.
//!
//! ```text
//! records -> who does what (actor, direction) -> services with the same peers -> actors with the same rule -> lines
//! ```
//!
//! It begins in audit: what was not seen while it was learnt is not known, and nothing may break by it. What cannot be
//! told apart within the limits of an image is told more coarsely.

mod actor;
mod cover;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
};

use jiff::Timestamp;
use policy::{
    Diagnostics, Facts, Inventory, NoIdentities, Source, Way, check, compile, format, parse,
    syntax::Answer,
};
use verdict::Protocol;

use self::{
    actor::{Actor, Actors},
    cover::{Peers, cover},
};
use crate::flows::{Named, Record};

/// Ports of one protocol that one actor may have, below 1024 and above, before they become a range.
const SERVICES_MAX: usize = 16;
/// Where ports begin that programs are given without asking.
const UNPRIVILEGED: u16 = 1024;
/// Names in a comment before the rest is a number.
const NAMES_MAX: usize = 4;

/// What is served: a protocol and its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Service {
    protocol: u8,
    first: u16,
    last: u16,
}

/// Who is spoken with, and how often.
#[derive(Clone, Debug, Default)]
struct Seen {
    peers: BTreeSet<IpAddr>,
    names: BTreeSet<String>,
    count: u64,
}

/// What makes two rules one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    way: Way,
    services: Vec<Service>,
    peers: Peers,
}

/// How much is told apart, from everything to as little as always fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grain {
    /// Who does it.
    processes: bool,
    /// With whom.
    peers: bool,
}

const GRAINS: [Grain; 4] = [
    Grain { processes: true, peers: true },
    Grain { processes: true, peers: false },
    Grain { processes: false, peers: true },
    Grain { processes: false, peers: false },
];

/// Drafts a policy from what was recorded on the host that people call `host`. Flows that were denied are left out, and
/// counted in its head.
///
/// The draft is in the form of `policy::format`, without errors, in audit, and fits into an image.
pub fn learn(records: &[Record], host: &str) -> String {
    let drafts = GRAINS.iter().map(|&grain| draft(records, host, grain));
    let mut last = String::new();
    for draft in drafts {
        last = draft;
        if fits(&last, records) {
            break;
        }
    }
    last
}

fn draft(records: &[Record], host: &str, grain: Grain) -> String {
    let (allowed, denied): (Vec<&Record>, Vec<&Record>) =
        records.iter().partition(|record| record.kind.verdict == Answer::Allow);
    let mut text = head(&allowed, &denied, host);
    text.push_str("tier team\nmode audit\n\n");
    let people = NoIdentities;
    let named = Named::new(records, &people);
    let rules = rules(&allowed, grain, &named);
    for (shape, actors) in &rules {
        push_rules(&mut text, shape, actors);
    }
    for shape in ways_in(&rules) {
        let _written = writeln!(text, "failsafe {} -> me : tcp/22", shape.peers);
    }
    text.push_str("\ndefault deny in\ndefault deny out\n");
    let mut report = Diagnostics::default();
    let parsed = parse(text.as_bytes(), 0, &mut report);
    debug_assert!(!report.has_errors(), "a draft is well-formed: {text}");
    format(&parsed.document)
}

fn fits(draft: &str, records: &[Record]) -> bool {
    let now = records.iter().map(|record| record.last).max().unwrap_or_default();
    let checked = check(&[Source { name: "draft", bytes: draft.as_bytes() }], None, now);
    let (inventory, people) = (Inventory::default(), NoIdentities);
    let named = Named::new(records, &people);
    compile(&checked.policies, &Facts::new(&inventory, "", &named, now)).is_ok()
}

fn head(allowed: &[&Record], denied: &[&Record], host: &str) -> String {
    let mut text = String::new();
    let flows = |records: &[&Record]| records.iter().map(|record| record.count).sum::<u64>();
    let between = allowed
        .iter()
        .map(|record| record.first)
        .min()
        .zip(allowed.iter().map(|record| record.last).max());
    let span = between.map_or_else(String::new, |(first, last)| {
        format!(" from {} to {}", moment(first), moment(last))
    });
    let _written = writeln!(
        text,
        "# Drafted from {} flows that were allowed on {}{span}.\n\
         # In audit nothing is denied yet: `fwnet replay` says what this would deny, `mode enforce` denies it.",
        flows(allowed),
        plain(host),
    );
    if !denied.is_empty() {
        let _written = writeln!(text, "# {} flows that were denied are left out.", flows(denied));
    }
    text.push('\n');
    text
}

/// To the second: a draft is for people.
fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The rules, those of most flows first.
fn rules(allowed: &[&Record], grain: Grain, named: &Named<'_>) -> Vec<(Shape, Actors)> {
    let mut seen: BTreeMap<(Actor, Way), BTreeMap<Service, Seen>> = BTreeMap::new();
    for record in allowed.iter().filter(|record| !is_within_loopback(record)) {
        let kind = &record.kind;
        let actor = if grain.processes { Actor::of(&kind.process, named) } else { Actor::Anyone };
        let own = seen.entry((actor, kind.direction)).or_default();
        let service = own.entry(Service::new(kind.protocol, kind.port)).or_default();
        service.peers.insert(kind.remote);
        service.names.insert(record.name.clone());
        service.count = service.count.saturating_add(record.count);
    }
    let mut shapes: BTreeMap<Shape, Actors> = BTreeMap::new();
    for ((actor, way), services) in seen {
        let mut by_peers: BTreeMap<Peers, (Vec<Service>, Seen)> = BTreeMap::new();
        for (service, seen) in few(services) {
            let peers = if grain.peers { cover(&seen.peers) } else { Peers::default() };
            let (services, all) = by_peers.entry(peers).or_default();
            services.push(service);
            all.count = all.count.saturating_add(seen.count);
            all.names.extend(seen.names);
        }
        for (peers, (services, all)) in by_peers {
            let actors = shapes.entry(Shape { way, services, peers }).or_default();
            actors.add(actor.clone(), all.names, all.count);
        }
    }
    let mut rules: Vec<_> = shapes.into_iter().collect();
    rules.sort_by(|(a, of_a), (b, of_b)| {
        let out_first = (a.way == Way::In).cmp(&(b.way == Way::In));
        out_first.then(of_b.count().cmp(&of_a.count())).then_with(|| a.cmp(b))
    });
    rules
}

/// What is within this host is allowed without a rule.
fn is_within_loopback(record: &Record) -> bool {
    record.kind.remote.is_loopback() && record.kind.local.is_none_or(|local| local.is_loopback())
}

/// Many ports of one protocol become the range that holds them: clients of such services choose, or look at, many.
fn few(services: BTreeMap<Service, Seen>) -> BTreeMap<Service, Seen> {
    let mut ports: BTreeMap<Service, usize> = BTreeMap::new();
    for service in services.keys() {
        *ports.entry(service.range()).or_default() += 1;
    }
    let mut few: BTreeMap<Service, Seen> = BTreeMap::new();
    for (service, seen) in services {
        let range = service.range();
        let many = ports.get(&range).is_some_and(|&ports| ports > SERVICES_MAX);
        let all = few.entry(if many { range } else { service }).or_default();
        all.peers.extend(seen.peers);
        all.names.extend(seen.names);
        all.count = all.count.saturating_add(seen.count);
    }
    few
}

impl Service {
    fn new(protocol: u8, port: u16) -> Self {
        let ports = matches!(Protocol(protocol), Protocol::TCP | Protocol::UDP) && port != 0;
        let (first, last) = if ports { (port, port) } else { (0, u16::MAX) };
        Self { protocol, first, last }
    }

    /// The ports below or above 1024 that it is among.
    fn range(self) -> Self {
        let (first, last) = match self.first {
            0 => (0, u16::MAX),
            low if low < UNPRIVILEGED => (1, UNPRIVILEGED - 1),
            _ => (UNPRIVILEGED, u16::MAX),
        };
        Self { first, last, ..self }
    }
}

impl std::fmt::Display for Service {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Protocol(self.protocol) {
            Protocol::TCP => formatter.write_str("tcp")?,
            Protocol::UDP => formatter.write_str("udp")?,
            Protocol(number) => write!(formatter, "{number}")?,
        }
        match (self.first, self.last) {
            (0, _) => formatter.write_str("/any"),
            (first, last) if first == last => write!(formatter, "/{first}"),
            (first, last) => write!(formatter, "/{first}-{last}"),
        }
    }
}

fn push_rules(text: &mut String, shape: &Shape, actors: &Actors) {
    let services: Vec<String> = shape.services.iter().map(ToString::to_string).collect();
    let (services, peers) = (services.join(", "), &shape.peers);
    for part in actors.parts() {
        let names: Vec<&str> = part.names.iter().take(NAMES_MAX).map(String::as_str).collect();
        let more = part.names.len().saturating_sub(names.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let names = plain(&names.join(", "));
        let process = &part.process;
        let rule = match shape.way {
            Way::Out => format!("allow me{process} -> {peers} : {services}"),
            Way::In => format!("allow {peers} -> me{process} : {services}"),
        };
        let _written = writeln!(text, "# {names}{more}: {} flows\n{rule}", part.count);
    }
    text.push('\n');
}

/// Who administers this host by SSH is to stay in whatever is enforced later.
fn ways_in(rules: &[(Shape, Actors)]) -> impl Iterator<Item = &Shape> {
    let ssh = Service::new(Protocol::TCP.0, 22);
    rules
        .iter()
        .map(|(shape, _)| shape)
        .filter(move |shape| shape.way == Way::In && shape.services.contains(&ssh))
}

/// Fit for a comment: names of threads can be any bytes.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
