//! The verdict of every combination of classes, from bit sets of rules.

use verdict::{Cell, Decision, Judgement, RuleNumber, Verdict};

use crate::{Mode, Rule};

/// A set of rules as bits in the order in which they decide: tier by tier, denying before allowing, then as numbered.
/// So the first set bit of an intersection is the deciding rule.
#[derive(Clone, Debug)]
pub(crate) struct RuleBits(Vec<u64>);

/// The order in which rules decide.
#[derive(Debug)]
pub(crate) struct Ranking {
    /// Rule numbers by rank.
    order: Vec<usize>,
    /// Verdict and number by rank.
    judgements: Vec<Judgement>,
    enforced: RuleBits,
}

impl Ranking {
    pub(crate) fn new(rules: &[Rule]) -> Self {
        let mut order: Vec<usize> = (0..rules.len()).collect();
        let key = |&number: &usize| {
            rules.get(number).map(|rule| (rule.tier, rule.verdict == Verdict::Allow, number))
        };
        order.sort_unstable_by_key(key);
        let judgements = order
            .iter()
            .filter_map(|&number| {
                let rule =
                    RuleNumber(u16::try_from(number).expect("the budget of rules fits in 15 bits"));
                rules.get(number).map(|found| Judgement { verdict: found.verdict, rule })
            })
            .collect();
        let mut ranking = Self { order, judgements, enforced: RuleBits(Vec::new()) };
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

    /// The cell of the rules in all of `row` and `column`.
    pub(crate) fn cell(&self, row: &RuleBits, column: &RuleBits) -> Cell {
        let would = self.first(row.0.iter().zip(&column.0).map(|(a, b)| a & b));
        let enforced = self.first(
            row.0
                .iter()
                .zip(&column.0)
                .zip(&self.enforced.0)
                .map(|((a, b), enforced)| a & b & enforced),
        );
        match (enforced, would) {
            (Some(enforced), Some(would)) => Cell::pack(Decision { enforced, would }),
            // A class that no flow of this direction has; its cells are never read.
            (None, _) | (_, None) => Cell::pack(Decision::MALFORMED),
        }
    }

    fn first(&self, words: impl Iterator<Item = u64>) -> Option<Judgement> {
        words.enumerate().find(|&(_, word)| word != 0).and_then(|(index, word)| {
            self.judgements.get(index * 64 + word.trailing_zeros() as usize).copied()
        })
    }
}

impl RuleBits {
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect())
    }
}
