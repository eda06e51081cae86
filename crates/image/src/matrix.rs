//! The verdict of every combination of classes, now and when rules have ended, from bit sets of rules.

use std::iter;

use verdict::{Cell, Decision, Judgement, RuleNumber, Verdict, layout::end};

use crate::{Mode, Rule};

/// A set of rules as bits in the order in which they decide: tier by tier, denying before allowing, then as numbered.
/// So the first set bit of an intersection is the deciding rule.
#[derive(Clone, Debug)]
pub(crate) struct RuleBits(Vec<u64>);

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
        let mut ranking = Self { order, ranked, enforced: RuleBits(Vec::new()) };
        ranking.enforced =
            ranking.bits(|number| rules.get(number).is_some_and(|rule| rule.mode == Mode::Enforce));
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

    /// What the rules in all of `row` and `column` decide.
    pub(crate) fn cell(&self, row: &RuleBits, column: &RuleBits) -> Timed {
        let would = || row.0.iter().zip(&column.0).map(|(a, b)| a & b);
        let enforced = || would().zip(&self.enforced.0).map(|(both, enforced)| both & enforced);
        match (self.ranks(enforced()).next(), self.ranks(would()).next()) {
            (Some(enforced), Some(would)) if enforced.lasts() && would.lasts() => {
                Timed::Always(cell(enforced, would))
            }
            (Some(_), Some(_)) => timed(&self.deciding(enforced()), &self.deciding(would())),
            // A class that no flow of this direction has; its cells are never read.
            (None, _) | (_, None) => Timed::Always(Cell::pack(Decision::MALFORMED)),
        }
    }

    /// The rules that decide one after the other: each is the first of those that have not ended when the one before it
    /// ends.
    fn deciding(&self, words: impl Iterator<Item = u64>) -> Vec<Ranked> {
        let mut deciding = Vec::new();
        let mut last = 0;
        for ranked in self.ranks(words) {
            if ranked.until > last {
                last = ranked.until;
                deciding.push(ranked);
            }
            if last == end::NEVER {
                break;
            }
        }
        deciding
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

impl RuleBits {
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect())
    }
}
