//! The rules of one host, with labels and names already resolved: what [`compile`](crate::compile) takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use verdict::{Direction, Endpoint, Flow, Protocol, Subject, Verdict, layout};

use crate::{AddressSet, Invalid};

/// Index into [`RuleSet::sets`].
pub type SetIndex = u32;

/// Whether a rule is enforced or only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Takes part in the enforced and the would-be verdict.
    Enforce,
    /// Takes part in the would-be verdict only.
    Audit,
}

/// A protocol with a range of the server's ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// `None` is any protocol.
    pub protocol: Option<Protocol>,
    /// The ports; must be `0..=65535` unless the protocol is TCP or UDP.
    pub ports: Ports,
}

/// An inclusive range of ports that can be ordered and hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

impl From<RangeInclusive<u16>> for Ports {
    fn from(range: RangeInclusive<u16>) -> Self {
        Self { first: *range.start(), last: *range.end() }
    }
}

impl Service {
    /// Any protocol, any port.
    pub const ANY: Self = Self { protocol: None, ports: Ports { first: 0, last: u16::MAX } };

    /// Ports of TCP.
    pub fn tcp(ports: RangeInclusive<u16>) -> Self {
        Self { protocol: Some(Protocol::TCP), ports: ports.into() }
    }

    /// Ports of UDP.
    pub fn udp(ports: RangeInclusive<u16>) -> Self {
        Self { protocol: Some(Protocol::UDP), ports: ports.into() }
    }

    /// All of one protocol.
    pub const fn protocol(protocol: Protocol) -> Self {
        Self { protocol: Some(protocol), ports: Ports { first: 0, last: u16::MAX } }
    }

    pub(crate) fn all_ports(&self) -> bool {
        self.ports.first == 0 && self.ports.last == u16::MAX
    }

    fn matches(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol.is_none_or(|own| own == protocol)
            && (self.all_ports() || self.ports.first <= port && port <= self.ports.last)
    }
}

/// A test on the local process. Each list that is not empty must hold the process's value; an empty one takes any.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectTest {
    /// User ids.
    pub users: Vec<u32>,
    /// Group ids.
    pub groups: Vec<u32>,
    /// Executables, as [`Subject::exe`] numbers them.
    pub exes: Vec<u64>,
    /// cgroup ids of units: the process is in one of these, or below it.
    pub units: Vec<u64>,
    /// cgroup ids of containers, likewise.
    pub containers: Vec<u64>,
    /// Cookies of network namespaces.
    pub namespaces: Vec<u64>,
}

impl SubjectTest {
    /// Whether the process passes.
    pub fn matches(&self, subject: &Subject) -> bool {
        fn one<T: PartialEq>(list: &[T], value: &T) -> bool {
            list.is_empty() || list.contains(value)
        }
        fn within(list: &[u64], subject: &Subject) -> bool {
            list.is_empty() || subject.cgroups().any(|cgroup| list.contains(&cgroup))
        }
        one(&self.users, &subject.uid)
            && one(&self.groups, &subject.gid)
            && one(&self.exes, &subject.exe)
            && within(&self.units, subject)
            && within(&self.containers, subject)
            && one(&self.namespaces, &subject.netns)
    }

    /// Whether it asks whose a socket is: something that only an owner's stamp can tell.
    pub(crate) fn asks_for_owner(&self) -> bool {
        *self != Self { namespaces: self.namespaces.clone(), ..Self::default() }
    }
}

/// One rule in one direction. A policy rule that a host enforces at both ends is two of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The stable id that people see.
    pub id: String,
    /// 0 is looked at first. The first tier in which any rule matches decides; inside it deny wins.
    pub tier: u8,
    /// What it says.
    pub verdict: Verdict,
    /// Whether it is enforced.
    pub mode: Mode,
    /// Connecting or accepting.
    pub direction: Direction,
    /// The peer's address; `None` is any.
    pub remote: Option<SetIndex>,
    /// The local address, inbound only; `None` is any.
    pub local: Option<SetIndex>,
    /// The services, any of which may match; never empty.
    pub services: Vec<Service>,
    /// The local process.
    pub subject: SubjectTest,
    /// From which moment on the rule says nothing any more, in nanoseconds of the clock that the image is read by; `None`
    /// is never.
    pub until_ns: Option<u64>,
    /// `RULE_*` of [`verdict::layout`].
    pub flags: u32,
}

