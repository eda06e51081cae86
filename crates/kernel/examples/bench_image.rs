//! Measures how long a list takes from prefixes to enforced, in a process of its own, for `cargo xtask bench image`: prints
//! one JSON document.
//!
//! `bench_image PREFIXES ROUNDS`, as root. Programs are attached to a cgroup and a network namespace of its own. The lists
//! are the same in every run. In each round an LPM trie of the kernel is filled with the same prefixes.

use std::{
    env,
    error::Error,
    io::{self, Write as _},
    time::{Duration, Instant},
};

use aya::maps::lpm_trie::{Key, LpmTrie};
use image::{AddressSet, Image, Rule, RuleSet, check, compile};
use kernel::{Attachments, Cgroup, Firewall, Netns, SwapError};
use rustix::time::{ClockId, clock_gettime};
use testbed::{Cgroup as TestCgroup, Dice, Namespace};
use verdict::{Address, Direction, Verdict};

/// Whether an LPM trie is made at once or entry by entry: it takes only the latter (BPF_F_NO_PREALLOC of linux/bpf.h).
const NO_PREALLOC: u32 = 1;
/// Bits of the canonical address above an IPv4 address.
const MAPPED_BITS: u8 = 96;

/// One prefix of a list.
type Shape = fn(&mut Dice) -> (Address, u8);

/// 60 % hosts and 25 % networks of 24 bits; 55 % networks of 24 bits, the others shorter; scattered networks of IPv6.
const SHAPES: [(&str, Shape); 3] = [
    ("IPv4 threats", |dice| {
        let bits = match dice.below(100) {
            0..60 => 32,
            60..85 => 24,
            _ => dice.within(16..=31),
        };
        (dice.v4(), MAPPED_BITS + bits)
    }),
    ("IPv4 routes", |dice| {
        let bits = if dice.below(100) < 55 { 24 } else { dice.within(16..=23) };
        (dice.v4(), MAPPED_BITS + bits)
    }),
    ("IPv6 networks", |dice| (dice.v6(), dice.one(&[32, 40, 44, 48, 48, 48, 56, 64, 64, 128]))),
];

fn rules(list: AddressSet) -> RuleSet {
    let deny = |way| Rule { remote: Some(0), flags: 0, ..Rule::default(way, Verdict::Deny, 0) };
    let ways = [Direction::Out, Direction::In];
    let defaults = ways.map(|way| Rule::default(way, Verdict::Allow, 1));
    let rules = ways.map(deny).into_iter().chain(defaults).collect();
    RuleSet { sets: vec![list], rules, version: 1, ..RuleSet::default() }
}

/// Milliseconds that `work` takes: on the clock, and of the processor, which others on the machine do not lengthen much.
fn timed<T>(work: impl FnOnce() -> T) -> ([f64; 2], T) {
    let spent = || {
        let spent = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap_or(0))
    };
    let (began, before) = (Instant::now(), spent());
    let done = work();
    let took = [began.elapsed(), spent().saturating_sub(before)];
    (took.map(|took| took.as_secs_f64() * 1_000.0), done)
}

fn fill(prefixes: &[(Address, u8)]) -> Result<(), Box<dyn Error>> {
    let count = u32::try_from(prefixes.len())?;
    if prefixes.first().is_some_and(|(address, _)| address.is_v4()) {
        let mut trie = LpmTrie::<_, u32, u32>::create(count, NO_PREALLOC)?;
        for &(address, bits) in prefixes {
            let address = address.as_v4().ok_or("an IPv4 list")?;
            trie.insert(&Key::new((bits - MAPPED_BITS).into(), address.to_be()), 1, 0)?;
        }
    } else {
        let mut trie = LpmTrie::<_, [u8; 16], u32>::create(count, NO_PREALLOC)?;
        for &(address, bits) in prefixes {
            trie.insert(&Key::new(bits.into(), address.bits().to_be_bytes()), 1, 0)?;
        }
    }
    Ok(())
}

fn load(
    image: &Image,
    cgroup: &TestCgroup,
    namespace: &Namespace,
) -> Result<Firewall, Box<dyn Error>> {
    let attachments = Attachments {
        cgroup: Cgroup::open(cgroup.path())?,
        namespaces: vec![Netns::open(namespace.name())?].into(),
        tripwire: false,
        report_allowed: false,
        count_flows: false,
        accept_errno: None,
    };
    Ok(Firewall::load(image, attachments)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<u32> =
        env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let &[prefixes, rounds] = numbers.as_slice() else {
        return Err("bench_image PREFIXES ROUNDS".into());
    };
    let (cgroup, namespace) = (TestCgroup::new(), Namespace::new());
    let mut report = serde_json::Map::new();
    for (name, shape) in SHAPES {
        let mut dice = Dice(2015);
        let listed: Vec<(Address, u8)> = (0..prefixes).map(|_| shape(&mut dice)).collect();
        let mut firewall = None;
        let mut times: [Vec<[f64; 2]>; 6] = Default::default();
        let (mut ranges, mut bytes) = (0, 0);
        for _ in 0..rounds {
            let (sorting, set) = timed(|| AddressSet::from_prefixes(listed.iter().copied()));
            ranges = set.ranges().count();
            let (building, image) = timed(|| compile(&rules(set.clone())));
            let image = image?;
            let lines = image.to_lines();
            bytes = size_of_val(lines.as_slice());
            let (checking, checked) = timed(|| check(&lines));
            drop(lines);
            checked?;
            let in_force = match &mut firewall {
                None => firewall.insert(load(&image, &cgroup, &namespace)?),
                Some(known) => known,
            };
            let (swapping, swapped) = timed(|| in_force.swap(&image));
            swapped?;
            let one = AddressSet::from_address(dice.v4());
            let (adding, added) = timed(|| -> Result<(), Box<dyn Error>> {
                let image = compile(&rules(set.union(&one)))?;
                match in_force.swap(&image) {
                    Err(SwapError::Size { .. }) => Err("no room for one more".into()),
                    swapped => Ok(swapped.map(|_hits| ())?),
                }
            });
            added?;
            let (filling, filled) = timed(|| fill(&listed));
            filled?;
            let took = [sorting, building, checking, swapping, adding, filling];
            times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
        }
        let names = ["sort", "build", "check", "put in force", "one more", "fill an LPM trie"];
        let times: serde_json::Map<_, _> = names
            .into_iter()
            .zip(times)
            .map(|(name, times)| (name.to_owned(), serde_json::json!(times)))
            .collect();
        let own = serde_json::json!({ "ranges": ranges, "bytes": bytes, "milliseconds": times });
        report.insert(name.to_owned(), own);
    }
    writeln!(io::stdout(), "{}", serde_json::Value::Object(report))?;
    Ok(())
}
