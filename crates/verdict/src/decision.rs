//! The answer: two verdicts from one look-up, each with its reason.

/// Allow or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// The kernel goes on as if fwnet were not there.
    Allow = 0,
    /// The kernel refuses.
    Deny = 1,
}

/// The number of a rule inside one image, at most [`RuleNumber::MAX`]. The defaults and the built-in baseline are rules
/// too, so every verdict has a number; the image's author keeps the list that turns numbers into rule ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleNumber(pub u16);

impl RuleNumber {
    /// The largest number of a real rule.
    pub const MAX: u16 = 0x7ffe;
    /// Stands in an answer when the tables themselves are damaged. Such a flow is denied.
    pub const MALFORMED: Self = Self(0x7fff);
}

/// A verdict with the rule that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Judgement {
    /// Allow or deny.
    pub verdict: Verdict,
    /// The deciding rule.
    pub rule: RuleNumber,
}

/// What [`decide`](crate::decide) answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decision {
    /// What the kernel does: the rules in mode `enforce` only.
    pub enforced: Judgement,
    /// What it would do if the rules in mode `audit` were enforced too.
    pub would: Judgement,
}

impl Decision {
    /// The answer when the tables are damaged.
    pub const MALFORMED: Self = Self {
        enforced: Judgement { verdict: Verdict::Deny, rule: RuleNumber::MALFORMED },
        would: Judgement { verdict: Verdict::Deny, rule: RuleNumber::MALFORMED },
    };

    /// Whether the kernel refuses.
    #[inline(always)]
    pub const fn denies(&self) -> bool {
        matches!(self.enforced.verdict, Verdict::Deny)
    }
}

/// A [`Decision`] in 32 bits, as it stands in the verdict matrix: bit 0 the enforced verdict, bits 1 to 15 its rule,
/// bit 16 the would-be verdict, bits 17 to 31 its rule. Or, where that changes with the time, the number of a succession.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell(pub u32);

/// The upper half of a cell that names a succession: damage that allows, which no decision says.
const SUCCESSION: u32 = (RuleNumber::MALFORMED.0 as u32) << 1;

impl Cell {
    /// The cell of succession `number` of its row.
    #[inline(always)]
    pub const fn of_succession(number: u16) -> Self {
        Self(SUCCESSION << 16 | number as u32)
    }

    /// The number of the succession that the cell names, if it is not a decision.
    #[inline(always)]
    pub const fn succession(self) -> Option<u32> {
        if self.0 >> 16 == SUCCESSION { Some(self.0 & 0xffff) } else { None }
    }

    /// Packs a decision.
    #[inline(always)]
    pub const fn pack(decision: Decision) -> Self {
        const fn half(judgement: Judgement) -> u32 {
            (judgement.rule.0 as u32 & 0x7fff) << 1 | judgement.verdict as u32
        }
        Self(half(decision.would) << 16 | half(decision.enforced))
    }

    /// Unpacks it.
    #[inline(always)]
    pub const fn unpack(self) -> Decision {
        const fn half(bits: u32) -> Judgement {
            let verdict = if bits & 1 == 0 { Verdict::Allow } else { Verdict::Deny };
            let rule = (bits >> 1 & 0x7fff) as u16;
            Judgement { verdict, rule: RuleNumber(rule) }
        }
        Decision { enforced: half(self.0), would: half(self.0 >> 16) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_holds_both_judgements() {
        let decision = Decision {
            enforced: Judgement { verdict: Verdict::Allow, rule: RuleNumber(RuleNumber::MAX) },
            would: Judgement { verdict: Verdict::Deny, rule: RuleNumber(17) },
        };
        assert_eq!(Cell::pack(decision).unpack(), decision);
        assert_eq!(Cell::pack(Decision::MALFORMED).unpack(), Decision::MALFORMED);
    }

    #[test]
    fn a_succession_is_no_decision() {
        for number in [0, 1, 0xfffe, u16::MAX] {
            assert_eq!(Cell::of_succession(number).succession(), Some(u32::from(number)));
        }
        let rules = [0, 1, RuleNumber::MAX].map(RuleNumber);
        let judged =
            |rule| [Verdict::Allow, Verdict::Deny].map(|verdict| Judgement { verdict, rule });
        for enforced in rules.into_iter().flat_map(judged) {
            for would in rules.into_iter().flat_map(judged) {
                assert_eq!(Cell::pack(Decision { enforced, would }).succession(), None);
            }
        }
        assert_eq!(Cell::pack(Decision::MALFORMED).succession(), None);
    }
}
