//! An image that is made from the one before means what one compiled anew means, edit after edit; and where it cannot be
//! made so, that has a name.

use std::collections::BTreeSet;

use image::{AddressSet, Anew, Changed, Chunk, Image, Rule, RuleSet, check, compile, evaluate};
use proptest::{collection::vec, prelude::*, sample::Index, test_runner::Config};
use testbed::random::World;
use verdict::{Address, Direction, Endpoint, Flow, Verdict, decide};

/// One change of the rules.
#[derive(Clone, Debug)]
enum Edit {
    /// A rule about a prefix comes first.
    Add { near: Index, beside: u128, bits: u8, verdict: Verdict, direction: Direction },
    /// A rule about addresses goes.
    Remove(Index),
    /// A rule gets another rule's addresses.
    Turn(Index, Index),
}

fn edits() -> impl Strategy<Value = Edit> {
    let bits = prop_oneof![4 => 112u8..=128, 2 => 96u8..=128, 1 => 0u8..=128];
    let beside = prop_oneof![2 => Just(0u128), 2 => 0u128..1 << 16, 1 => any::<u128>()];
    let verdict = prop_oneof![Just(Verdict::Deny), Just(Verdict::Allow)];
    let direction = prop_oneof![Just(Direction::Out), Just(Direction::In)];
    let add = (any::<Index>(), beside, bits, verdict, direction).prop_map(
        |(near, beside, bits, verdict, direction)| Edit::Add {
            near,
            beside,
            bits,
            verdict,
            direction,
        },
    );
    prop_oneof![
        4 => add,
        2 => any::<Index>().prop_map(Edit::Remove),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Edit::Turn(one, other)),
    ]
}

/// Does an edit, and gives the set that it is about another index than before.
fn edit(rules: &mut RuleSet, edit: &Edit, world: &World) {
    match edit {
        Edit::Add { near, beside, bits, verdict, direction } => {
            let address = near.get(&world.addresses).bits() ^ beside;
            let set = AddressSet::from_prefixes([(Address::from_bits(address), *bits)]);
            rules.sets.insert(0, set);
            for rule in &mut rules.rules {
                for set in [&mut rule.remote, &mut rule.local].into_iter().flatten() {
                    *set += 1;
                }
            }
            let rule = Rule { remote: Some(0), flags: 0, ..Rule::default(*direction, *verdict, 1) };
            rules.rules.insert(0, rule);
        }
        Edit::Remove(index) => {
            let last = rules.rules.len() - 2;
            if last > 0 {
                rules.rules.remove(index.index(last));
            }
        }
        Edit::Turn(one, other) => {
            let last = rules.rules.len() - 2;
            if last > 0 {
                rules.rules[one.index(last)].remote = rules.rules[other.index(last)].remote;
            }
        }
    }
}

/// Addresses at which a set begins, ends, and those beside them.
fn edges(set: &AddressSet) -> impl Iterator<Item = Address> + '_ {
    let ends = set.ranges().flat_map(|(first, last)| {
        let (first, last) = (first.bits(), last.bits());
        [first.checked_sub(1), Some(first), Some(last), last.checked_add(1)]
    });
    ends.flatten().map(Address::from_bits)
}

fn lists(seed: u128, world: &World) -> [AddressSet; 2] {
    let mut number = seed | 1;
    let mut random = move || {
        // Multiplied by a constant of PCG64 (O'Neill 2014): numbers that are spread, the same for each seed.
        number = number.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
        number >> 32
    };
    let v4 = (0..120u32).map(|at| {
        let near = world.addresses[at as usize % 8].bits() ^ random() & 0xf_ffff;
        (Address::from_bits(near), 96 + 20 + u8::try_from(random() % 13).expect("few"))
    });
    let v4 = AddressSet::from_prefixes(v4.collect::<Vec<_>>());
    let v6 = (0..120usize).map(|at| {
        let near = world.addresses[8 + at % 8].bits() ^ random() & 0xffff_ffff;
        (Address::from_bits(near), 100 + u8::try_from(random() % 29).expect("few"))
    });
    [v4, AddressSet::from_prefixes(v6.collect::<Vec<_>>())]
}

/// The rules, with lists in front that are too long to be compared.
fn with_lists(mut rules: RuleSet, lists: [AddressSet; 2]) -> RuleSet {
    for (list, direction) in lists.into_iter().zip([Direction::Out, Direction::In]) {
        let remote = u32::try_from(rules.sets.len()).ok();
        rules.sets.push(list);
        let rule = Rule { remote, flags: 0, ..Rule::default(direction, Verdict::Deny, 2) };
        rules.rules.insert(0, rule);
    }
    rules
}

fn agrees(image: &Image, rules: &RuleSet, flows: &[Flow], now: u64) -> Result<(), TestCaseError> {
    let lines = image.to_lines();
    prop_assert_eq!(check(&lines), Ok(()));
    prop_assert_eq!(Image::from_lines(&lines), Ok(image.clone()));
    let near: BTreeSet<Address> = rules.sets.iter().flat_map(edges).collect();
    let asked = near.into_iter().zip(flows.iter().cycle());
    let moved =
        asked.map(|(address, flow)| Flow { remote: Endpoint { address, ..flow.remote }, ..*flow });
    for flow in moved.chain(flows.iter().copied()) {
        prop_assert_eq!(
            decide(&flow, &image.at(now)),
            evaluate(rules, &flow, now),
            "{:?} at {}",
            flow,
            now
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: 192, failure_persistence: None, ..Config::default() })]

    #[test]
    fn an_image_made_from_another_means_what_the_rules_say(
        (rules, edits, flows, now, seed) in (
            World::wide().rule_sets(5), vec(edits(), 1..8), vec(World::wide().flows(), 50),
            World::wide().moments(), any::<u128>(),
        )
    ) {
        let world = World::wide();
        let mut rules = with_lists(rules, lists(seed, &world));
        let mut image = compile(&rules).expect("few rules fit");
        for each in &edits {
            edit(&mut rules, each, &world);
            let changed = image.changed(&rules).expect("few rules fit");
            agrees(&changed.image, &rules, &flows, now)?;
            image = changed.image;
        }
    }
}

