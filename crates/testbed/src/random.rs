//! Random rules and flows for property tests: few enough addresses, ports and processes that rules and flows meet.
//!
//! The same generator feeds the comparison of [`verdict::decide`] with [`image::evaluate`] and the comparison of the
//! loaded kernel program with both, so a flow can be limited to what a test can really connect to.

use std::collections::{BTreeMap, BTreeSet};

use image::{AddressSet, Mode, Rule, RuleSet, Service, SubjectTest};
use proptest::{collection::vec, option, prelude::*, sample::select};
use verdict::{
    Address, Direction, Endpoint, Flow, Protocol, Subject, Verdict, layout, limits::ANCESTORS_MAX,
};

/// The cgroups of the world, each with those that the kernel tells as above it: itself the first of them, unless it is
/// deeper than they reach. Rules name 0 to 5; nobody is in 0.
const CGROUPS: [(u64, &[u64]); 8] = [
    (0, &[]),
    (1, &[1]),
    (2, &[2, 1]),
    (3, &[3, 2, 1]),
    (4, &[4]),
    (5, &[90, 4]),
    (91, &[91, 3, 2, 1]),
    (92, &[92]),
];

/// What [`RuleSet::cgroups`] says of them.
fn cgroups_above() -> BTreeMap<u64, BTreeSet<u64>> {
    CGROUPS
        .iter()
        .map(|&(cgroup, path)| (cgroup, path.iter().copied().filter(|&of| of != cgroup).collect()))
        .collect()
}

/// Where rules and flows of a test live.
#[derive(Clone, Debug)]
pub struct World {
    /// Addresses that flows have.
    pub addresses: Vec<Address>,
    /// Ports that flows have; rules begin and end at them or beside them.
    pub ports: Vec<u16>,
    /// Protocols that flows have.
    pub protocols: Vec<Protocol>,
    /// Whether rules look at the process and the local address too.
    pub near: bool,
    /// Moments at which some rules end.
    pub ends: Vec<u64>,
}

impl World {
    /// Both families, near and far addresses, all kinds of protocols.
    pub fn wide() -> Self {
        let v6 = |last: u32| Address::v6([0x2001_0db8, 0, 0, last]);
        Self {
            addresses: vec![
                Address::v4(0),
                Address::LOOPBACK_V4,
                Address::v4(0x7f00_0002),
                Address::v4(0x0a00_0001),
                Address::v4(0x0a00_0101),
                Address::v4(0x0a01_0001),
                Address::v4(0xc0a8_3865),
                Address::v4(0xffff_ffff),
                Address::UNSPECIFIED_V6,
                Address::LOOPBACK_V6,
                v6(0),
                v6(1),
                v6(0x0001_0000),
                Address::v6([0x2001_0db8, 0x0001_0000, 0, 1]),
                Address::v6([0xfe80_0000, 0, 0x0200_00ff, 0xfe00_0001]),
                Address::v6([u32::MAX; 4]),
            ],
            ports: vec![0, 1, 22, 53, 80, 443, 1023, 1024, 10_000, 32_768, 65_534, 65_535],
            protocols: vec![
                Protocol::TCP,
                Protocol::UDP,
                Protocol::SCTP,
                Protocol::ICMP,
                Protocol(255),
            ],
            near: true,
            ends: vec![0, 1, 10, 20, 30, 40, u64::MAX - 1],
        }
    }

    /// Valid rule sets: up to `rules_max` rules and the two defaults.
    pub fn rule_sets(&self, rules_max: usize) -> impl Strategy<Value = RuleSet> + use<> {
        let sets = vec(self.sets(), 1..6);
        let world = self.clone();
        (sets, any::<u64>(), any::<[bool; 2]>()).prop_flat_map(move |(sets, version, defaults)| {
            let count = u32::try_from(sets.len()).expect("at most five sets");
            (vec(world.rules(count), 0..=rules_max), Just(sets)).prop_map(
                move |(mut rules, sets)| {
                    for (direction, denies) in
                        [Direction::Out, Direction::In].into_iter().zip(defaults)
                    {
                        let verdict = if denies { Verdict::Deny } else { Verdict::Allow };
                        rules.push(Rule::default(direction, verdict, 3));
                    }
                    for (number, rule) in rules.iter_mut().enumerate() {
                        rule.id = format!("rule-{number}");
                    }
                    RuleSet { sets, rules, version, cgroups: cgroups_above() }
                },
            )
        })
    }

    /// Moments: those at which rules end, and others.
    pub fn moments(&self) -> impl Strategy<Value = u64> + use<> {
        let end = (select(self.ends.clone()), 0u64..3)
            .prop_map(|(end, beside)| end.saturating_sub(1).saturating_add(beside));
        // No clock shows the last moment.
        end.prop_map(|moment| moment.min(u64::MAX - 1))
    }

