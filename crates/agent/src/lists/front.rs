//! Entries and lists as rules, in front of those of the policy.

use image::{AddressSet, Mode, Rule, RuleSet, Service, SetIndex, SubjectTest};
use verdict::{Address, Direction, Verdict};

use super::{Entries, List, Moment, Target, Transport};

/// The tier of the rules: below the failsafe set (0), where the policy's tier `admin` is. In a rule set of flags it is
/// that of the defaults, where deny wins as in any other.
const TIER: u8 = 1;

/// One rule of the front, and what people are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontRule {
    /// `deny/TARGET` or `list/NAME`.
    pub id: String,
    /// What it says, on one line.
    pub text: String,
    /// Why it is there.
    pub reason: Option<String>,
    remote: Option<AddressSet>,
    service: Service,
    until_ns: Option<u64>,
}

/// Entries, and lists with their addresses: what a front is made of, at any moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fronts {
    /// The entries.
    pub entries: Entries,
    /// The lists.
    pub lists: Vec<(List, AddressSet)>,
}

impl Fronts {
    /// What is in force at a moment.
    pub fn at(&self, moment: &Moment) -> Front {
        let mut front = Front::of_entries(&self.entries, moment);
        for (list, addresses) in &self.lists {
            front.add_list(list, addresses, moment);
        }
        front
    }
}

/// The entries and lists that are in force at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Front(Vec<FrontRule>);

impl Front {
    /// Of the entries, without those that are over.
    pub fn of_entries(entries: &Entries, now: &Moment) -> Self {
        let current =
            entries.iter().filter(|entry| entry.end.as_ref().is_none_or(|end| !end.is_over(now)));
        let rule = |entry: &super::Entry| {
            let (remote, service) = matched(entry.target);
            FrontRule {
                id: format!("deny/{}", entry.target),
                text: format!("deny {} (added at run time)", entry.target),
                reason: entry.reason.clone(),
                remote,
                service,
                until_ns: entry.end.as_ref().map(|end| end.boottime_ns(now)),
            }
        };
        Self(current.map(rule).collect())
    }

    /// Adds a list, unless it is over.
    pub fn add_list(&mut self, list: &List, addresses: &AddressSet, now: &Moment) {
        if list.end.as_ref().is_some_and(|end| end.is_over(now)) {
            return;
        }
        self.0.push(FrontRule {
            id: format!("list/{}", list.name),
            text: format!("deny list {} (imported, {} lines)", list.name, list.lines),
            reason: list.reason.clone(),
            remote: Some(addresses.clone()),
            service: Service::ANY,
            until_ns: list.end.as_ref().map(|end| end.boottime_ns(now)),
        });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is denied.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts the rules behind those of the failsafe set and before all others, one for each of `directions`, with their ends
    /// by `CLOCK_BOOTTIME`. `told` is
    /// what is told of each rule of `rules`, by number; it gets what `tell` makes of each new one.
    pub fn put<T>(
        self,
        directions: &[Direction],
        rules: &mut RuleSet,
        told: &mut Vec<T>,
        tell: impl Fn(&FrontRule) -> T,
    ) {
        let at = rules.rules.partition_point(|rule| rule.tier < TIER);
        let (mut new, mut new_told) = (Vec::new(), Vec::new());
        for front in self.0 {
            for &direction in directions {
                new_told.push(tell(&front));
                new.push(rule(&front, direction, rules.sets.len()));
            }
            rules.sets.extend(front.remote);
        }
        rules.rules.splice(at..at, new);
        told.splice(at..at, new_told);
    }
}

fn rule(front: &FrontRule, direction: Direction, next_set: usize) -> Rule {
    let set = || SetIndex::try_from(next_set).expect("fewer sets than rules, which fit in 32 bits");
    Rule {
        id: front.id.clone(),
        tier: TIER,
        verdict: Verdict::Deny,
        mode: Mode::Enforce,
        direction,
        remote: front.remote.as_ref().map(|_| set()),
        local: None,
        services: vec![front.service.clone()],
        subject: SubjectTest::default(),
        until_ns: front.until_ns,
        flags: 0,
    }
}

/// The peers and services that a target means.
fn matched(target: Target) -> (Option<AddressSet>, Service) {
    match target {
        Target::Addresses { first, bits } => {
            let set = AddressSet::from_prefixes([(Address::from_bits(first), bits)]);
            (Some(set), Service::ANY)
        }
        Target::Ports { transport: Transport::Tcp, first, last } => {
            (None, Service::tcp(first..=last))
        }
        Target::Ports { transport: Transport::Udp, first, last } => {
            (None, Service::udp(first..=last))
        }
    }
}

#[cfg(test)]
mod tests {
    use image::evaluate;
    use jiff::Timestamp;
    use verdict::{Endpoint, Flow, Protocol, Subject};

    use super::*;
    use crate::{
        edition::Applied,
        lists::{End, Entry},
    };

    const WAYS: [Direction; 2] = [Direction::Out, Direction::In];

    fn now(boottime_ns: u64) -> Moment {
        Moment { wall: Timestamp::UNIX_EPOCH, boottime_ns, boot: "boot".to_owned() }
    }

    fn entries(targets: &[(&str, Option<u64>)]) -> Entries {
        let entry = |&(target, until): &(&str, Option<u64>)| Entry {
            target: target.parse().expect("a target"),
            end: until.map(|until| End { until_boottime_ns: until, ..End::after(&now(0), until) }),
            reason: Some("test".to_owned()),
            by: Applied { at: Timestamp::UNIX_EPOCH, uid: 0, session: None },
        };
        Entries::from(targets.iter().map(entry).collect::<Vec<_>>())
    }

