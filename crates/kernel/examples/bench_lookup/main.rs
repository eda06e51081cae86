//! Measures look-ups of addresses in the kernel, by the code that judges connections and in the kernel's LPM trie, for
//! `cargo xtask bench lookup`: prints one JSON document.
//!
//! `bench_lookup OBJECT PREFIXES ROUNDS PROCESSOR`, as root. OBJECT is the BPF object built with its programs for this. They
//! are never attached: the kernel runs them when asked to (BPF_PROG_TEST_RUN of bpf(2)) and says how long that took. Before
//! anything is measured, every address is asked for once in the image and in the trie, and both must answer what
//! `verdict::address_class` answers here.

mod tables;

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs,
    io::{self, Write as _},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{
        Array, Map,
        lpm_trie::{Key, LpmTrie},
    },
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use image::{AddressSet, Image, Rule, RuleSet, compile};
use rustix::thread::{CpuSet, sched_setaffinity};
use tables::{LISTS, Prefix, Shape};
use verdict::{Address, Direction, Verdict};

const SHAPES: [(&str, Shape); 3] = [
    ("IPv4 threats", Shape::Threats4),
    ("IPv4 routes", Shape::Routes4),
    ("IPv6 routes", Shape::Routes6),
];
/// Addresses that are asked for in turn: all over the table, and few. Powers of two.
const ADDRESSES: [(&str, u32); 2] = [("cold", 1 << 20), ("hot", 1 << 8)];
/// Keys of one run of a program (crates/ebpf/src/bench.rs).
const BATCH: u32 = 512;
/// Runs of one measurement, and those before it that bring back what the one before drove out of the caches.
const RUNS: u32 = 512;
const RUNS_BEFORE: u32 = 32;
/// A packet, which the programs do not look at; the kernel wants one.
const PACKET: [u8; 64] = [0; 64];
/// Bits of the canonical address above an IPv4 address.
const MAPPED_BITS: u8 = 96;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [object, prefixes, rounds, processor] = words.as_slice() else {
        return Err("bench_lookup OBJECT PREFIXES ROUNDS PROCESSOR".into());
    };
    let mut processors = CpuSet::new();
    processors.set(processor.parse()?);
    sched_setaffinity(None, &processors)?;
    let object = fs::read(object)?;
    let mut report = serde_json::Map::new();
    for (name, shape) in SHAPES {
        let told = measure(&object, shape, prefixes.parse()?, rounds.parse()?)
            .map_err(|error| format!("{name}: {error}"))?;
        report.insert(name.to_owned(), told);
    }
    writeln!(io::stdout(), "{}", serde_json::Value::Object(report))?;
    Ok(())
}

fn measure(
    object: &[u8],
    shape: Shape,
    prefixes: usize,
    rounds: u32,
) -> Outcome<serde_json::Value> {
    let table = shape.table(prefixes);
    let image = image_of(&table)?;
    let classes = classes(&table, &image)?;
    let [(_, count), _] = ADDRESSES;
    let addresses = tables::addresses(&table, count);
    let trie = if matches!(shape, Shape::Routes6) { "trie6" } else { "trie4" };
    let mut programs = load(object, &image, &table, &addresses)?;
    fill(&mut programs, trie, &table, &classes)?;
    let mut course = Course { programs, trie };
    course.prove(&addresses, &image)?;
    let mut told = BTreeMap::new();
    for _ in 0..rounds {
        for (ways, count) in ADDRESSES {
            for (chain, suffix) in [("", ""), (", chained", "_c")] {
                let times = course.times(count, suffix)?;
                told.entry(format!("{ways}{chain}")).or_insert_with(Vec::new).push(times);
            }
        }
    }
    Ok(serde_json::json!({
        "prefixes": table.len(),
        "bytes": image.line_count() * 64,
        "addresses": addresses.len(),
        "nanoseconds": told,
    }))
}

/// An image that denies each list by a rule of its own.
fn image_of(table: &BTreeMap<Prefix, u8>) -> Outcome<Image> {
    let sets = tables::ranges(table).into_iter().map(AddressSet::from_ranges).collect();
    let deny = |list: u8| Rule {
        id: format!("list-{list}"),
        remote: Some(list.into()),
        flags: 0,
        ..Rule::default(Direction::Out, Verdict::Deny, 0)
    };
    let defaults = [Direction::Out, Direction::In].map(|way| Rule::default(way, Verdict::Allow, 1));
    let rules = (0..LISTS).map(deny).chain(defaults).collect();
    Ok(compile(&RuleSet { sets, rules, version: 1, ..RuleSet::default() })?)
}

/// The class that the image has for each list; no two have the same.
fn classes(table: &BTreeMap<Prefix, u8>, image: &Image) -> Outcome<Vec<u32>> {
    let tables = image.at(0);
    let ranges = tables::ranges(table);
    let first = ranges.iter().map(|list| list.first().map(|&(first, _)| first));
    let class = |first: Option<Address>| verdict::address_class(first?, &tables);
    let classes: Option<Vec<u32>> = first.map(class).collect();
    let classes = classes.ok_or("a list without addresses")?;
    let distinct: std::collections::BTreeSet<_> = classes.iter().filter(|it| **it != 0).collect();
    if distinct.len() != usize::from(LISTS) {
        return Err(format!("the classes of the lists are not their own: {classes:?}").into());
    }
    Ok(classes)
}

