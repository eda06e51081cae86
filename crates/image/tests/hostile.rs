//! Rule sets that are made to blow something up get a named refusal, in bounded time and memory, or an image that is right.
//!
//! Each runs in a thread with a deadline. Memory is bounded by what the budgets count; the test of nested sets would need
//! gigabytes without them.

use std::{
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use image::{
    AddressSet, Budget, CompileError, Image, Rule, RuleSet, Service, SubjectTest, compile, evaluate,
};
use verdict::{
    Address, Direction, Endpoint, Flow, Protocol, Subject, Verdict, decide,
    limits::{CELLS_MAX, RULES_MAX},
};

/// Far more than any of them takes, on a machine that is busy with other things, too.
const DEADLINE: Duration = Duration::from_secs(60);
/// With the two defaults as many rules as there may be.
const MANY: u32 = RULES_MAX - 2;

fn with_defaults(sets: Vec<AddressSet>, mut rules: Vec<Rule>) -> RuleSet {
    rules.extend([Direction::Out, Direction::In].map(|way| Rule::default(way, Verdict::Allow, 1)));
    RuleSet { sets, rules, ..RuleSet::default() }
}

fn rule(number: u32) -> Rule {
    Rule { id: number.to_string(), flags: 0, ..Rule::default(Direction::Out, Verdict::Deny, 0) }
}

fn about(number: u32) -> Rule {
    Rule { remote: Some(number), ..rule(number) }
}

fn range(first: u32, last: u32) -> AddressSet {
    AddressSet::from_ranges([(Address::v4(first), Address::v4(last))])
}

fn compiled(rules: RuleSet) -> (RuleSet, Result<Image, CompileError>) {
    let (sender, receiver) = channel();
    let began = Instant::now();
    thread::spawn(move || {
        let result = compile(&rules);
        // Nobody listens any more when the deadline is over.
        let _told = sender.send((rules, result));
    });
    let answered = receiver.recv_timeout(DEADLINE).expect("an answer in time");
    eprintln!("{:?} after {:?}", answered.1.as_ref().map(Image::line_count), began.elapsed());
    answered
}

fn refused(rules: RuleSet, what: &str) -> Budget {
    match compiled(rules).1 {
        Err(CompileError::Budget(budget)) if budget.what == what => {
            assert!(budget.needed > budget.limit, "{budget}");
            budget
        }
        Err(other) => panic!("not refused for {what}: {other:?}"),
        Ok(image) => panic!("not refused for {what}, but {} lines", image.line_count()),
    }
}

/// The image judges addresses and ports all over as the rules do.
fn right(rules: RuleSet) {
    let (rules, image) = compiled(rules);
    let image = image.expect("it fits");
    for number in 0..64u32 {
        let (address, port) = (number.wrapping_mul(0x9e37_79b9), number.wrapping_mul(1_021));
        let port = u16::try_from(port & 0xffff).expect("16 bits");
        let flow = Flow {
            direction: Direction::Out,
            protocol: if number % 2 == 0 { Protocol::TCP } else { Protocol::UDP },
            local: Endpoint::default(),
            remote: Endpoint { address: Address::v4(address), port },
            subject: Subject { uid: number, gid: number, ..Subject::UNKNOWN },
        };
        assert_eq!(decide(&flow, &image.at(number.into())), evaluate(&rules, &flow, number.into()));
    }
}

/// Each set lies in the one before: 65,000 classes, each of 16,000 sets in the mean.
#[test]
fn nested_sets() {
    let sets = (0..MANY).map(|number| range(number, u32::MAX - number)).collect();
    let rules = (0..MANY).map(about).collect();
    let budget = refused(with_defaults(sets, rules), "what all classes of a kind are in");
    assert!(budget.rule.is_some(), "{budget}");
}

/// Sixteen sets that cut each other in every way, one for each bit of an address: every combination is a class.
#[test]
fn sets_that_cut_each_other_in_every_way() {
    let bit = |bit: u32| {
        let block = 1u32 << (31 - bit);
        let blocks = (0..1u32 << bit).map(move |number| (2 * number + 1) * block);
        AddressSet::from_ranges(
            blocks.map(|first| (Address::v4(first), Address::v4(first + (block - 1)))),
        )
    };
    let sets: Vec<AddressSet> = (0..16).map(bit).collect();
    let fewer = with_defaults(sets[..15].to_vec(), (0..15).map(about).collect());
    right(fewer);
    let budget = refused(with_defaults(sets, (0..16).map(about).collect()), "remote classes");
    assert!(budget.rule.is_some(), "{budget}");
}

/// Many sets that all turn at the same places: nothing about a step can be remembered.
#[test]
fn sets_that_turn_together() {
    let every = |shift: u32| {
        let firsts = (0..40_000u32).map(move |number| number * 1_000 + shift % 2);
        AddressSet::from_ranges(firsts.map(|first| (Address::v4(first), Address::v4(first + 500))))
    };
    let odd_and_even = [every(0), every(1)];
    let sets = |count: usize| (0..count).map(|number| odd_and_even[number % 2].clone()).collect();
    right(with_defaults(sets(50), (0..50).map(about).collect()));
    refused(with_defaults(sets(110), (0..110).map(about).collect()), "ranges of addresses");
}

#[test]
fn ports_times_addresses() {
    let sets: Vec<AddressSet> = (0..5_000u32).map(|number| range(number, number)).collect();
    let rules = |count: u32| -> Vec<Rule> {
        let port = |number: u32| u16::try_from(number * 3).expect("a port");
        let services = |number: u32| vec![Service::tcp(port(number)..=port(number))];
        (0..count).map(|number| Rule { services: services(number), ..about(number) }).collect()
    };
    let budget = refused(with_defaults(sets.clone(), rules(4_000)), "verdict cells");
    assert_eq!(budget.limit, u64::from(CELLS_MAX));
    right(with_defaults(sets.clone(), rules(2_000)));
    refused(with_defaults(sets, rules(5_000)), "port classes");
}

/// More processes than there can be numbers for: the product does not even fit into 64 bits.
#[test]
fn processes_times_processes() {
    let one = |number: u64| {
        let small = u32::try_from(number).expect("few");
        SubjectTest {
            users: vec![small],
            groups: vec![small],
            exes: vec![number],
            units: vec![number],
            containers: vec![number],
            namespaces: vec![number],
        }
    };
    for count in [1_023, 3_000] {
        let rules = (1..=count)
            .map(|number| Rule { subject: one(number), ..rule(u32::try_from(number).unwrap()) });
        let budget = refused(
            with_defaults(Vec::new(), rules.collect()),
            "combinations of users, groups, executables, units, containers, network namespaces and local addresses",
        );
        assert!(budget.needed > u64::from(u32::MAX), "{budget}");
    }
}

/// Every rule but one ends before the first one does: each place would look at all of them.
#[test]
fn rules_that_end() {
    let sets: Vec<AddressSet> = (0..4_000u32).map(|number| range(2 * number, 2 * number)).collect();
    let ending = |number: u32| Rule {
        until_ns: Some(u64::from(MANY - number)),
        services: vec![Service::tcp(u16::try_from(number % 200).unwrap()..=u16::MAX)],
        ..rule(number)
    };
    let rules = (4_000..MANY).map(ending).chain((0..4_000).map(about));
    refused(with_defaults(sets, rules.collect()), "rules after others that end");
    let ending = |number: u32| Rule { until_ns: Some(1_000 - u64::from(number)), ..rule(number) };
    right(with_defaults(Vec::new(), (0..900).map(ending).collect()));
}

/// Addresses of which no two share a node below the root.
#[test]
fn a_trie_of_lone_addresses() {
    let spread = |number: u64| {
        let mixed = u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Address::from_bits((mixed << 64 | mixed.rotate_left(17)) | 1 << 125)
    };
    let lone = |count: u64| {
        let prefixes = (0..count).map(|number| (spread(number), 128));
        with_defaults(vec![AddressSet::from_prefixes(prefixes)], vec![about(0)])
    };
    right(lone(100_000));
    refused(lone(3_500_000), "lines of the image");
}
