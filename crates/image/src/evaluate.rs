//! The slow, obvious twin of [`compile`](crate::compile) + [`verdict::decide`]: one look at every rule.

use verdict::{Decision, Flow, Judgement, RuleNumber, Verdict};

use crate::{Mode, Rule, RuleSet};

/// Judges `flow` at a moment by reading the rules one after the other. Says what an image must say; never used to enforce.
///
/// A flow that no rule matches (impossible in a valid rule set) is [`Decision::MALFORMED`].
pub fn evaluate(rules: &RuleSet, flow: &Flow, now_ns: u64) -> Decision {
    let matching: Vec<(RuleNumber, &Rule)> = (0u16..)
        .map(RuleNumber)
        .zip(&rules.rules)
        .filter(|(_, rule)| rule.matches(flow, &rules.sets, now_ns))
        .collect();
    let enforced: Vec<_> =
        matching.iter().copied().filter(|(_, rule)| rule.mode == Mode::Enforce).collect();
    match (deciding(&enforced), deciding(&matching)) {
        (Some(enforced), Some(would)) => Decision { enforced, would },
        (None, _) | (_, None) => Decision::MALFORMED,
    }
}

/// The first tier in which any rule matches decides; inside it deny wins; the first such rule is named.
fn deciding(matching: &[(RuleNumber, &Rule)]) -> Option<Judgement> {
    let tier = matching.iter().map(|(_, rule)| rule.tier).min()?;
    let in_tier = || matching.iter().filter(|(_, rule)| rule.tier == tier);
    let denying = in_tier().find(|(_, rule)| rule.verdict == Verdict::Deny);
    let &(rule, found) = denying.or_else(|| in_tier().next())?;
    Some(Judgement { verdict: found.verdict, rule })
}
