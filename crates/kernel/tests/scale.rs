//! One host at full scale: a million IPv4 and a million IPv6 prefixes, 5,000 rules and 4,096 port classes, in the kernel.
//!
//! Processes connect to random ends, listed and not, and what connect() says and the rules count is held against the rules,
//! read one after the other. Nobody is there: an allowed connection finds no way.

#[path = "shared/bed.rs"]
mod bed;

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream},
    ops::Range,
};

use bed::Bed;
use image::{AddressSet, Rule, RuleSet, Service, compile, evaluate};
use kernel::Firewall;
use testbed::Dice;
use verdict::{Address, Direction, Endpoint, Flow, Protocol, Subject, Verdict, layout, limits};

const PREFIXES: usize = 1_000_000;
const RULES: usize = 5_000;
const PROBES: usize = 2_000;
/// Prefixes of each list in a small set.
const PART: usize = 20;

fn below(dice: &mut Dice, count: usize) -> usize {
    dice.below(u32::try_from(count).expect("a count")) as usize
}

/// A unicast address that no interface has.
fn v4(dice: &mut Dice) -> Address {
    Address::v4(0x0100_0000 + dice.below(0x6000_0000))
}

/// Hosts and networks of 20 to 31 bits, as in public lists.
fn v4_prefixes(dice: &mut Dice) -> Vec<(Address, u8)> {
    let prefix = |_| (v4(dice), if dice.below(10) < 6 { 128 } else { dice.within(116..=127) });
    (0..PREFIXES).map(prefix).collect()
}

fn v6_prefixes(dice: &mut Dice) -> Vec<(Address, u8)> {
    (0..PREFIXES).map(|_| (dice.v6(), dice.one(&[40, 48, 56, 64, 128]))).collect()
}

/// Rules of two tiers over the lists, parts of them and ranges of ports, allowing and denying.
fn rules(lists: [&[(Address, u8)]; 2], dice: &mut Dice) -> RuleSet {
    let mut sets: Vec<AddressSet> =
        lists.iter().map(|list| AddressSet::from_prefixes(list.iter().copied())).collect();
    // Tens of prefixes of either list each: the classes that they make stay within the matrix.
    for number in 0..400 {
        let own = |list: &&[(Address, u8)]| list[part(number)].to_vec();
        sets.push(AddressSet::from_prefixes(lists.iter().flat_map(own)));
    }
    let mut rules: Vec<Rule> = (0..RULES - 2)
        .map(|number| {
            // Ports 10, 20, ... begin something new: as many classes as there may be, with what is in between.
            let first = u16::try_from(10 * (number % 4_092)).expect("a port");
            let verdict = if dice.below(3) == 0 { Verdict::Allow } else { Verdict::Deny };
            Rule {
                id: format!("rule-{number}"),
                remote: u32::try_from(below(dice, sets.len())).ok(),
                services: vec![Service::tcp(first..=first + 9)],
                flags: 0,
                ..Rule::default(Direction::Out, verdict, 0)
            }
        })
        .collect();
    for (number, rule) in rules.iter_mut().enumerate() {
        rule.tier = u8::from(number % 2 == 0);
    }
    rules.push(Rule::default(Direction::Out, Verdict::Allow, 2));
    rules.push(Rule::default(Direction::In, Verdict::Allow, 2));
    RuleSet { sets, rules, version: 1, ..RuleSet::default() }
}

/// What small set `number` has of each list.
fn part(number: usize) -> Range<usize> {
    let first = number * 50;
    first..first + PART
}

fn flow(to: Address, port: u16) -> Flow {
    Flow {
        direction: Direction::Out,
        protocol: Protocol::TCP,
        local: Endpoint::default(),
        remote: Endpoint { address: to, port },
        subject: Subject::UNKNOWN,
    }
}

fn standard(to: Address) -> IpAddr {
    match to.as_v4() {
        Some(v4) => IpAddr::V4(v4.into()),
        None => IpAddr::V6(to.bits().into()),
    }
}

#[test]
fn millions_of_prefixes_and_thousands_of_rules_judge_as_the_rules_read() {
    let mut dice = Dice(7);
    let lists = [v4_prefixes(&mut dice), v6_prefixes(&mut dice)];
    let rules = rules(lists.each_ref().map(Vec::as_slice), &mut dice);
    assert_eq!(rules.rules.len(), RULES);
    let image = compile(&rules).expect("this is what there is room for");
    let ports = image.line(layout::DIRECTORY).expect("a directory").word(layout::PORT_CLASSES);
    assert_eq!(ports, limits::PORT_CLASSES_MAX, "port classes");
    let bed = Bed::new();
    let firewall = Firewall::load(&image, bed.attachments()).expect("T0 works here");
    let (mut by_verdict, mut by_rule) = ([0; 2], vec![0; RULES]);
    bed.inside(|| {
        for number in 0..PROBES {
            let (to, port) = match number % 4 {
                0 => (v4(&mut dice), 1 + below(&mut dice, 42_000)),
                1 => (dice.v6(), 1 + below(&mut dice, 42_000)),
                // What some rule speaks of.
                even_or_odd => {
                    let list = &lists[even_or_odd - 2];
                    let rule = &rules.rules[below(&mut dice, RULES - 2)];
                    let place = match rule.remote {
                        None | Some(0 | 1) => below(&mut dice, PREFIXES),
                        Some(small) => part(small as usize - 2).start + below(&mut dice, PART),
                    };
                    (
                        list[place].0,
                        usize::from(rule.services[0].ports.first) + below(&mut dice, 10),
                    )
                }
            };
            let port = u16::try_from(port.max(1)).expect("a port");
            let expected = evaluate(&rules, &flow(to, port), 0);
            let told = TcpStream::connect(SocketAddr::new(standard(to), port));
            let error = told.expect_err("nobody is there");
            let denied = error.kind() == ErrorKind::PermissionDenied;
            assert!(denied || error.kind() == ErrorKind::NetworkUnreachable, "{to:?}: {error}");
            assert_eq!(denied, expected.denies(), "{to:?} port {port}: {error}");
            by_verdict[usize::from(denied)] += 1;
            by_rule[usize::from(expected.enforced.rule.0)] += 1;
        }
    });
    let hits: Vec<u64> = firewall.hits().iter().map(|hits| hits.enforced).take(RULES).collect();
    assert_eq!(hits, by_rule, "what each rule decided");
    assert!(by_verdict.iter().all(|&count| count > PROBES / 10), "both: {by_verdict:?}");
    assert!(by_rule.iter().filter(|&&count| count > 0).count() > PROBES / 4, "many rules decide");
}
