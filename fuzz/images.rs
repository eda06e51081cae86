//! What must hold for any image. The fuzz target runs this on new inputs; a test of crate `image` runs it on the corpus.
//!
//! The first byte of an input picks one of the [`bases`], which the rest patches, 7 bytes each: line (little endian),
//! word, value (little endian). Any other first byte: the rest are the lines themselves. Either is sealed anew, because
//! no mutation would ever hit the digest.

use std::{cell::Cell as Last, sync::LazyLock};

use image::{AddressSet, Mode, Rule, RuleSet, Service, SubjectTest, check, compile, reseal};
use verdict::{
    Address, Cell, Direction, Endpoint, Flow, Line, Protocol, Subject, Tables, Verdict, closed,
    decide, succession,
};

/// When rules of the bases end.
const ENDS: [u64; 2] = [20, 1 << 33];

/// Whatever the checker accepts, `decide` and `closed` read without leaving the tables: every line that they ask for is
/// there, and the answer is the matrix cell that was read last, or the succession's value at the moment.
pub(crate) fn image(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let base = usize::from(first);
    let mut lines = match bases().get(base) {
        Some(base) => patched(base, rest),
        None => raw(rest),
    };
    reseal(&mut lines);
    if check(&lines).is_err() {
        return;
    }
    for (now_ns, flow) in moments(rest).zip(flows(rest)) {
        let tables = Watched { lines: &lines, now_ns, last: Last::new(0) };
        let decision = decide(&flow, &tables);
        assert_eq!(decision, Cell(tables.last.get()).unpack(), "{flow:?}");
        closed(&flow, &tables);
    }
}

/// Tables in which no line may be missed.
struct Watched<'a> {
    lines: &'a [Line],
    now_ns: u64,
    /// The word or the value of a succession that was read last.
    last: Last<u32>,
}

impl Tables for Watched<'_> {
    fn line(&self, index: u32) -> Option<&Line> {
        let line = self.lines.get(index as usize);
        assert!(line.is_some(), "line {index} of {} is asked for", self.lines.len());
        line
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn succession(&self, node: u32) -> Option<u32> {
        let value = succession(node, self)?;
        self.last.set(value);
        Some(value)
    }

    fn word(&self, index: u32) -> Option<u32> {
        let word = self.line(index >> 4)?.word(index);
        self.last.set(word);
        Some(word)
    }
}

/// Images to begin with: the least one, one that has every table, and a small one that looks at processes: without the
/// roots and tables of 65,536 entries an input takes a hundredth of the time.
pub(crate) fn bases() -> &'static [Vec<Line>] {
    static BASES: LazyLock<Vec<Vec<Line>>> = LazyLock::new(|| {
        let least = RuleSet { rules: defaults_of(1), ..RuleSet::default() };
        let full = RuleSet {
            sets: vec![
                AddressSet::from_prefixes([
                    (Address::v4(0x0a00_0000), 96 + 8),
                    (Address::v4(0x0a01_0203), 128),
                    (Address::v6([0x2001_0db8, 0, 0, 0]), 32),
                    (Address::v6([0x2001_0db8, 1, 0, 1]), 128),
                ]),
                AddressSet::from_address(Address::v4(0x0a01_0204)),
            ],
            rules: [full_rules(), defaults_of(1)].concat(),
            cgroups: [(42, [43].into())].into(),
            version: 7,
        };
        let subject = full.rules.iter().map(|rule| &rule.subject).max().cloned();
        let who = Rule {
            subject: subject.unwrap_or_default(),
            until_ns: Some(ENDS[0]),
            flags: 0,
            ..Rule::default(Direction::Out, Verdict::Allow, 0)
        };
        let processes =
            RuleSet { rules: [vec![who], defaults_of(1)].concat(), ..RuleSet::default() };
        [least, full, processes]
            .map(|rules| compile(&rules).expect("the rules are valid").to_lines())
            .into()
    });
    &BASES
}

fn defaults_of(tier: u8) -> Vec<Rule> {
    [Direction::Out, Direction::In]
        .map(|direction| Rule::default(direction, Verdict::Deny, tier))
        .to_vec()
}