    /// A failsafe rule for 192.0.2.9, a rule of a team, and the defaults.
    fn policy() -> RuleSet {
        let failsafe = AddressSet::from_address(Address::v4(0xc000_0209));
        let allow = |direction: Direction, tier| Rule {
            id: format!("allow-{tier}"),
            remote: (tier == 0).then_some(0),
            flags: 0,
            ..Rule::default(direction, Verdict::Allow, tier)
        };
        let rules = WAYS.map(|way| allow(way, 0)).into_iter();
        let rules = rules.chain(WAYS.map(|way| allow(way, 2)));
        let defaults = WAYS.map(|way| Rule::default(way, Verdict::Allow, 5));
        RuleSet {
            sets: vec![failsafe],
            rules: rules.chain(defaults).collect(),
            version: 1,
            ..RuleSet::default()
        }
    }

    fn verdict(
        rules: &RuleSet,
        now_ns: u64,
        direction: Direction,
        protocol: Protocol,
        peer: &str,
        port: u16,
    ) -> String {
        let peer = crate::prefix::canonical(peer.parse().expect("an address"));
        let here = Endpoint { address: Address::v4(0x0a00_0001), port: 40_000 };
        let there = Endpoint { address: peer, port: 40_000 };
        let (local, remote) = match direction {
            Direction::Out => (here, Endpoint { port, ..there }),
            Direction::In => (Endpoint { port, ..here }, there),
        };
        let flow = Flow { direction, protocol, local, remote, subject: Subject::UNKNOWN };
        let decided = evaluate(rules, &flow, now_ns).enforced;
        let id = &rules.rules[usize::from(decided.rule.0)].id;
        format!("{:?} {id}", decided.verdict).to_lowercase()
    }

    fn with(front: Front) -> (RuleSet, Vec<String>) {
        let mut rules = policy();
        let mut told: Vec<String> = rules.rules.iter().map(|rule| rule.id.clone()).collect();
        front.put(&WAYS, &mut rules, &mut told, |rule| rule.id.clone());
        rules.validate().expect("rules that mean something");
        let ids: Vec<String> = rules.rules.iter().map(|rule| rule.id.clone()).collect();
        assert_eq!(ids, told, "what is told goes with its rule");
        (rules, told)
    }

    #[test]
    fn entries_decide_before_the_policy_and_after_the_failsafe_set() {
        let front = Front::of_entries(
            &entries(&[
                ("192.0.2.0/24", None),
                ("2001:db8::1", None),
                ("tcp/25", None),
                ("udp/53", None),
            ]),
            &now(0),
        );
        let (rules, _) = with(front);
        for way in WAYS {
            for (protocol, peer, port, expected) in [
                (Protocol::TCP, "192.0.2.1", 80, "deny deny/192.0.2.0/24"),
                (Protocol::UDP, "::ffff:192.0.2.1", 80, "deny deny/192.0.2.0/24"),
                (Protocol::TCP, "192.0.2.9", 80, "allow allow-0"),
                (Protocol::TCP, "192.0.3.1", 80, "allow allow-2"),
                (Protocol::TCP, "2001:db8::1", 80, "deny deny/2001:db8::1"),
                (Protocol::TCP, "2001:db8::2", 80, "allow allow-2"),
                (Protocol::TCP, "198.51.100.1", 25, "deny deny/tcp/25"),
                (Protocol::UDP, "198.51.100.1", 25, "allow allow-2"),
                (Protocol::UDP, "198.51.100.1", 53, "deny deny/udp/53"),
            ] {
                assert_eq!(
                    verdict(&rules, 0, way, protocol, peer, port),
                    expected,
                    "{way:?} {peer} {port}"
                );
            }
        }
    }

    #[test]
    fn a_list_is_one_rule_in_each_direction() {
        let addresses =
            AddressSet::from_prefixes((0..1000u32).map(|n| (Address::v4(n << 9), 128 - 8)));
        let list = List {
            name: "feed".parse().unwrap(),
            lines: 1000,
            end: Some(End::after(&now(0), 5_000_000_000)),
            reason: None,
            feed: None,
            by: Applied { at: Timestamp::UNIX_EPOCH, uid: 0, session: None },
        };
        let mut front = Front::default();
        front.add_list(&list, &addresses, &now(0));
        let (rules, told) = with(front);
        assert_eq!(rules.next_end(0), Some(5_000_000_000));
        assert_eq!(told.iter().filter(|id| *id == "list/feed").count(), 2);
        assert_eq!(
            verdict(&rules, 0, Direction::In, Protocol::TCP, "0.0.4.5", 80),
            "deny list/feed"
        );
        assert_eq!(
            verdict(&rules, 0, Direction::In, Protocol::TCP, "0.0.5.5", 80),
            "allow allow-2"
        );
        let mut later = Front::default();
        later.add_list(&list, &addresses, &now(5_000_000_000));
        assert!(later.is_empty());
    }

    #[test]
    fn what_is_over_is_left_out_and_what_ends_later_says_so() {
        let entries = entries(&[("tcp/1", Some(10)), ("tcp/2", Some(20)), ("tcp/3", None)]);
        for (at, ends, left) in [(0, Some(10), 3), (10, Some(20), 2), (25, None, 1)] {
            let front = Front::of_entries(&entries, &now(at));
            assert_eq!(front.len(), left, "{at}");
            let (rules, _) = with(front);
            assert_eq!(rules.next_end(at), ends, "{at}");
            for (port, until) in [(1, 10), (2, 20), (3, u64::MAX)] {
                let denied = verdict(&rules, at, Direction::In, Protocol::TCP, "192.0.2.1", port);
                assert_eq!(denied.starts_with("deny"), at < until, "{at} {port}");
            }
        }
    }
}
