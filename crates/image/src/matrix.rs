//! The verdict of every combination of classes, now and when rules have ended, from bit sets of rules.

use std::iter;

use verdict::{Cell, Decision, Judgement, RuleNumber, Verdict, layout::end};

use crate::{Budget, Mode, Rule, budget::FOLLOWING_MAX};

/// A set of rules as bits in the order in which they decide: tier by tier, denying before allowing, then as numbered.
/// So the first set bit of an intersection is the deciding rule.
#[derive(Clone, Debug)]
pub(crate) struct RuleBits(Vec<u64>);

/// The same for rules about certain remote addresses, of which a class has few: words that are not zero, by their index.
#[derive(Clone, Debug)]
pub(crate) struct Column(Vec<(u16, u64)>);

/// The rules of a row, and those of them that ask for no remote address, whose decision is the same in every column.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    all: RuleBits,
    anywhere: RuleBits,
    first: [Option<usize>; 2],
}

/// What decides in a combination of classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Timed {
    /// One decision, whatever the time.
    Always(Cell),
    /// Each one until a moment, in order of time; the last one until [`end::NEVER`].
    Ending(Vec<(u64, Cell)>),
}

/// A rule that decides where it is the first.
#[derive(Clone, Copy, Debug)]
struct Ranked {
    judgement: Judgement,
    /// From when on it does not.
    until: u64,
}

/// The order in which rules decide.
#[derive(Debug)]
pub(crate) struct Ranking {
    /// Rule numbers by rank.
    order: Vec<usize>,
    /// By rank.
    ranked: Vec<Ranked>,
    enforced: RuleBits,
    /// Rules that ask for no remote address.
    anywhere: RuleBits,
    /// Rules that were looked at for what follows when others end.
    followed: usize,
}

impl Ranking {
    pub(crate) fn new(rules: &[Rule]) -> Self {
        let mut order: Vec<usize> = (0..rules.len()).collect();
        let key = |&number: &usize| {
            rules.get(number).map(|rule| (rule.tier, rule.verdict == Verdict::Allow, number))
        };
        order.sort_unstable_by_key(key);
        let ranked = order
            .iter()
            .filter_map(|&number| {
                let rule =
                    RuleNumber(u16::try_from(number).expect("the budget of rules fits in 15 bits"));
                let found = rules.get(number)?;
                let judgement = Judgement { verdict: found.verdict, rule };
                Some(Ranked { judgement, until: found.until_ns.unwrap_or(end::NEVER) })
            })
            .collect();
        let none = || RuleBits(Vec::new());
        let mut ranking = Self { order, ranked, enforced: none(), anywhere: none(), followed: 0 };
        let bits =
            |holds: fn(&Rule) -> bool| ranking.bits(|number| rules.get(number).is_some_and(holds));
        let enforced = bits(|rule| rule.mode == Mode::Enforce);
        let anywhere = bits(|rule| rule.remote.is_none());
        (ranking.enforced, ranking.anywhere) = (enforced, anywhere);
        ranking
    }

    /// The rules, by number, for which `holds` is true.
    pub(crate) fn bits(&self, holds: impl Fn(usize) -> bool) -> RuleBits {
        let mut words = vec![0u64; self.order.len().div_ceil(64)];
        for (rank, &number) in self.order.iter().enumerate() {
            if holds(number)
                && let Some(word) = words.get_mut(rank >> 6)
            {
                *word |= 1 << (rank & 63);
            }
        }
        RuleBits(words)
    }

    /// For each label, the ranks of the rules that have it, ascending.
    pub(crate) fn by_label(
        &self,
        labels: usize,
        of: impl Fn(usize) -> Option<u32>,
    ) -> Vec<Vec<u32>> {
        let mut ranks = vec![Vec::new(); labels];
        for (rank, &number) in (0u32..).zip(&self.order) {
            if let Some(list) = of(number).and_then(|label| ranks.get_mut(label as usize)) {
                list.push(rank);
            }
        }
        ranks
    }

    /// The rules that have one of `labels`.
    pub(crate) fn labelled(&self, by_label: &[Vec<u32>], labels: &[u32]) -> RuleBits {
        let mut words = vec![0u64; self.order.len().div_ceil(64)];
        let lists = labels.iter().filter_map(|&label| by_label.get(label as usize));
        for &rank in lists.flatten() {
            if let Some(word) = words.get_mut(rank as usize >> 6) {
                *word |= 1 << (rank & 63);
            }
        }
        RuleBits(words)
    }

    /// What makes a row.
    pub(crate) fn held(&self, all: RuleBits) -> Held {
        let anywhere = all.and(&self.anywhere);
        let enforced = anywhere.0.iter().zip(&self.enforced.0).map(|(a, b)| a & b);
        let first = [first(enforced.enumerate()), first(anywhere.0.iter().copied().enumerate())];
        Held { all, anywhere, first }
    }