    /// Flows between the world's addresses.
    pub fn flows(&self) -> impl Strategy<Value = Flow> + use<> {
        let end = || {
            (self.address(), select(self.ports.clone()))
                .prop_map(|(address, port)| Endpoint { address, port })
        };
        let subject = (0u32..3, 0u32..3, 0u64..3, select(CGROUPS.to_vec()), 0u64..3).prop_map(
            |(uid, gid, exe, (cgroup, path), netns)| {
                let mut above = [0; ANCESTORS_MAX];
                for (to, from) in above.iter_mut().zip(path) {
                    *to = *from;
                }
                Subject { uid, gid, exe, cgroup, above, netns }
            },
        );
        let directions = select(vec![Direction::Out, Direction::In]);
        (directions, select(self.protocols.clone()), end(), end(), subject).prop_map(
            |(direction, protocol, local, remote, subject)| Flow {
                direction,
                protocol,
                local,
                remote,
                subject,
            },
        )
    }

    /// The world's addresses, sometimes a neighbour of one.
    fn address(&self) -> impl Strategy<Value = Address> + use<> {
        (
            select(self.addresses.clone()),
            prop_oneof![8 => Just(0u128), 1 => Just(1u128), 1 => 2u128..1 << 20],
        )
            .prop_map(|(address, beside)| Address::from_bits(address.bits() ^ beside))
    }

    fn sets(&self) -> impl Strategy<Value = AddressSet> + use<> {
        let v4 = (select(self.addresses.clone()), 96u8..=128);
        let wide = (select(self.addresses.clone()), 0u8..=128);
        let prefixes = vec(prop_oneof![v4, wide], 1..5).prop_map(AddressSet::from_prefixes);
        let ranges = (self.address(), self.address())
            .prop_map(|(a, b)| AddressSet::from_ranges([(a.min(b), a.max(b))]));
        prop_oneof![
            6 => prefixes.clone(),
            1 => prefixes.prop_map(|set| set.complement()),
            1 => ranges,
            1 => Just(AddressSet::new()),
        ]
    }

    fn rules(&self, sets: u32) -> impl Strategy<Value = Rule> + use<> {
        let direction = select(vec![Direction::Out, Direction::In]);
        let verdict = select(vec![Verdict::Allow, Verdict::Deny]);
        let mode = prop_oneof![3 => Just(Mode::Enforce), 1 => Just(Mode::Audit)];
        let remote = option::weighted(0.8, 0..sets);
        let local = option::weighted(if self.near { 0.2 } else { 0.0 }, 0..sets);
        let subject = subjects(self.near);
        let until = option::weighted(0.4, select(self.ends.clone()));
        let said = (0u8..4, verdict, mode, direction, until);
        (said, remote, local, vec(self.services(), 1..4), subject).prop_map(
            |((tier, verdict, mode, direction, until_ns), remote, local, services, subject)| Rule {
                id: String::new(),
                tier,
                verdict,
                mode,
                direction,
                remote,
                local: local.filter(|_| direction == Direction::In),
                services,
                subject,
                until_ns,
                flags: layout::RULE_REVOKE,
            },
        )
    }

    fn services(&self) -> impl Strategy<Value = Service> + use<> {
        let port = || {
            (select(self.ports.clone()), prop_oneof![4 => Just(0u16), 1 => 0u16..3])
                .prop_map(|(port, beside)| port.saturating_add(beside))
        };
        let ports = (port(), port()).prop_map(|(a, b)| a.min(b)..=a.max(b));
        prop_oneof![
            2 => port().prop_map(|port| Service::tcp(port..=port)),
            2 => ports.clone().prop_map(Service::tcp),
            2 => ports.prop_map(Service::udp),
            1 => select(self.protocols.clone()).prop_map(Service::protocol),
            1 => Just(Service::ANY),
        ]
    }
}

fn subjects(near: bool) -> impl Strategy<Value = SubjectTest> {
    let ids = || vec(0u32..3, 0..2);
    let numbers = || vec(0u64..3, 0..2);
    let cgroups = |weight| prop_oneof![weight => vec(0u64..6, 1..3), 4 => Just(Vec::new())];
    let tested = (ids(), ids(), numbers(), cgroups(4), cgroups(2), numbers()).prop_map(
        |(users, groups, exes, units, containers, namespaces)| SubjectTest {
            users,
            groups,
            exes,
            units,
            containers,
            namespaces,
        },
    );
    let weight = if near { 1 } else { 0 };
    prop_oneof![4 => Just(SubjectTest::default()), weight => tested]
}