/// A list of many prefixes in either family, nothing else.
fn listed(prefixes: u32) -> RuleSet {
    let spread = |at: u32| at.wrapping_mul(0x9e37_79b9);
    let v4 = (0..prefixes).map(|at| (Address::v4(spread(at)), 96 + 24));
    let v6 = (0..prefixes).map(|at| (Address::v6([0x2000_0000 | spread(at) >> 4, at, 0, 0]), 64));
    let defaults = [Direction::Out, Direction::In].map(|way| Rule::default(way, Verdict::Allow, 1));
    let denied =
        Rule { remote: Some(0), flags: 0, ..Rule::default(Direction::Out, Verdict::Deny, 0) };
    RuleSet {
        sets: vec![AddressSet::from_prefixes(v4.chain(v6))],
        rules: [denied].into_iter().chain(defaults).collect(),
        ..RuleSet::default()
    }
}

fn denying(rules: &RuleSet, set: AddressSet) -> RuleSet {
    let mut rules = rules.clone();
    let remote = u32::try_from(rules.sets.len()).ok();
    rules.sets.push(set);
    let rule = Rule { remote, flags: 0, ..Rule::default(Direction::Out, Verdict::Deny, 0) };
    rules.rules.insert(0, rule);
    rules
}

fn prefix(first: u32, bits: u8) -> AddressSet {
    AddressSet::from_prefixes([(Address::v4(first), 96 + bits)])
}

fn digests(image: &Image) -> BTreeSet<[u8; 32]> {
    image.chunks().map(Chunk::digest).collect()
}

#[test]
fn what_does_not_change_is_shared() {
    let rules = listed(20_000);
    let before = compile(&rules).unwrap();
    let all = digests(&before).len();
    assert!(all > 30, "{all} chunks");
    let added = denying(&rules, prefix(0xcb00_7100, 24));
    let Changed { image, anew } = before.changed(&added).unwrap();
    assert_eq!(anew, None);
    let new = digests(&image).difference(&digests(&before)).count();
    assert!(new <= 4, "{new} of {all}: the header, the root, and the end");
    let Changed { image: after, anew } = image.changed(&rules).unwrap();
    assert_eq!(anew, None);
    let to = |address| Flow {
        direction: Direction::Out,
        protocol: verdict::Protocol::TCP,
        local: Endpoint::default(),
        remote: Endpoint { address: Address::v4(address), port: 80 },
        subject: verdict::Subject::UNKNOWN,
    };
    for (image, rules, denied) in
        [(&before, &rules, false), (&image, &added, true), (&after, &rules, false)]
    {
        for address in [0xcb00_7100, 0xcb00_71ff] {
            assert_eq!(decide(&to(address), &image.at(0)).denies(), denied);
        }
        for address in [0xcb00_70ff, 0xcb00_7200] {
            assert_eq!(decide(&to(address), &image.at(0)), evaluate(rules, &to(address), 0));
        }
    }
}

#[test]
fn coming_and_going_does_not_add_up() {
    let rules = listed(2_000);
    let mut image = compile(&rules).unwrap();
    let least = image.line_count();
    let (mut most, mut anew) = (0, 0);
    for round in 0..600u32 {
        let each =
            (0..8u32).map(|at| (Address::v4((8 * round + at).wrapping_mul(0x0123_4567)), 128));
        let added = denying(&rules, AddressSet::from_prefixes(each));
        for rules in [&added, &rules] {
            let changed = image.changed(rules).unwrap();
            assert!(matches!(changed.anew, None | Some(Anew::Garbage)), "{:?}", changed.anew);
            anew += u32::from(changed.anew.is_some());
            image = changed.image;
            most = most.max(image.line_count());
        }
    }
    assert_eq!(check(&image.to_lines()), Ok(()));
    assert!((1..60).contains(&anew), "{anew} of 1200 changes were compiled anew");
    assert!(most < 3 * least, "{most} lines of {least}");
}

#[test]
fn what_cannot_be_made_from_another_image_has_a_name() {
    let rules = listed(2_000);
    let image = compile(&rules).unwrap();
    let anew = |image: &Image, rules: &RuleSet| image.changed(rules).unwrap().anew;
    let foreign = Image::from_lines(&image.to_lines()).unwrap();
    assert_eq!(anew(&foreign, &rules), Some(Anew::Foreign));
    let many = AddressSet::from_prefixes((0..2_000).map(|at| (Address::v4(at << 8), 96 + 26)));
    assert_eq!(anew(&image, &denying(&rules, many)), Some(Anew::Ranges));
    assert_eq!(anew(&image, &denying(&rules, prefix(0, 2))), Some(Anew::Blocks));
    let least = RuleSet { rules: rules.rules[1..].to_vec(), ..RuleSet::default() };
    let none = compile(&least).unwrap();
    assert_eq!(anew(&none, &denying(&least, prefix(0x0a00_0000, 8))), Some(Anew::Root));
    let dense =
        AddressSet::from_prefixes((0..60_000).map(|at| (Address::v4(0x0a00_0000 | at << 8), 128)));
    let dense = denying(&rules, dense);
    let image = compile(&dense).unwrap();
    assert_eq!(anew(&image, &denying(&dense, prefix(0x0a00_0000, 8))), Some(Anew::Nodes));
    assert_eq!(anew(&image, &dense), None);
}
