//! A list of a million prefixes: read, written, compiled and judged within the limits.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use agent::lists::{Front, List, Moment, Plain, Ranges};
use image::{Image, Rule, RuleSet, compile, evaluate};
use jiff::Timestamp;
use testbed::Dice;
use verdict::{Direction, Verdict, decide, limits::LINES_MAX};

const WAYS: [Direction; 2] = [Direction::Out, Direction::In];

fn host(dice: &mut Dice) -> Ipv4Addr {
    let bits = dice.below(u32::MAX);
    Ipv4Addr::from(bits | 0x0100_0000)
}

fn network6(dice: &mut Dice, length: u8) -> String {
    let bits = 0x2 << 124 | dice.bits(length) << (128 - length);
    format!("{}/{length}", Ipv6Addr::from(bits))
}

/// The shape of the large public lists: hosts, and networks of 20 to 31 bits, all over the address space; a tenth is
/// IPv6.
fn mixed(dice: &mut Dice) -> String {
    match dice.below(100) {
        0..5 => network6(dice, 32),
        5..10 => network6(dice, 48),
        10..40 => {
            let length = dice.within(20..=31);
            let address = host(dice).to_bits() >> (32 - length) << (32 - length);
            format!("{}/{length}", Ipv4Addr::from(address))
        }
        _ => host(dice).to_string(),
    }
}

type Shape = fn(&mut Dice) -> String;

/// Nothing is next to anything in the second and the third.
const SHAPES: [(&str, Shape); 3] = [
    ("a mixture", mixed),
    ("IPv4 hosts", |dice| host(dice).to_string()),
    ("IPv6 networks", |dice| network6(dice, 64)),
];

#[test]
fn a_million_prefixes_fit_into_an_image_and_are_judged() {
    let now = Moment { wall: Timestamp::UNIX_EPOCH, boottime_ns: 0, boot: String::new() };
    for (shape, line) in SHAPES {
        let mut dice = Dice(1);
        let text: String = (0..1_000_000).map(|_| line(&mut dice) + "\n").collect();
        let began = Instant::now();
        let plain = Plain::parse(text.as_bytes(), |_| ()).expect("a list");
        let parsed = began.elapsed();
        let record = serde_json::to_vec(&Ranges(plain.addresses.clone())).expect("a record");
        let began = Instant::now();
        let again: Ranges = serde_json::from_slice(&record).expect("what was written");
        let read = began.elapsed();
        assert!(again.0 == plain.addresses);

        let list = List {
            name: "feed".parse().expect("a name"),
            lines: plain.lines,
            end: None,
            reason: None,
            feed: None,
            by: agent::edition::Applied { at: Timestamp::UNIX_EPOCH, uid: 0, session: None },
        };
        let mut front = Front::default();
        let ranges = plain.addresses.ranges().count();
        front.add_list(&list, &plain.addresses, &now);
        let mut rules = RuleSet {
            rules: WAYS.map(|way| Rule::default(way, Verdict::Allow, 5)).to_vec(),
            ..RuleSet::default()
        };
        front.put(&WAYS, &mut rules, &mut vec![(); 2], |_| ());
        let began = Instant::now();
        let image: Image = compile(&rules).expect("an image");
        let built = began.elapsed();
        assert!(image.line_count() < LINES_MAX as usize / 2, "there is room for as much again");
        println!(
            "{shape}: {} bytes of text, {ranges} ranges, {} bytes of state, {} bytes of image; \
             parsed in {parsed:?}, read from disk in {read:?}, built in {built:?}",
            text.len(),
            record.len(),
            64 * image.line_count(),
        );
        let mut denied = 0;
        for (number, line) in text.lines().step_by(1000).enumerate() {
            let address =
                line.split('/').next().and_then(|text| text.parse().ok()).expect("an address");
            let listed = agent::prefix::canonical(address);
            let anyone = verdict::Address::v4(host(&mut dice).to_bits());
            for address in [listed, anyone] {
                let flow = verdict::Flow {
                    direction: WAYS[number % 2],
                    protocol: verdict::Protocol::TCP,
                    local: verdict::Endpoint {
                        address: verdict::Address::v4(0x0a00_0001),
                        port: 80,
                    },
                    remote: verdict::Endpoint { address, port: 80 },
                    subject: verdict::Subject::UNKNOWN,
                };
                let decided = decide(&flow, &image.at(0));
                assert_eq!(decided, evaluate(&rules, &flow, 0));
                denied += u32::from(decided.enforced.verdict == Verdict::Deny);
            }
        }
        assert!(denied >= 1000, "each listed one is denied: {denied}");
    }
}