/// The object with the image in force and the addresses as keys.
fn load(
    object: &[u8],
    image: &Image,
    table: &BTreeMap<Prefix, u8>,
    addresses: &[Address],
) -> Outcome<Ebpf> {
    let lines = u32::try_from(image.line_count())?;
    let (keys, prefixes) = (u32::try_from(addresses.len())?, u32::try_from(table.len())?);
    let mut programs = EbpfLoader::new()
        .override_global("SLOT_LINES", &lines, true)
        .map_max_entries("IMAGE", lines)
        .map_max_entries("BENCH_KEYS", keys)
        .map_max_entries("BENCH_ANSWERS", keys)
        .map_max_entries("BENCH_TRIE4", prefixes)
        .map_max_entries("BENCH_TRIE6", prefixes)
        .load(object)?;
    let mut lines: Array<_, [u32; 16]> = map(&mut programs, "IMAGE")?.try_into()?;
    for (index, line) in (0..).zip(image.to_lines()) {
        lines.set(index, line.0, 0)?;
    }
    let mut keys: Array<_, [u64; 2]> = map(&mut programs, "BENCH_KEYS")?.try_into()?;
    for (index, address) in (0..).zip(addresses) {
        keys.set(index, [address.hi, address.lo], 0)?;
    }
    for which in ["nothing", "ours", "decide", "trie4", "trie6"] {
        for suffix in ["", "_c"] {
            let name = format!("bench_{which}{suffix}");
            let program = programs.program_mut(&name).ok_or("a program of the object")?;
            let program: &mut SchedClassifier = program.try_into()?;
            program.load()?;
        }
    }
    Ok(programs)
}

/// Fills the trie with the class of each prefix.
fn fill(
    programs: &mut Ebpf,
    trie: &str,
    table: &BTreeMap<Prefix, u8>,
    classes: &[u32],
) -> Outcome<()> {
    let class = |list: u8| classes.get(usize::from(list)).copied().ok_or("a list's class");
    if trie == "trie6" {
        let mut trie: LpmTrie<_, [u8; 16], u32> = map(programs, "BENCH_TRIE6")?.try_into()?;
        for (&(first, bits), &list) in table {
            trie.insert(&Key::new(bits.into(), first.to_be_bytes()), class(list)?, 0)?;
        }
    } else {
        let mut trie: LpmTrie<_, u32, u32> = map(programs, "BENCH_TRIE4")?.try_into()?;
        for (&(first, bits), &list) in table {
            let address = Address::from_bits(first).as_v4().ok_or("an IPv4 prefix")?;
            let key = Key::new((bits - MAPPED_BITS).into(), address.to_be());
            trie.insert(&key, class(list)?, 0)?;
        }
    }
    Ok(())
}

fn map<'a>(programs: &'a mut Ebpf, name: &str) -> Outcome<&'a mut Map> {
    Ok(programs.map_mut(name).ok_or_else(|| format!("no map {name} in the object"))?)
}

/// The programs, ready to be run.
struct Course {
    programs: Ebpf,
    trie: &'static str,
}

impl Course {
    /// Nanoseconds of one look-up: of the loop alone, in the image, in the trie; and of a verdict by the image.
    fn times(&mut self, count: u32, suffix: &str) -> Outcome<[f64; 4]> {
        self.set(0, count, false)?;
        let mut times = [0.0; 4];
        for (which, time) in ["nothing", "ours", self.trie, "decide"].into_iter().zip(&mut times) {
            let name = format!("bench_{which}{suffix}");
            self.run(&name, RUNS_BEFORE)?;
            *time = self.run(&name, RUNS)? / f64::from(BATCH);
        }
        Ok(times)
    }

    /// Each address once, in the image and in the trie.
    fn prove(&mut self, addresses: &[Address], image: &Image) -> Outcome<()> {
        let tables = image.at(0);
        let count = u32::try_from(addresses.len())?;
        for which in ["ours", "ours_c", self.trie] {
            let mut answers: Array<_, u32> =
                map(&mut self.programs, "BENCH_ANSWERS")?.try_into()?;
            for index in 0..count {
                answers.set(index, u32::MAX, 0)?;
            }
            self.set(0, count, true)?;
            self.run(&format!("bench_{which}"), count.div_ceil(BATCH))?;
            let answers: Array<_, u32> = map(&mut self.programs, "BENCH_ANSWERS")?.try_into()?;
            for (index, &address) in (0..).zip(addresses) {
                let (answer, class) =
                    (answers.get(&index, 0)?, verdict::address_class(address, &tables));
                if class != Some(answer) {
                    return Err(
                        format!("{which} says {answer} of {address:?}, not {class:?}").into()
                    );
                }
            }
        }
        Ok(())
    }

    /// Which keys come next (`Course` in crates/ebpf/src/bench.rs).
    fn set(&mut self, first: u32, count: u32, keep: bool) -> Outcome<()> {
        let mut course: Array<_, [u32; 4]> = map(&mut self.programs, "BENCH_COURSE")?.try_into()?;
        Ok(course.set(0, [first, count - 1, keep.into(), 0], 0)?)
    }

    /// Nanoseconds of one run of a program, the mean of `runs`.
    fn run(&mut self, name: &str, runs: u32) -> Outcome<f64> {
        let program = self.programs.program_mut(name).ok_or("a program of the object")?;
        let program: &mut SchedClassifier = program.try_into()?;
        let options = TestRunOptions { data_in: Some(&PACKET), repeat: runs, ..Default::default() };
        let result = program.test_run(options)?;
        Ok(result.duration.as_secs_f64() * 1e9)
    }
}