fn full_rules() -> Vec<Rule> {
    let subject = SubjectTest {
        users: vec![0, 33],
        groups: vec![33],
        exes: vec![0x1234_5678_9abc],
        units: vec![42, 43, 44, 45, 46, 47],
        containers: vec![43, 48],
        namespaces: vec![1, 2],
    };
    let rule = |id: &str, direction, verdict, services: Vec<Service>| Rule {
        id: id.to_owned(),
        tier: 0,
        remote: Some(0),
        services,
        flags: 0,
        ..Rule::default(direction, verdict, 0)
    };
    let ports = || vec![Service::tcp(22..=443), Service::udp(53..=53)];
    vec![
        Rule { until_ns: Some(ENDS[0]), ..rule("out", Direction::Out, Verdict::Deny, ports()) },
        Rule { subject, ..rule("who", Direction::Out, Verdict::Allow, ports()) },
        Rule {
            local: Some(1),
            until_ns: Some(ENDS[1]),
            ..rule("in", Direction::In, Verdict::Allow, ports())
        },
        Rule {
            mode: Mode::Audit,
            remote: None,
            ..rule("raw", Direction::Out, Verdict::Deny, vec![Service::protocol(Protocol::RAW)])
        },
    ]
}

/// Applies the patches. The upper half of the line numbers counts from the end, where the small tables are.
pub(crate) fn patched(base: &[Line], patches: &[u8]) -> Vec<Line> {
    let mut lines = base.to_vec();
    let count = lines.len();
    for patch in patches.chunks_exact(7) {
        let [low, high, word, value @ ..] = patch else { continue };
        let line = usize::from(u16::from_le_bytes([*low, *high]));
        let line = if line < 0x8000 { line % count } else { count - 1 - (line - 0x8000) % count };
        let value = value.try_into().map_or(0, u32::from_le_bytes);
        if let Some(word) = lines[line].0.get_mut(usize::from(*word & 15)) {
            *word = value;
        }
    }
    lines
}

fn raw(bytes: &[u8]) -> Vec<Line> {
    let lines = bytes.chunks_exact(64).map(|bytes| {
        let mut line = Line::default();
        for (word, bytes) in line.0.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = bytes.try_into().map_or(0, u32::from_le_bytes);
        }
        line
    });
    lines.collect()
}

/// Moments around the ends of the bases' rules, and one of the input's own, over and over.
pub(crate) fn moments(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let own = u64::from_le_bytes(bytes.last_chunk().copied().unwrap_or_default());
    [0, ENDS[0] - 1, ENDS[0], ENDS[1] - 1, ENDS[1], own.min(u64::MAX - 1), u64::MAX - 1]
        .into_iter()
        .cycle()
}

/// Flows to every table: both directions, protocols with and without ports, known and unknown processes, and addresses
/// that the bases tell apart, with what the input ends with among them.
pub(crate) fn flows(bytes: &[u8]) -> Vec<Flow> {
    let own = bytes.last_chunk().copied().unwrap_or_default();
    let addresses = [
        Address::from_bytes(own),
        Address::v4(u32::from_le_bytes([own[0], own[1], own[2], own[3]])),
        Address::LOOPBACK_V4,
        Address::v4(0x0a01_0203),
        Address::v4(0x0a01_0204),
        Address::v4(u32::MAX),
        Address::LOOPBACK_V6,
        Address::v6([0x2001_0db8, 1, 0, 1]),
        Address::v6([0x2001_0db8, 1, 0, 2]),
        Address::v6([u32::MAX; 4]),
    ];
    let port = u16::from_le_bytes([own[14], own[15]]);
    let subjects = [
        Subject::UNKNOWN,
        Subject {
            uid: 33,
            gid: 33,
            exe: 0x1234_5678_9abc,
            cgroup: 47,
            above: [47, 48, 43, 0, 0, 0, 0, 0],
            netns: 1,
        },
        Subject {
            uid: u32::from(port),
            gid: 0,
            exe: 1,
            cgroup: u64::from_le_bytes([own[8]; 8]),
            above: [u64::from_le_bytes([own[9]; 8]); 8],
            netns: u64::from(own[10]),
        },
    ];
    let mut flows = Vec::new();
    for direction in [Direction::Out, Direction::In] {
        for protocol in [Protocol::TCP, Protocol::UDP, Protocol::RAW, Protocol(own[13])] {
            for (address, at) in addresses.into_iter().zip(0..) {
                let local = addresses[(at + 1) % addresses.len()];
                flows.extend(subjects.map(|subject| Flow {
                    direction,
                    protocol,
                    local: Endpoint { address: local, port: [port, 53, 443][at % 3] },
                    remote: Endpoint { address, port: [0, port, u16::MAX][at % 3] },
                    subject,
                }));
            }
        }
    }
    flows
}
