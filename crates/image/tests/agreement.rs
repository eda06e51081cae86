//! The compiled tables say what the rules say: `decide` on the image against `evaluate` on the rules.

use image::{Image, Mode, RuleSet, compile, evaluate};
use proptest::{collection::vec, prelude::*, test_runner::Config};
use testbed::random::World;
use verdict::{Direction, Flow, decide};

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
        (rules, flows) in (World::wide().rule_sets(12), vec(World::wide().flows(), FLOWS))
    ) {
        let image = image_of(&rules);
        prop_assert_eq!(Image::from_lines(image.lines().to_vec()), Ok(image.clone()));
        for flow in &flows {
            prop_assert_eq!(decide(flow, image.lines()), evaluate(&rules, flow), "{:?}", flow);
        }
    }
}

proptest! {
    #![proptest_config(Config { cases: 128, failure_persistence: None, ..Config::default() })]

    #[test]
    fn closed_is_denied_to_every_peer(
        (rules, flows) in (World::wide().rule_sets(12), vec(World::wide().flows(), 200))
    ) {
        let image = image_of(&rules);
        for flow in &flows {
            let peers = flows.iter().map(|other| Flow { remote: verdict::Endpoint { port: flow.remote.port, ..other.remote }, ..*flow });
            if verdict::closed(flow, image.lines()) {
                for peer in peers {
                    prop_assert!(decide(&peer, image.lines()).denies(), "{:?}", peer);
                }
            }
        }
    }

    #[test]
    fn more_denying_rules_never_allow_more(
        (rules, flows) in (World::wide().rule_sets(8), vec(World::wide().flows(), 200))
    ) {
        let mut stricter = rules.clone();
        stricter.rules.retain(|rule| rule.verdict == verdict::Verdict::Deny || rule.tier > 0);
        let (before, after) = (image_of(&rules), image_of(&stricter));
        for flow in flows.iter().filter(|flow| flow.direction == Direction::Out) {
            // Without the allowing rules of the first tier, a flow that tier denied stays denied.
            let first = evaluate(&rules, flow);
            let decided_first = rules.rules.get(usize::from(first.enforced.rule.0)).is_some_and(|rule| rule.tier == 0);
            if decided_first && first.denies() {
                prop_assert!(decide(flow, after.lines()).denies());
            }
            prop_assert_eq!(decide(flow, before.lines()), first);
        }
    }

    #[test]
    fn equal_rules_give_equal_bytes(rules in World::wide().rule_sets(12)) {
        let (once, again) = (image_of(&rules), image_of(&rules.clone()));
        prop_assert_eq!(once.bytes(), again.bytes());
    }

    #[test]
    fn audit_rules_never_change_what_is_enforced(
        (rules, flows) in (World::wide().rule_sets(12), vec(World::wide().flows(), 100))
    ) {
        let mut enforced_only = rules.clone();
        enforced_only.rules.retain(|rule| rule.mode == Mode::Enforce);
        let (with, without) = (image_of(&rules), image_of(&enforced_only));
        for flow in &flows {
            let (with, without) = (decide(flow, with.lines()), decide(flow, without.lines()));
            prop_assert_eq!(with.enforced.verdict, without.enforced.verdict);
            prop_assert_eq!(without.enforced, without.would);
        }
    }
}
