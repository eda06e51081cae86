//! What an image was compiled from, and how other rules differ from that: the remote classes that addresses get.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use verdict::{
    layout::{self, DIRECTORY},
    limits::{LINES_MAX, REMOTE_CLASSES_MAX},
};

use crate::{
    AddressSet, RuleSet,
    anew::Anew,
    budget::LABELS_MAX,
    classes::{Classes, Labels, sweep},
    lines::Lines,
    patch::Patch,
    trie::{Runs, Space, around_mapped},
};

/// Ranges of the sets that came and went, at most.
const RANGES_MAX: usize = 1_024;
/// Ranges of a set that is compared with others word by word; a larger one is the same where it is the same memory.
const COMPARED_MAX: usize = 64;
/// Of the lines of a trie that was compiled whole, one in so many may become garbage, and [`GARBAGE_MIN`] always may.
const GARBAGE_SHARE: u32 = 4;
const GARBAGE_MIN: u32 = 1_024;

/// What the addresses of an image were compiled from.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The sets that rules name, by index.
    pub(crate) sets: Vec<(u32, AddressSet)>,
    /// For each remote class the sets that hold its addresses.
    pub(crate) members: Vec<Labels>,
    /// Remote classes that no address has.
    pub(crate) free: Vec<u32>,
    /// The line behind the last one of the trie.
    pub(crate) trie_end: u32,
    /// Lines of the trie when it was compiled whole.
    pub(crate) trie_lines: u32,
    /// Words of it that are of no use any more.
    pub(crate) garbage_words: u32,
}

/// The sets that rules name.
pub(crate) fn named(rules: &RuleSet) -> Vec<(u32, AddressSet)> {
    let mut used: Vec<u32> =
        rules.rules.iter().flat_map(|rule| [rule.remote, rule.local]).flatten().collect();
    used.sort_unstable();
    used.dedup();
    used.into_iter().filter_map(|set| Some((set, rules.sets.get(set as usize)?.clone()))).collect()
}

/// The lines of an image with its addresses in the classes of other rules, and nothing behind them yet.
pub(crate) struct Moved {
    pub(crate) lines: Lines,
    pub(crate) origin: Origin,
}

impl Origin {
    /// Moves addresses to the classes that they have by `rules`.
    pub(crate) fn moved(&self, lines: &Lines, rules: &RuleSet) -> Result<Moved, Anew> {
        let sets = named(rules);
        let mut change = Change::between(self, &sets)?;
        let root = |word| lines.word((DIRECTORY << 4) + word).unwrap_or_default();
        let roots = [root(layout::ROOT4), root(layout::ROOT6)];
        let [steps4, steps6] = change.steps()?;
        let mut class = |class, step| change.class(self, class, step);
        let mut patch = Patch::new(lines, self.trie_end, &mut class);
        let mut written = patch.family(roots[0], Space::V4, &steps4)?;
        written.extend(patch.family(roots[1], Space::V6, &steps6)?);
        let patched = patch.end();
        let garbage_words = self.garbage_words + patched.garbage_words;
        if garbage_words / 16 > (self.trie_lines / GARBAGE_SHARE).max(GARBAGE_MIN) {
            return Err(Anew::Garbage);
        }
        let mut lines = lines.clone();
        lines.truncate(self.trie_end as usize);
        for (at, entry) in written {
            lines.set_word(at, entry);
        }
        for word in 0..16 {
            let kept = roots.get((word as usize).wrapping_sub(layout::ROOT4 as usize));
            lines.set_word((DIRECTORY << 4) + word, kept.copied().unwrap_or_default());
        }
        if lines.len() + patched.trie.line_count() > LINES_MAX as usize {
            return Err(Anew::Room);
        }
        patched.trie.append(&mut lines);
        let trie_end = u32::try_from(lines.len()).map_err(|_more_than_any| Anew::Room)?;
        let Change { members, free, .. } = change;
        if members.iter().map(|labels| labels.len()).sum::<usize>() > LABELS_MAX as usize {
            return Err(Anew::Room);
        }
        let free = free.into();
        let trie_lines = self.trie_lines;
        Ok(Moved {
            lines,
            origin: Self { sets, members, free, trie_end, trie_lines, garbage_words },
        })
    }
}

/// What came and what went.
struct Change {
    /// The new index of each set that is still there.
    renamed: BTreeMap<u32, u32>,
    gone: Vec<(u32, AddressSet)>,
    come: Vec<(u32, AddressSet)>,
    /// What each step takes away and what it adds; step 0 does neither.
    turns: Vec<Turn>,
    /// For each class the new indices of the sets that hold its addresses.
    members: Vec<Labels>,
    free: VecDeque<u32>,
    numbers: BTreeMap<Labels, u32>,
    /// Where a step leads from a class.
    known: BTreeMap<(u32, u32), u32>,
}

#[derive(Debug, Default)]
struct Turn {
    gone: Vec<u32>,
    come: Vec<u32>,
}

