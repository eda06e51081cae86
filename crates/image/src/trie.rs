//! The address trie of [`verdict::layout`]: built from runs of equal class, not from prefixes.
//!
//! A run list says where the class changes. Everything a node needs follows from it: which of its 256 values start a
//! new run, and how far the path can be shortened (when the class is the same before the first change and after the
//! last one, only the smallest aligned block that holds both needs a node).

use verdict::layout::{LINK, node};

use crate::lines::Lines;

/// Where each class starts: ascending, the first at 0, neighbours of different class.
pub(crate) type Runs = Vec<(u128, u32)>;

/// Tries in the making. Links name lines of the image; a node's `ENTRIES` word counts from the first of `entries`, and
/// whoever knows where these come to stand adds that.
#[derive(Debug)]
pub(crate) struct Trie {
    /// The line of the first node.
    first: u32,
    nodes: Vec<[u32; 16]>,
    entries: Vec<u32>,
    /// Entries of the nodes that are being made, each behind those of the node that it is below: one allocation for all.
    open: Vec<u32>,
}

/// The part of the runs that is one family's.
#[derive(Debug)]
pub(crate) struct Family {
    runs: Vec<(u128, u32)>,
    space: Space,
}

/// A family's addresses: the block that begins at `first` and has `bits` bits in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    pub(crate) first: u128,
    pub(crate) bits: u32,
}

/// Blocks that one answer can cover: no table has more.
const BLOCKS_MAX: u32 = 1 << 16;

/// The block of canonical addresses that are IPv4.
const MAPPED: u128 = 0xffff << 32;
const MAPPED_LAST: u128 = MAPPED | 0xffff_ffff;

impl Space {
    pub(crate) const V4: Self = Self { first: MAPPED, bits: 96 };
    pub(crate) const V6: Self = Self { first: 0, bits: 0 };

    /// How many addresses one entry of the root stands for.
    pub(crate) fn block(self) -> u128 {
        1 << (128 - self.bits - 16)
    }

    /// Bits that the addresses of a root's entry have in common.
    pub(crate) fn block_bits(self) -> u32 {
        self.bits + 16
    }

    pub(crate) fn last(self) -> u128 {
        self.first | u128::MAX >> self.bits
    }
}

impl Family {
    /// IPv4 and IPv6. IPv4-mapped addresses are never looked up among the latter.
    pub(crate) fn both(runs: &Runs) -> [Self; 2] {
        [
            Self { runs: clip(runs, MAPPED, MAPPED_LAST), space: Space::V4 },
            Self { runs: around_mapped(runs), space: Space::V6 },
        ]
    }

    /// The class of all of its addresses, if they have one.
    pub(crate) fn alone(&self) -> Option<u32> {
        match *self.runs {
            [(_, class)] => Some(class),
            _ => None,
        }
    }
}

/// `runs` without the IPv4-mapped addresses: what stands before those is continued over them.
pub(crate) fn around_mapped(runs: &Runs) -> Runs {
    let mut part = clip(runs, 0, MAPPED - 1);
    for (start, class) in clip(runs, MAPPED_LAST + 1, u128::MAX) {
        if part.last().is_none_or(|&(_, last)| last != class) {
            part.push((start, class));
        }
    }
    part
}

impl Trie {
    /// Nothing yet; the nodes will stand from line `first` on.
    pub(crate) fn at(first: u32) -> Self {
        Self { first, nodes: Vec::new(), entries: Vec::new(), open: Vec::new() }
    }

    /// The 65,536 entries of a family's root.
    pub(crate) fn root(&mut self, family: &Family) -> Vec<u32> {
        let Space { first, .. } = family.space;
        let size = family.space.block();
        let mut table = Vec::with_capacity(1 << 16);
        let mut rest = family.runs.as_slice();
        while table.len() < 1 << 16 {
            let start = first + table.len() as u128 * size;
            let end = start + (size - 1);
            let entry = self.entry(&mut rest, start, end, family.space.block_bits());
            let more = whole_blocks(rest, end, size, entry) as usize;
            table.resize((table.len() + 1 + more).min(1 << 16), entry);
        }
        table
    }

    /// How many lines nodes and entries take.
    pub(crate) fn line_count(&self) -> usize {
        self.nodes.len() + self.entries.len().div_ceil(16)
    }

    /// Puts nodes and entries behind the last one of `lines`.
    pub(crate) fn append(mut self, lines: &mut Lines) {
        debug_assert_eq!(lines.len(), self.first as usize, "links count from here");
        let first_entry = (self.first + count(self.nodes.len())) << 4;
        for line in &mut self.nodes {
            if let Some(entries) = line.get_mut(node::ENTRIES as usize) {
                *entries += first_entry;
            }
        }
        lines.extend(self.nodes.as_flattened());
        lines.extend(&self.entries);
    }

    /// The entry for the block `start..=end`, whose first `bits` bits are common. The first run begins at its start.
    pub(crate) fn block(&mut self, runs: &[(u128, u32)], start: u128, end: u128, bits: u32) -> u32 {
        self.entry(&mut &*runs, start, end, bits)
    }

    /// A node with these entries for its 256 values.
    pub(crate) fn branch(
        &mut self,
        children: &[u32; 256],
        prefix: u128,
        bits: u32,
        miss: u32,
    ) -> u32 {
        let own = self.open.len();
        let mut line = [0u32; 16];
        for (value, &entry) in (0..).zip(children) {
            self.put(own, &mut line, value, entry);
        }
        self.close(own, line, prefix, bits, miss)
    }