impl Rule {
    /// A rule that matches everything in `direction`, to be the default of the last tier.
    pub fn default(direction: Direction, verdict: Verdict, tier: u8) -> Self {
        let id = match direction {
            Direction::Out => "default-out",
            Direction::In => "default-in",
        };
        Self {
            id: id.to_owned(),
            tier,
            verdict,
            mode: Mode::Enforce,
            direction,
            remote: None,
            local: None,
            services: vec![Service::ANY],
            subject: SubjectTest::default(),
            until_ns: None,
            flags: layout::RULE_DEFAULT,
        }
    }

    fn matches_all(&self) -> bool {
        self.remote.is_none()
            && self.local.is_none()
            && self.subject == SubjectTest::default()
            && self.mode == Mode::Enforce
            && self.until_ns.is_none()
            && self.services.iter().any(|service| service.protocol.is_none() && service.all_ports())
    }

    pub(crate) fn matches(&self, flow: &Flow, sets: &[AddressSet], now_ns: u64) -> bool {
        let holds = |set: Option<SetIndex>, end: &Endpoint| {
            set.is_none_or(|index| {
                sets.get(index as usize).is_some_and(|set| set.contains(end.address))
            })
        };
        self.direction == flow.direction
            && self.until_ns.is_none_or(|until| now_ns < until)
            && holds(self.remote, &flow.remote)
            && holds(self.local, &flow.local)
            && self
                .services
                .iter()
                .any(|service| service.matches(flow.protocol, flow.service_port()))
            && self.subject.matches(&flow.subject)
    }
}

/// The rules of one host. A rule's number ([`verdict::RuleNumber`]) is its index in `rules`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// The address sets that rules name by index.
    pub sets: Vec<AddressSet>,
    /// The rules. For each direction the last tier must hold an enforced one that matches everything and has no end.
    pub rules: Vec<Rule>,
    /// For cgroups that rules name, the cgroups above them as far as rules name those too. What is not in here has none
    /// above it. A cgroup never moves, so this stays true while it lives.
    pub cgroups: BTreeMap<u64, BTreeSet<u64>>,
    /// The policy's version, written into the image.
    pub version: u64,
}

impl RuleSet {
    /// Whether both judge alike, rule for rule: only their versions may differ.
    pub fn is_alike(&self, other: &Self) -> bool {
        let Self { sets, rules, cgroups, version: _ } = self;
        *sets == other.sets && *rules == other.rules && *cgroups == other.cgroups
    }

    /// When the next rule ends after `now_ns`.
    pub fn next_end(&self, now_ns: u64) -> Option<u64> {
        self.rules.iter().filter_map(|rule| rule.until_ns).filter(|until| *until > now_ns).min()
    }

    /// Whether the rules have a meaning at all.
    ///
    /// # Errors
    /// The first fault, with the rule's id.
    pub fn validate(&self) -> Result<(), Invalid> {
        for rule in &self.rules {
            self.validate_rule(rule)?;
        }
        let last = self.rules.iter().map(|rule| rule.tier).max();
        for (direction, name) in [(Direction::Out, "going out"), (Direction::In, "coming in")] {
            let decided = self.rules.iter().any(|rule| {
                rule.direction == direction && Some(rule.tier) == last && rule.matches_all()
            });
            if !decided {
                return Err(Invalid::Default { direction: name });
            }
        }
        Ok(())
    }

    fn validate_rule(&self, rule: &Rule) -> Result<(), Invalid> {
        let id = || rule.id.clone();
        for set in [rule.remote, rule.local].into_iter().flatten() {
            if set as usize >= self.sets.len() {
                return Err(Invalid::Set { rule: id(), set, sets: self.sets.len() });
            }
        }
        if rule.services.is_empty() {
            return Err(Invalid::Services { rule: id() });
        }
        if rule.direction == Direction::Out && rule.local.is_some() {
            return Err(Invalid::Local { rule: id() });
        }
        for service in &rule.services {
            let ported = matches!(service.protocol, Some(Protocol::TCP | Protocol::UDP));
            if service.ports.first > service.ports.last || !ported && !service.all_ports() {
                let protocol = service
                    .protocol
                    .map_or_else(|| "any".to_owned(), |number| number.0.to_string());
                return Err(Invalid::Ports {
                    rule: id(),
                    first: service.ports.first,
                    last: service.ports.last,
                    protocol,
                });
            }
        }
        Ok(())
    }
}