impl Change {
    fn between(before: &Origin, sets: &[(u32, AddressSet)]) -> Result<Self, Anew> {
        let (renamed, gone, come) = compared(&before.sets, sets);
        let ranges = gone.iter().chain(&come).map(|(_, set)| set.bit_ranges().len());
        if ranges.sum::<usize>() > RANGES_MAX {
            return Err(Anew::Ranges);
        }
        let mut free = VecDeque::new();
        let mut numbers = BTreeMap::new();
        let mut members = Vec::with_capacity(before.members.len());
        for (class, labels) in (0..).zip(&before.members) {
            let kept = labels.iter().map(|set| renamed.get(set).copied());
            let kept: Option<Vec<u32>> = kept.collect();
            // Every address of a class that a set held which is gone gets another one.
            match kept.filter(|_| !before.free.contains(&class)) {
                Some(mut labels) => {
                    labels.sort_unstable();
                    let labels: Labels = labels.into();
                    numbers.insert(Arc::clone(&labels), class);
                    members.push(labels);
                }
                None => {
                    free.push_back(class);
                    members.push(Labels::default());
                }
            }
        }
        let known = BTreeMap::new();
        Ok(Self { renamed, gone, come, turns: Vec::new(), members, free, numbers, known })
    }

    /// Where which step begins, for either family.
    fn steps(&mut self) -> Result<[Runs; 2], Anew> {
        // Even labels went and odd ones came.
        let gone = self.gone.iter().map(|(set, ranges)| (2 * set, ranges));
        let come = self.come.iter().map(|(set, ranges)| (2 * set + 1, ranges));
        let ranges = gone.chain(come).flat_map(|(label, set)| {
            set.bit_ranges().iter().map(move |&(first, last)| (first, last, label))
        });
        let limit = u32::try_from(4 * RANGES_MAX + 1).unwrap_or(u32::MAX);
        let mut classes = Classes::starting_with(Labels::default(), "steps", limit);
        let steps = sweep(ranges, |active| classes.number(Labels::clone(active)));
        let steps = steps.map_err(|_budget| Anew::Ranges)?;
        let turn = |labels: &Labels| {
            let of =
                |odd| labels.iter().filter(move |label| *label % 2 == odd).map(|label| label / 2);
            Turn { gone: of(0).collect(), come: of(1).collect() }
        };
        self.turns = classes.signatures().iter().map(turn).collect();
        let v6 = around_mapped(&steps);
        Ok([steps, v6])
    }

    /// Where `step` leads from `class`, both of before.
    fn class(&mut self, before: &Origin, class: u32, step: u32) -> Result<u32, Anew> {
        if let Some(&known) = self.known.get(&(class, step)) {
            return Ok(known);
        }
        let turn = self.turns.get(step as usize).expect("steps are numbered");
        let held = before.members.get(class as usize).expect("the trie has classes of the image");
        let kept = held.iter().filter(|set| !turn.gone.contains(set));
        let renamed = kept.map(|set| {
            let name = self.renamed.get(set);
            *name.expect("what went is taken from every address that it held")
        });
        let mut labels: Vec<u32> = renamed.chain(turn.come.iter().copied()).collect();
        labels.sort_unstable();
        let number = self.number(labels.into())?;
        self.known.insert((class, step), number);
        Ok(number)
    }

    fn number(&mut self, labels: Labels) -> Result<u32, Anew> {
        if let Some(&number) = self.numbers.get(&labels) {
            return Ok(number);
        }
        let number = match self.free.pop_front() {
            Some(free) => free,
            None if self.members.len() >= REMOTE_CLASSES_MAX as usize => return Err(Anew::Room),
            None => {
                self.members.push(Labels::default());
                u32::try_from(self.members.len() - 1).map_err(|_more_than_any| Anew::Room)?
            }
        };
        if let Some(members) = self.members.get_mut(number as usize) {
            *members = Arc::clone(&labels);
        }
        self.numbers.insert(labels, number);
        Ok(number)
    }
}

type Named = Vec<(u32, AddressSet)>;

/// Which sets of before are which of now, and which went and which came.
fn compared(before: &Named, now: &[(u32, AddressSet)]) -> (BTreeMap<u32, u32>, Named, Named) {
    let mut large: BTreeMap<usize, VecDeque<u32>> = BTreeMap::new();
    let mut small: BTreeMap<&AddressSet, VecDeque<u32>> = BTreeMap::new();
    for (set, addresses) in before {
        let same = match addresses.bit_ranges().len() > COMPARED_MAX {
            true => large.entry(addresses.place()).or_default(),
            false => small.entry(addresses).or_default(),
        };
        same.push_back(*set);
    }
    let (mut renamed, mut come) = (BTreeMap::new(), Vec::new());
    for (set, addresses) in now {
        let same = match addresses.bit_ranges().len() > COMPARED_MAX {
            true => large.get_mut(&addresses.place()),
            false => small.get_mut(addresses),
        };
        match same.and_then(VecDeque::pop_front) {
            Some(known) => {
                renamed.insert(known, *set);
            }
            None => come.push((*set, addresses.clone())),
        }
    }
    let gone = before.iter().filter(|(set, _)| !renamed.contains_key(set)).cloned().collect();
    (renamed, gone, come)
}
