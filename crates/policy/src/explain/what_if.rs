//! What would give the other verdict.

use serde::Serialize;
use verdict::Verdict;

use super::word;
use crate::read_aloud::{Voice, decide};

/// A change that gives the other verdict at one end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WhatIf {
    /// Without these rules.
    Without {
        /// Ids of the rules to take away, or to narrow.
        rules: Vec<String>,
        /// The verdict then.
        verdict: &'static str,
        /// The rule that makes it.
        by: String,
    },
    /// With one rule more.
    With {
        /// The rule.
        rule: String,
        /// The tier that it has to be in, or a higher one.
        tier: &'static str,
        /// The verdict then.
        verdict: &'static str,
    },
}

/// The first of the three tiers of policies is 1.
const POLICY_TIERS: [&str; 3] = ["admin", "team", "baseline"];

/// What would change the enforced verdict over `voices`; `flow` is the flow as a rule writes it.
pub(super) fn find(voices: &[Voice], flow: &str) -> Vec<WhatIf> {
    let enforced: Vec<&Voice> = voices.iter().filter(|voice| !voice.audit).collect();
    let decision = decide(enforced.iter().copied());
    let tier = enforced.iter().find(|voice| voice.said == decision).map_or(0, |voice| voice.tier);
    let mut found = Vec::new();
    found.extend(without(enforced, decision.verdict));
    let (verdict, tiers_below) = match decision.verdict {
        // Deny wins inside a tier, so an allowing rule has to be looked at before it.
        Verdict::Deny => (Verdict::Allow, tier.saturating_sub(1)),
        Verdict::Allow => (Verdict::Deny, tier),
    };
    let lowest = usize::from(tiers_below).min(POLICY_TIERS.len()).checked_sub(1);
    if let Some(tier) = lowest.and_then(|tier| POLICY_TIERS.get(tier)) {
        let rule = format!("{} {flow}", word(verdict));
        found.push(WhatIf::With { rule, tier, verdict: word(verdict) });
    }
    found
}

/// The rules to take away, in the order in which they decide, until the verdict is another. Defaults and what is built in
/// are not taken away.
fn without(mut left: Vec<&Voice>, verdict: Verdict) -> Option<WhatIf> {
    let mut rules = Vec::new();
    loop {
        let decision = decide(left.iter().copied());
        if decision.verdict != verdict {
            return (!rules.is_empty()).then(|| WhatIf::Without {
                rules,
                verdict: word(decision.verdict),
                by: decision.rule,
            });
        }
        let at = left.iter().position(|voice| voice.said == decision)?;
        if left.get(at).is_none_or(|voice| voice.tier >= 4) {
            return None;
        }
        rules.push(decision.rule);
        left.remove(at);
    }
}
