//! What is allowed in lockdown: the failsafe set of the policy, loopback to loopback, and nothing else.

use std::collections::BTreeMap;

use image::{AddressSet, Rule, RuleSet, SetIndex};
use verdict::{Direction, Verdict};

/// The tier of the failsafe set, in every rule set of a policy.
pub const FAILSAFE: u8 = 0;

/// The rules of lockdown, by those of the policy. The id of the rule that denies everything else is `lockdown`.
pub fn lockdown(policy: &RuleSet) -> RuleSet {
    let mut rules =
        RuleSet { version: policy.version, cgroups: policy.cgroups.clone(), ..RuleSet::default() };
    let mut known: BTreeMap<SetIndex, SetIndex> = BTreeMap::new();
    for rule in policy.rules.iter().filter(|rule| is_failsafe(rule)) {
        let mut keep = |set: SetIndex| {
            *known.entry(set).or_insert_with(|| {
                add(&mut rules.sets, policy.sets.get(set as usize).cloned().unwrap_or_default())
            })
        };
        let (remote, local) = (rule.remote.map(&mut keep), rule.local.map(&mut keep));
        rules.rules.push(Rule { remote, local, ..rule.clone() });
    }
    let loopback = add(&mut rules.sets, AddressSet::loopback().clone());
    for direction in [Direction::Out, Direction::In] {
        rules.rules.push(Rule {
            id: "loopback".to_owned(),
            remote: Some(loopback),
            ..Rule::default(direction, Verdict::Allow, FAILSAFE + 1)
        });
    }
    for direction in [Direction::Out, Direction::In] {
        rules.rules.push(Rule {
            id: "lockdown".to_owned(),
            ..Rule::default(direction, Verdict::Deny, FAILSAFE + 2)
        });
    }
    rules
}

/// Whether a rule belongs to the failsafe set.
pub fn is_failsafe(rule: &Rule) -> bool {
    rule.tier == FAILSAFE && rule.verdict == Verdict::Allow
}

fn add(sets: &mut Vec<AddressSet>, set: AddressSet) -> SetIndex {
    sets.push(set);
    SetIndex::try_from(sets.len() - 1).expect("fewer sets than rules, which fit in 32 bits")
}

#[cfg(test)]
mod tests {
    use image::{Service, evaluate};
    use verdict::{Address, Endpoint, Flow, Protocol, Subject};

    use super::*;

    fn flow(direction: Direction, remote: u32, port: u16) -> Flow {
        let end = |address, port| Endpoint { address: Address::v4(address), port };
        Flow {
            direction,
            protocol: Protocol::TCP,
            local: end(0x0a07_0001, if direction == Direction::In { port } else { 40_000 }),
            remote: end(remote, if direction == Direction::Out { port } else { 40_000 }),
            subject: Subject::UNKNOWN,
        }
    }

    #[test]
    fn only_the_failsafe_set_and_loopback_are_left() {
        let management = AddressSet::from_prefixes([(Address::v4(0x0a07_0002), 128)]);
        let other = AddressSet::from_prefixes([(Address::v4(0x0a07_0003), 128)]);
        let rule = |id: &str, tier, verdict, remote, direction| Rule {
            id: id.to_owned(),
            remote,
            services: vec![Service::tcp(22..=22)],
            flags: 0,
            ..Rule::default(direction, verdict, tier)
        };
        let policy = RuleSet {
            sets: vec![other, management],
            rules: vec![
                rule("failsafe:0.0", 0, Verdict::Allow, Some(1), Direction::In),
                rule("flag", 0, Verdict::Deny, Some(0), Direction::In),
                rule("a", 2, Verdict::Allow, Some(0), Direction::In),
                Rule::default(Direction::Out, Verdict::Allow, 5),
                Rule::default(Direction::In, Verdict::Allow, 5),
            ],
            version: 7,
            ..RuleSet::default()
        };
        let rules = lockdown(&policy);
        assert_eq!((rules.sets.len(), rules.version), (2, 7));
        for (direction, remote, port, allowed) in [
            (Direction::In, 0x0a07_0002, 22, true),
            (Direction::In, 0x0a07_0002, 23, false),
            (Direction::In, 0x0a07_0003, 22, false),
            (Direction::Out, 0x0a07_0002, 22, false),
            (Direction::Out, 0x7f00_0002, 22, true),
            (Direction::In, 0x7f00_0002, 80, true),
        ] {
            let judged = evaluate(&rules, &flow(direction, remote, port), 0).enforced;
            assert_eq!(
                judged.verdict == Verdict::Allow,
                allowed,
                "{direction:?} {remote:x} {port}"
            );
        }
        image::compile(&rules).expect("it is an image like any other");
    }
}