    /// The entry for the block `start..=end`, whose first `bits` bits are common. `rest` begins at or before the run in
    /// force at `start`, and is left at the one in force at `end`.
    fn entry(&mut self, rest: &mut &[(u128, u32)], start: u128, end: u128, bits: u32) -> u32 {
        while rest.get(1).is_some_and(|&(next, _)| next <= start) {
            *rest = rest.get(1..).unwrap_or_default();
        }
        let runs = rest.get(..inside(rest, end)).unwrap_or_default();
        *rest = rest.get(runs.len().saturating_sub(1)..).unwrap_or_default();
        match runs {
            [] => unreachable!("some run is in force everywhere"),
            &[(_, class)] => class,
            &[(_, before), (change, _), .., (back, after)] if before == after => {
                let common = (change ^ (back - 1)).leading_zeros() & !7;
                self.node(runs, change, common.clamp(bits, 120), before)
            }
            &[(_, before), ..] => self.node(runs, start, bits, before),
        }
    }

    /// The node whose prefix is the first `bits` bits of `within`.
    fn node(&mut self, runs: &[(u128, u32)], within: u128, bits: u32, miss: u32) -> u32 {
        let size = 1u128 << (120 - bits);
        let prefix = within & !((size << 8) - 1);
        let skip = runs.partition_point(|&(start, _)| start <= prefix).saturating_sub(1);
        let mut rest = runs.get(skip..).unwrap_or_default();
        let mut line = [0u32; 16];
        let own = self.open.len();
        let mut value = 0u32;
        while value < 256 {
            let start = prefix + u128::from(value) * size;
            let entry = self.entry(&mut rest, start, start + (size - 1), bits + 8);
            self.put(own, &mut line, value, entry);
            value += 1 + whole_blocks(rest, start + (size - 1), size, entry);
        }
        self.close(own, line, prefix, bits, miss)
    }

    /// The entry of a value of the node whose entries begin at `own`.
    fn put(&mut self, own: usize, line: &mut [u32; 16], value: u32, entry: u32) {
        if self.open.len() == own || self.open.last() != Some(&entry) {
            self.open.push(entry);
            set_bit(line, value);
        }
    }

    /// Ends a node, of which the bitmap stands in `line`.
    fn close(
        &mut self,
        own: usize,
        mut line: [u32; 16],
        prefix: u128,
        bits: u32,
        miss: u32,
    ) -> u32 {
        let mut runs_before = 0;
        for quarter in 0..4u32 {
            add_word(&mut line, node::RANKS, runs_before << (8 * quarter));
            let at = 2 * quarter as usize;
            runs_before += line.iter().skip(at).take(2).map(|word| word.count_ones()).sum::<u32>();
        }
        add_word(&mut line, node::ENTRIES, count(self.entries.len()));
        for (part, shift) in (0u32..).zip([96, 64, 32, 0]) {
            #[expect(clippy::cast_possible_truncation, reason = "one of the four words")]
            add_word(&mut line, node::PREFIX + part, (prefix >> shift) as u32);
        }
        add_word(&mut line, node::BITS, bits);
        add_word(&mut line, node::MISS, miss);
        self.entries.extend(self.open.drain(own..));
        self.nodes.push(line);
        LINK | (self.first + count(self.nodes.len() - 1))
    }
}

/// How many of `runs` start at or before `end`. Looks near the front first: most blocks hold few runs.
fn inside(runs: &[(u128, u32)], end: u128) -> usize {
    let mut bound = 1;
    while runs.get(bound).is_some_and(|&(start, _)| start <= end) {
        bound *= 2;
    }
    let bound = bound.min(runs.len());
    runs.get(..bound).unwrap_or_default().partition_point(|&(start, _)| start <= end)
}

/// How many whole blocks of `size` behind `end` are covered by the one run that `rest` begins with and that made
/// `entry`: they need no look of their own.
fn whole_blocks(rest: &[(u128, u32)], end: u128, size: u128, entry: u32) -> u32 {
    let &[(_, class), ref following @ ..] = rest else { return 0 };
    if entry != class {
        return 0;
    }
    let until = match following.first() {
        Some(&(start, _)) => start - 1,
        None => u128::MAX,
    };
    u32::try_from(until.saturating_sub(end) / size).unwrap_or(BLOCKS_MAX).min(BLOCKS_MAX)
}

/// The part of `runs` between two addresses, its first run moved to `first`.
fn clip(runs: &Runs, first: u128, last: u128) -> Runs {
    let from = runs.partition_point(|&(start, _)| start <= first).saturating_sub(1);
    let to = runs.partition_point(|&(start, _)| start <= last);
    let mut part: Runs = runs.get(from..to).unwrap_or_default().to_vec();
    if let Some(start) = part.first_mut() {
        start.0 = first;
    }
    part
}

fn set_bit(line: &mut [u32; 16], value: u32) {
    add_word(line, value >> 5, 1 << (value & 31));
}

fn add_word(line: &mut [u32; 16], index: u32, bits: u32) {
    if let Some(word) = line.get_mut(index as usize) {
        *word |= bits;
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length)
        .expect("an image is far below 2^32 words: the budget is checked on its lines")
}
