//! The address trie of an image that is there, changed where a few ranges of addresses change their class.
//!
//! Nodes on the way to a change are written anew behind the last line of the trie, the others stay where they are and are
//! shared; only entries of a root are written in place. What nothing leads to any more is garbage, which is counted.

use verdict::{
    Line,
    layout::{LINK, node},
};

use crate::{
    anew::Anew,
    lines::Lines,
    trie::{Runs, Space, Trie},
};

/// Entries of a root that are looked at.
const BLOCKS_MAX: usize = 4_096;
/// Nodes that are written anew, some 10 ms.
const NODES_MAX: u32 = 4_096;

/// A trie being changed.
pub(crate) struct Patch<'a> {
    lines: &'a Lines,
    /// Which class an address of a class gets by a step.
    class: &'a mut dyn FnMut(u32, u32) -> Result<u32, Anew>,
    trie: Trie,
    nodes: u32,
    garbage_words: u32,
}

/// What a patch comes to.
pub(crate) struct Patched {
    /// With links that are right and entries that count from the first of them.
    pub(crate) trie: Trie,
    pub(crate) garbage_words: u32,
}

impl<'a> Patch<'a> {
    /// Of the trie in `lines`, which goes on from line `end`.
    pub(crate) fn new(
        lines: &'a Lines,
        end: u32,
        class: &'a mut dyn FnMut(u32, u32) -> Result<u32, Anew>,
    ) -> Self {
        Self { lines, class, trie: Trie::at(end), nodes: 0, garbage_words: 0 }
    }

    /// Changes a family's addresses, by `steps`: where which one begins; step 0 changes nothing. `root` is the word of the
    /// directory. Says which words of the image get which values.
    pub(crate) fn family(
        &mut self,
        root: u32,
        space: Space,
        steps: &Runs,
    ) -> Result<Vec<(u32, u32)>, Anew> {
        let touched = blocks(space, steps)?;
        if touched.is_empty() {
            return Ok(Vec::new());
        }
        if root & LINK == 0 {
            return Err(Anew::Root);
        }
        let mut written = Vec::with_capacity(touched.len());
        for block in touched {
            let at = ((root ^ LINK) << 4) + block;
            let start = space.first + u128::from(block) * space.block();
            let end = start + (space.block() - 1);
            let entry = self.lines.word(at).expect("a root has 65,536 entries");
            let changed =
                self.entry(entry, within(steps, start, end), start, end, space.block_bits())?;
            written.push((at, changed));
        }
        Ok(written)
    }

    pub(crate) fn end(self) -> Patched {
        Patched { trie: self.trie, garbage_words: self.garbage_words }
    }

    /// What becomes of the entry for the block `start..=end`, whose first `bits` bits are common.
    fn entry(
        &mut self,
        entry: u32,
        steps: &[(u128, u32)],
        start: u128,
        end: u128,
        bits: u32,
    ) -> Result<u32, Anew> {
        if !touches(steps) {
            return Ok(entry);
        }
        if entry & LINK == 0 {
            return self.cut(entry, steps, start, end, bits);
        }
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(Anew::Nodes);
        }
        let found = Node(self.lines.line(entry ^ LINK).expect("a link leads to a node"));
        let (first, last) = found.block();
        let outside = first > start && touches(within(steps, start, first - 1))
            || last < end && touches(within(steps, last + 1, end));
        let (prefix, own) = if outside { (start, bits) } else { (first, found.bits()) };
        let size = 1u128 << (120 - own);
        let mut children = [0; 256];
        for (value, child) in (0u32..).zip(&mut children) {
            let from = prefix + u128::from(value) * size;
            let to = from + (size - 1);
            let before = match outside {
                // As if there were a node above it: no address of this block but its own lead to it.
                true if from <= first && first <= to => entry,
                true => found.miss(),
                false => found.entry(value, self.lines),
            };
            *child = self.entry(before, within(steps, from, to), from, to, own + 8)?;
        }
        if !outside {
            self.garbage_words += 16 + found.entries();
        }
        let [one, ..] = children;
        let whole = own == bits || one == found.miss();
        if whole && one & LINK == 0 && children.iter().all(|child| *child == one) {
            return Ok(one);
        }
        Ok(self.trie.branch(&children, prefix, own, found.miss()))
    }

    /// The same for a block of one class.
    fn cut(
        &mut self,
        class: u32,
        steps: &[(u128, u32)],
        start: u128,
        end: u128,
        bits: u32,
    ) -> Result<u32, Anew> {
        let mut runs: Runs = Vec::with_capacity(steps.len());
        for &(from, step) in steps {
            let changed = if step == 0 { class } else { (self.class)(class, step)? };
            if runs.last().is_none_or(|&(_, last)| last != changed) {
                runs.push((from.max(start), changed));
            }
        }
        Ok(self.trie.block(&runs, start, end, bits))
    }
}

/// Which entries of a root lead to something that changes.
fn blocks(space: Space, steps: &Runs) -> Result<Vec<u32>, Anew> {
    let mut blocks: Vec<u32> = Vec::new();
    let all = within(steps, space.first, space.last());
    for (index, &(from, step)) in all.iter().enumerate() {
        if step == 0 {
            continue;
        }
        let to = all.get(index + 1).map_or(space.last(), |&(next, _)| next - 1);
        let number = |address: u128| {
            let number = (address - space.first) / space.block();
            u32::try_from(number).expect("a root has 65,536 entries")
        };
        let (first, last) = (number(from.max(space.first)), number(to));
        let known = blocks.last().map_or(first, |known| first.max(known + 1));
        if (last + 1).saturating_sub(known) as usize + blocks.len() > BLOCKS_MAX {
            return Err(Anew::Blocks);
        }
        blocks.extend(known..=last);
    }
    Ok(blocks)
}

/// The steps between two addresses, the first of which may begin before.
fn within(steps: &[(u128, u32)], start: u128, end: u128) -> &[(u128, u32)] {
    let from = steps.partition_point(|&(at, _)| at <= start).saturating_sub(1);
    let to = steps.partition_point(|&(at, _)| at <= end);
    steps.get(from..to).unwrap_or_default()
}

fn touches(steps: &[(u128, u32)]) -> bool {
    steps.iter().any(|&(_, step)| step != 0)
}

/// A node as it stands in its line.
#[derive(Clone, Copy)]
struct Node<'a>(&'a Line);

impl Node<'_> {
    fn bits(self) -> u32 {
        self.0.word(node::BITS)
    }

    fn miss(self) -> u32 {
        self.0.word(node::MISS)
    }

    /// The addresses that have its prefix.
    fn block(self) -> (u128, u128) {
        let words = (0..4).map(|part| u128::from(self.0.word(node::PREFIX + part)));
        let first = words.fold(0, |prefix, word| prefix << 32 | word);
        (first, first | u128::MAX >> self.bits())
    }

    /// How many entries it has.
    fn entries(self) -> u32 {
        (0..8).map(|word| self.0.word(word).count_ones()).sum()
    }

    /// The entry of one of its 256 values.
    fn entry(self, value: u32, lines: &Lines) -> u32 {
        let before = (0..value >> 5).map(|word| self.0.word(word).count_ones()).sum::<u32>();
        let within = self.0.word(value >> 5) & u32::MAX >> (31 - (value & 31));
        let rank = before + within.count_ones();
        lines.word(self.0.word(node::ENTRIES) + rank - 1).expect("a node has its entries")
    }
}
