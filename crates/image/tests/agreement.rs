//! The compiled tables say what the rules say: `decide` on the image against `evaluate` on the rules.

use image::{Image, Mode, RuleSet, compile, evaluate};
use proptest::{collection::vec, prelude::*, test_runner::Config};
use testbed::random::World;
use verdict::{Address, Direction, Flow, decide};

/// Together with [`FLOWS`] more than a million pairs.
const RULE_SETS: u32 = 1_024;
const FLOWS: usize = 1_000;

fn image_of(rules: &RuleSet) -> Image {
    compile(rules).expect("random rules are few enough to fit")
}

proptest! {
    #![proptest_config(Config { cases: RULE_SETS, failure_persistence: None, ..Config::default() })]

    #[test]
    fn compiled_agrees_with_the_linear_evaluator(
        (rules, asked) in (World::wide().rule_sets(12), vec((World::wide().flows(), World::wide().moments()), FLOWS))
    ) {
        let image = image_of(&rules);
        prop_assert_eq!(Image::from_lines(&image.to_lines()), Ok(image.clone()));
        for (flow, now) in &asked {
            prop_assert_eq!(
                decide(flow, &image.at(*now)), evaluate(&rules, flow, *now), "{:?} at {}", flow, now
            );
        }
    }
}

proptest! {
    #![proptest_config(Config { cases: 128, failure_persistence: None, ..Config::default() })]

    #[test]
    fn closed_is_denied_to_every_peer(
        (rules, flows, now) in (World::wide().rule_sets(12), vec(World::wide().flows(), 200), World::wide().moments())
    ) {
        let image = image_of(&rules);
        let image = image.at(now);
        for flow in &flows {
            let peers = flows.iter().map(|other| Flow { remote: verdict::Endpoint { port: flow.remote.port, ..other.remote }, ..*flow });
            if verdict::closed(flow, &image) {
                for peer in peers {
                    prop_assert!(decide(&peer, &image).denies(), "{:?}", peer);
                }
            }
        }
    }

    /// Of every kind of remote end that rules tell apart one is asked about; an end in no set is always thought of.
    #[test]
    fn a_port_is_closed_exactly_while_nobody_is_allowed(
        (rules, flows, now) in (World::wide().rule_sets(6), vec(World::wide().flows(), 20), World::wide().moments())
    ) {
        let image = image_of(&rules);
        let image = image.at(now);
        let peers: Vec<Address> = rules
            .sets
            .iter()
            .flat_map(|set| set.ranges())
            .flat_map(|(first, last)| [Some(first.bits()), last.bits().checked_add(1)])
            .flatten()
            .chain([0])
            .map(Address::from_bits)
            .collect();
        let strange = |peer: &Address| rules.sets.iter().all(|set| !set.contains(*peer));
        let flows = if peers.iter().any(strange) { &*flows } else { &[] };
        for flow in flows.iter().filter(|flow| flow.direction == Direction::In) {
            let to = |address| Flow { remote: verdict::Endpoint { address, ..flow.remote }, ..*flow };
            let nobody = peers.iter().all(|peer| evaluate(&rules, &to(*peer), now).denies());
            prop_assert_eq!(verdict::closed(flow, &image), nobody, "{:?} at {}", flow, now);
        }
    }

    #[test]
    fn more_denying_rules_never_allow_more(
        (rules, flows, now) in (World::wide().rule_sets(8), vec(World::wide().flows(), 200), World::wide().moments())
    ) {
        let mut stricter = rules.clone();
        stricter.rules.retain(|rule| rule.verdict == verdict::Verdict::Deny || rule.tier > 0);
        let (before, after) = (image_of(&rules), image_of(&stricter));
        for flow in flows.iter().filter(|flow| flow.direction == Direction::Out) {
            // Without the allowing rules of the first tier, a flow that tier denied stays denied.
            let first = evaluate(&rules, flow, now);
            let decided_first = rules.rules.get(usize::from(first.enforced.rule.0)).is_some_and(|rule| rule.tier == 0);
            if decided_first && first.denies() {
                prop_assert!(decide(flow, &after.at(now)).denies());
            }
            prop_assert_eq!(decide(flow, &before.at(now)), first);
        }
    }

    #[test]
    fn equal_rules_give_equal_bytes(rules in World::wide().rule_sets(12)) {
        let (once, again) = (image_of(&rules), image_of(&rules.clone()));
        prop_assert_eq!(once.to_lines(), again.to_lines());
    }

    #[test]
    fn audit_rules_never_change_what_is_enforced(
        (rules, flows, now) in (World::wide().rule_sets(12), vec(World::wide().flows(), 100), World::wide().moments())
    ) {
        let mut enforced_only = rules.clone();
        enforced_only.rules.retain(|rule| rule.mode == Mode::Enforce);
        let (with, without) = (image_of(&rules), image_of(&enforced_only));
        for flow in &flows {
            let (with, without) = (decide(flow, &with.at(now)), decide(flow, &without.at(now)));
            prop_assert_eq!(with.enforced.verdict, without.enforced.verdict);
            prop_assert_eq!(without.enforced, without.would);
        }
    }
}
