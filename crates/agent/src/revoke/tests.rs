//! Selection against brute force: rules read one by one, on random rules and sockets.

use std::collections::BTreeSet;

use image::{RuleSet, compile, evaluate};
use proptest::{collection::vec, option, prelude::*, sample::select, test_runner::Config};
use testbed::random::World;
use verdict::{Address, Flow, Protocol, Verdict};

use super::*;
use crate::connections::{Case, Cgroup, Facts, Namespace, Socket, Stage};

fn sockets(world: &World) -> impl Strategy<Value = Vec<Socket>> + use<> {
    let stages = vec![Stage::Listening, Stage::Bound, Stage::Opening, Stage::Open, Stage::Closing];
    let opened = option::of(select(vec![Direction::Out, Direction::In]));
    let one = (world.flows(), select(stages), opened, 0u32..3, 0u64..3, 0usize..2).prop_map(
        |(flow, stage, opened, uid, cgroup, namespace)| {
            let waits = matches!(stage, Stage::Listening | Stage::Bound);
            Socket {
                protocol: flow.protocol,
                mptcp: false,
                stage: if flow.protocol == Protocol::TCP || stage != Stage::Listening {
                    stage
                } else {
                    Stage::Open
                },
                local: flow.local,
                remote: if waits { Endpoint::default() } else { flow.remote },
                cookie: 0,
                uid,
                inode: 0,
                cgroup,
                opened: if waits { None } else { opened },
                waiting: 0,
                token: 0,
                namespace,
            }
        },
    );
    vec(one, 0..60)
}

fn with_revoke(mut rules: RuleSet, revoke: &[bool]) -> RuleSet {
    for (rule, &revoke) in rules.rules.iter_mut().zip(revoke.iter().cycle()) {
        rule.flags = if revoke { RULE_REVOKE } else { 0 };
    }
    rules
}

/// Every address at which any set of the rules begins to mean something else.
fn edges(rules: &RuleSet) -> Vec<Address> {
    let mut edges = vec![Address::from_bits(0), Address::from_bits(u128::MAX)];
    for set in &rules.sets {
        for (first, last) in set.ranges() {
            edges.push(first);
            edges.push(Address::from_bits(last.bits().wrapping_add(1)));
        }
    }
    edges
}

/// Rules at a moment.
type Read<'a> = (&'a RuleSet, u64);

/// The rule that denies, by reading the rules one after the other.
fn denies((rules, now_ns): Read<'_>, flow: &Flow, claim: bool) -> Option<RuleNumber> {
    let enforced = |flow: &Flow| evaluate(rules, flow, now_ns).enforced;
    let denied = |flow: &Flow| enforced(flow).verdict == Verdict::Deny;
    let all = if claim {
        edges(rules).into_iter().all(|address| {
            denied(&Flow { remote: Endpoint { address, port: flow.remote.port }, ..*flow })
        })
    } else {
        denied(flow)
    };
    all.then(|| enforced(flow).rule)
}

/// The rule by which a flow turned from allowed to denied.
fn turned(old: Read<'_>, new: Read<'_>, flow: &Flow, claim: bool) -> Option<RuleNumber> {
    if denies(old, flow, claim).is_some() { None } else { denies(new, flow, claim) }
}

fn expected(
    old: Read<'_>,
    new: Read<'_>,
    connections: &Connections,
    scope: &Scope,
    existing: Existing,
) -> BTreeSet<(usize, RuleNumber)> {
    let mut expected = BTreeSet::new();
    for (index, connection) in connections.list.iter().enumerate() {
        let socket = connection.socket;
        let ends = match socket.protocol {
            Protocol::TCP => socket.stage != Stage::Bound,
            Protocol::UDP => socket.stage == Stage::Open,
            _ => false,
        };
        let mut flows = match connection.case() {
            Some(Case::Made(flow)) => vec![(flow, false)],
            Some(Case::Claim(flow)) => vec![(flow, true)],
            Some(Case::Either(one, other)) => vec![(one, false), (other, false)],
            None => Vec::new(),
        };
        if !ends
            || !flows.iter().all(|(flow, _)| scope.judges(connections, connection, flow.direction))
        {
            continue;
        }
        let rules: Vec<_> =
            flows.iter().map(|(flow, claim)| turned(old, new, flow, *claim)).collect();
        flows.clear();
        let Some(Some(rule)) = rules.first().copied() else { continue };
        if rules.iter().any(Option::is_none) {
            continue;
        }
        let flags = new.0.rules[usize::from(rule.0)].flags;
        let wanted = match existing {
            Existing::Keep => false,
            Existing::Revoke => true,
            Existing::ByRule => flags & RULE_REVOKE != 0,
        };
        if wanted {
            expected.insert((index, rule));
        }
    }
    expected
}

proptest! {
    #![proptest_config(Config { cases: 512, failure_persistence: None, ..Config::default() })]

    #[test]
    fn selection_is_what_brute_force_selects(
        old in World::wide().rule_sets(8),
        new in World::wide().rule_sets(8),
        then in World::wide().moments(),
        now in World::wide().moments(),
        revoke in vec(any::<bool>(), 9),
        sockets in sockets(&World::wide()),
        existing in select(vec![Existing::ByRule, Existing::Keep, Existing::Revoke]),
        cgroup in option::of(0u64..3),
        namespaces in option::of(vec(10u64..12, 0..2)),
    ) {
        let (old, new) = (with_revoke(old, &revoke), with_revoke(new, &revoke));
        let facts = Facts {
            namespaces: (10..12).map(|inode| Namespace { inode, cookie: inode, name: inode.to_string() }).collect(),
            cgroups: (0..3).map(|id| Cgroup { id, path: "/".into(), line: (0..=id).collect() }).collect(),
            sockets,
            ..Facts::default()
        };
        let connections = facts.connections();
        let scope = Scope { cgroup, namespaces };
        let images = (compile(&old).unwrap(), compile(&new).unwrap());
        let swap = Swap {
            old: Some(images.0.at(then)),
            new: images.1.at(now),
            since: None,
            existing,
            scope: &scope,
            protected: &[],
        };
        let revoked = swap.revoked(&connections);
        let selected: BTreeSet<_> =
            revoked.iter().map(|revoked| (revoked.connection, revoked.rule)).collect();
        prop_assert_eq!(&selected, &expected((&old, then), (&new, now), &connections, &scope, existing));
        // Once they are ended and the image is in force, there is nothing left to end.
        let again = Swap { old: swap.old, ..swap };
        let mut left = connections.clone();
        let gone: BTreeSet<usize> = revoked.iter().map(|revoked| revoked.connection).collect();
        let mut index = 0;
        left.list.retain(|_| { index += 1; !gone.contains(&(index - 1)) });
        prop_assert_eq!(again.revoked(&left), []);
        // What came into force since and denies the same changes nothing; what it allows stays.
        let still = Swap { since: Some(swap.new), ..swap };
        prop_assert_eq!(still.revoked(&connections), revoked);
        let taken_back = Swap { since: swap.old, ..swap };
        prop_assert_eq!(taken_back.revoked(&connections), []);
        // A protected connection stays, whatever its rule says.
        let protected: Vec<_> = connections
            .list
            .iter()
            .map(|one| (one.socket.remote, one.socket.local))
            .collect();
        prop_assert_eq!(Swap { protected: &protected, ..swap }.revoked(&connections), []);
    }
}