    /// What the rules in all of `row` and `column` decide.
    ///
    /// # Errors
    /// Where too many rules were looked at for what follows when others end.
    pub(crate) fn cell(&mut self, row: &Held, column: &Column) -> Result<Timed, Budget> {
        let own = || {
            let words = column.0.iter().map(|&(index, bits)| (usize::from(index), bits));
            words.map(|(index, bits)| (index, row.all.word(index) & bits))
        };
        let enforced = first(own().map(|(index, bits)| (index, bits & self.enforced.word(index))));
        let least = |one: Option<usize>, other: Option<usize>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let [anywhere_enforced, anywhere] = row.first;
        let enforced = least(enforced, anywhere_enforced);
        let would = least(first(own()), anywhere);
        let ranked = |rank: usize| self.ranked.get(rank).copied();
        match (enforced.and_then(ranked), would.and_then(ranked)) {
            (Some(enforced), Some(would)) if enforced.lasts() && would.lasts() => {
                Ok(Timed::Always(cell(enforced, would)))
            }
            (Some(_), Some(_)) => {
                let mut would = row.anywhere.clone();
                for (index, bits) in own() {
                    if let Some(word) = would.0.get_mut(index) {
                        *word |= bits;
                    }
                }
                let enforced = would.and(&self.enforced);
                let (enforced, would) = (self.deciding(&enforced)?, self.deciding(&would)?);
                Ok(timed(&enforced, &would))
            }
            // A class that no flow of this direction has; its cells are never read.
            (None, _) | (_, None) => Ok(Timed::Always(Cell::pack(Decision::MALFORMED))),
        }
    }

    /// The rules that decide one after the other: each is the first of those that have not ended when the one before it
    /// ends.
    fn deciding(&mut self, rules: &RuleBits) -> Result<Vec<Ranked>, Budget> {
        let mut deciding = Vec::new();
        let (mut last, mut followed) = (0, self.followed);
        for ranked in self.ranks(rules.0.iter().copied()) {
            followed += 1;
            if ranked.until > last {
                last = ranked.until;
                deciding.push(ranked);
            }
            if last == end::NEVER {
                break;
            }
        }
        self.followed = followed;
        Budget::spend("rules after others that end", followed, FOLLOWING_MAX, None)?;
        Ok(deciding)
    }

    /// The rules of a set, in the order in which they decide.
    fn ranks(&self, words: impl Iterator<Item = u64>) -> impl Iterator<Item = Ranked> {
        let ranks = |(index, mut word): (usize, u64)| {
            iter::from_fn(move || {
                let rank = (word != 0).then(|| index * 64 + word.trailing_zeros() as usize);
                word &= word.wrapping_sub(1);
                rank
            })
        };
        let found = words.enumerate().filter(|&(_, word)| word != 0).flat_map(ranks);
        found.filter_map(|rank| self.ranked.get(rank).copied())
    }
}

impl Ranked {
    fn lasts(self) -> bool {
        self.until == end::NEVER
    }
}

fn cell(enforced: Ranked, would: Ranked) -> Cell {
    Cell::pack(Decision { enforced: enforced.judgement, would: would.judgement })
}

/// Two orders of time as one. What is left undecided at the end of either is damage; there are defaults without an end.
fn timed(mut enforced: &[Ranked], mut would: &[Ranked]) -> Timed {
    let mut steps = Vec::new();
    while let (Some((&one, later)), Some((&other, later_would))) =
        (enforced.split_first(), would.split_first())
    {
        let until = one.until.min(other.until);
        steps.push((until, cell(one, other)));
        if one.until == until {
            enforced = later;
        }
        if other.until == until {
            would = later_would;
        }
    }
    if steps.last().is_none_or(|&(until, _)| until != end::NEVER) {
        steps.push((end::NEVER, Cell::pack(Decision::MALFORMED)));
    }
    match *steps {
        [(_, cell)] => Timed::Always(cell),
        _ => Timed::Ending(steps),
    }
}

/// The first bit that is set, of words with their indices in ascending order.
fn first(words: impl Iterator<Item = (usize, u64)>) -> Option<usize> {
    words
        .filter(|&(_, word)| word != 0)
        .map(|(index, word)| index * 64 + word.trailing_zeros() as usize)
        .next()
}

impl Column {
    /// How many words.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl RuleBits {
    fn word(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or_default()
    }

    /// The words that are not zero.
    pub(crate) fn column(&self) -> Column {
        let words = (0u16..).zip(self.0.iter().copied());
        Column(words.filter(|&(_, word)| word != 0).collect())
    }

    pub(crate) fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect())
    }
}
