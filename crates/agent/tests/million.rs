//! A list of a million prefixes: read, written, compiled and judged within the limits.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use agent::lists::{Front, List, Moment, Plain, Ranges};
use image::{Image, Rule, RuleSet, compile, evaluate};
use jiff::Timestamp;
use verdict::{Direction, Verdict, decide, limits::LINES_MAX};

const WAYS: [Direction; 2] = [Direction::Out, Direction::In];

/// Numbers that look random and are the same in every run: SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn address(&mut self) -> Ipv4Addr {
        let bits = u32::try_from(self.next() >> 32).expect("32 bits are left");
        Ipv4Addr::from(bits | 0x0100_0000)
    }

    fn network6(&mut self, length: u32) -> String {
        let bits = u128::from(self.next()) << 64 | 0x2 << 124;
        format!("{}/{length}", Ipv6Addr::from(bits >> (128 - length) << (128 - length)))
    }
}

/// The shape of the large public lists: hosts, and networks of 20 to 31 bits, all over the address space; a tenth is
/// IPv6.
fn mixed(random: &mut Random) -> String {
    match random.next() % 100 {
        0..5 => random.network6(32),
        5..10 => random.network6(48),
        10..40 => {
            let length = 20 + random.next() % 12;
            let address = random.address().to_bits() >> (32 - length) << (32 - length);
            format!("{}/{length}", Ipv4Addr::from(address))
        }
        _ => random.address().to_string(),
    }
}

type Shape = fn(&mut Random) -> String;

/// Nothing is next to anything in the second and the third.
const SHAPES: [(&str, Shape); 3] = [
    ("a mixture", mixed),
    ("IPv4 hosts", |random| random.address().to_string()),
    ("IPv6 networks", |random| random.network6(64)),
];

#[test]
fn a_million_prefixes_fit_into_an_image_and_are_judged() {
    let now = Moment { wall: Timestamp::UNIX_EPOCH, boottime_ns: 0, boot: String::new() };
    for (shape, line) in SHAPES {
        let mut random = Random(1);
        let text: String = (0..1_000_000).map(|_| line(&mut random) + "\n").collect();
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
            let anyone = verdict::Address::v4(random.address().to_bits());
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
