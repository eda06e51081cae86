//! The services and processes that a test speaks of: one of each kind that rules tell apart.

use std::{collections::BTreeSet, fmt};

use image::{RuleSet, Service};
use verdict::{Direction, Protocol, Subject};

use super::PROCESSES_MAX;
use crate::{
    facts::Identities as _,
    policy::Policy,
    resolve::ServiceNames,
    symbols::Symbols,
    syntax::{self, Failsafe, PortRange, Process, Qualifier, ServiceKind, Statement, Word},
};

/// A port of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub(super) protocol: Protocol,
    /// 0 for a protocol without ports.
    pub(super) port: u16,
}

impl fmt::Display for Point {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = if has_ports(self.protocol) {
            PortRange { first: self.port, last: self.port }
        } else {
            PortRange::ALL
        };
        ServiceKind::Ports(self.protocol, ports).fmt(to)
    }
}

fn has_ports(protocol: Protocol) -> bool {
    protocol == Protocol::TCP || protocol == Protocol::UDP
}

/// One point of each kind among `wanted`, services of a test of `policy`. `further` are services that rules beside the
/// policies tell apart.
pub(super) fn points(
    policies: &[Policy],
    policy: &Policy,
    wanted: &[syntax::Service],
    further: &[Service],
) -> Vec<Point> {
    let wanted = ServiceNames::new(policy).of(wanted);
    let mut services = wanted.clone();
    services.extend(further.iter().cloned());
    for policy in policies {
        let names = ServiceNames::new(policy);
        for (_, said) in policy.document.statements() {
            match said {
                Statement::Rule(rule) => services.extend(names.of(&rule.services)),
                Statement::Failsafe(Failsafe::Flows(flows)) => {
                    services.extend(names.of(&flows.services))
                }
                Statement::Failsafe(Failsafe::None)
                | Statement::Tier(_)
                | Statement::Mode(_)
                | Statement::Name(_)
                | Statement::Default(_)
                | Statement::Inbound(_)
                | Statement::Test(_) => {}
            }
        }
    }
    let mut points = BTreeSet::new();
    for protocol in [Protocol::TCP, Protocol::UDP] {
        // Port 0 is never connected to, so the first piece begins at 1.
        let mut starts = BTreeSet::from([1]);
        for service in services.iter().filter(|service| service.protocol == Some(protocol)) {
            starts.insert(service.ports.first.max(1));
            starts.extend(service.ports.last.checked_add(1));
        }
        points.extend(starts.into_iter().map(|port| Point { protocol, port }));
    }
    let named: BTreeSet<u8> =
        services.iter().filter_map(|service| service.protocol).map(|own| own.0).collect();
    let portless = (0..=u8::MAX).map(Protocol).filter(|&protocol| !has_ports(protocol));
    let (known, unknown): (Vec<Protocol>, Vec<Protocol>) =
        portless.partition(|protocol| named.contains(&protocol.0));
    let portless = known.into_iter().chain(unknown.into_iter().next());
    points.extend(portless.map(|protocol| Point { protocol, port: 0 }));
    let wants = |point: &Point| wanted.iter().any(|service| serves(service, *point));
    points.into_iter().filter(wants).collect()
}

fn serves(service: &Service, point: Point) -> bool {
    service.protocol.is_none_or(|protocol| protocol == point.protocol)
        && (!has_ports(point.protocol)
            || (service.ports.first..=service.ports.last).contains(&point.port))
}

/// One process of each kind that the rules of a host tell apart in one direction, of those that `process` describes;
/// `None` if there are more than [`PROCESSES_MAX`].
pub(super) fn subjects(
    rules: &RuleSet,
    direction: Direction,
    process: Option<&Process>,
    symbols: &Symbols,
) -> Option<Vec<Subject>> {
    let tests =
        || rules.rules.iter().filter(|rule| rule.direction == direction).map(|rule| &rule.subject);
    let described = |of: Qualifier| process.map(|process| process.values(of));
    let number = |word: &Word| word.text.parse::<u32>().ok();
    let users = kinds(
        described(Qualifier::User),
        |word| number(word).or_else(|| symbols.user(&word.text)),
        tests().flat_map(|test| test.users.iter().copied()),
        Symbols::STRANGER.uid,
    );
    let groups = kinds(
        described(Qualifier::Group),
        |word| number(word).or_else(|| symbols.group(&word.text)),
        tests().flat_map(|test| test.groups.iter().copied()),
        Symbols::STRANGER.gid,
    );
    let exes = kinds(
        described(Qualifier::Exe),
        |word| symbols.exe(&word.text),
        tests().flat_map(|test| test.exes.iter().copied()),
        Symbols::STRANGER.exe,
    );
    let units = kinds(
        described(Qualifier::Unit),
        |word| symbols.unit(&word.text),
        tests().flat_map(|test| test.units.iter().copied()),
        Symbols::STRANGER.cgroup,
    );
    // Whoever is in a described unit may be in a cgroup below it that rules name.
    let in_a_unit = process.is_some_and(|process| !process.unit.is_empty());
    let units = if in_a_unit { symbols.below(&units) } else { units };
    let containers = kinds(
        described(Qualifier::Container),
        |word| symbols.container(&word.text),
        tests().flat_map(|test| test.containers.iter().copied()),
        Symbols::STRANGER.cgroup,
    );
    let namespaces = kinds(
        described(Qualifier::Netns),
        |word| symbols.netns(&word.text),
        tests().flat_map(|test| test.namespaces.iter().copied()),
        Symbols::STRANGER.netns,
    );
    let count = [groups.len(), exes.len(), units.len(), containers.len(), namespaces.len()]
        .into_iter()
        .try_fold(users.len(), |count, more| count.checked_mul(more))?;
    if count > PROCESSES_MAX {
        return None;
    }
    let mut subjects = vec![Subject::UNKNOWN];
    each(&mut subjects, &users, |subject, &uid| Subject { uid, ..subject });
    each(&mut subjects, &groups, |subject, &gid| Subject { gid, ..subject });
    each(&mut subjects, &exes, |subject, &exe| Subject { exe, ..subject });
    let within = |(unit, container)| symbols.within(unit, container, Subject::UNKNOWN);
    let homes: Vec<Subject> = units
        .iter()
        .flat_map(|&unit| containers.iter().map(move |&container| (unit, container)))
        .map(within)
        .collect();
    each(&mut subjects, &homes, |subject, &Subject { cgroup, above, .. }| Subject {
        cgroup,
        above,
        ..subject
    });
    each(&mut subjects, &namespaces, |subject, &netns| Subject { netns, ..subject });
    Some(subjects)
}

/// One of each subject for each of `values`.
fn each<T>(subjects: &mut Vec<Subject>, values: &[T], with: impl Fn(Subject, &T) -> Subject) {
    let with = &with;
    *subjects = subjects
        .iter()
        .flat_map(|&subject| values.iter().map(move |value| with(subject, value)))
        .collect();
}

/// The values of one facet: those that are described, or else those that rules name and one that none names.
fn kinds<T: Ord>(
    described: Option<&[Word]>,
    look_up: impl Fn(&Word) -> Option<T>,
    named: impl Iterator<Item = T>,
    stranger: T,
) -> Vec<T> {
    if let Some(words) = described.filter(|words| !words.is_empty()) {
        return words.iter().filter_map(look_up).collect();
    }
    // The one that no rule names first: a flow that fails is told as simply as can be.
    let named: BTreeSet<T> = named.filter(|value| *value != stranger).collect();
    std::iter::once(stranger).chain(named).collect()
}
