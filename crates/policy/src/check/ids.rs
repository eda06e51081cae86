//! Stable ids of rules: given, or derived from what the rule says, so that moving a line changes nothing.

use std::collections::BTreeMap;

use super::walk;
use crate::{
    diagnostic::{Code, Diagnostic, Diagnostics, SourceIndex},
    policy::Policy,
    span::Span,
    syntax::{Rule, Statement},
};

/// Bytes of the digest that an id shows: among 10,000 rules two share 48 bits once in five million policies, and are
/// told apart by a number then.
const DIGEST_BYTES: usize = 6;

/// Gives every rule its id. Reports ids that are given twice.
pub(crate) fn give(policies: &mut [Policy], report: &mut Diagnostics) {
    let mut given: BTreeMap<String, (SourceIndex, Span)> = BTreeMap::new();
    for policy in policies.iter() {
        for rule in policy.document.rules() {
            let Some(id) = &rule.options.id else { continue };
            if let Some(&(source, span)) = given.get(&id.text) {
                let message = format!("the id `{}` is given twice", id.text);
                let diagnostic = Diagnostic::new(Code::RepeatedId, policy.source, id.span, message);
                report.push(diagnostic.related(source, span, "first given here"));
            } else {
                given.insert(id.text.clone(), (policy.source, id.span));
            }
        }
    }
    // How often each derived id came up: rules that say the same in two documents, whose names may differ in meaning.
    let mut derived: BTreeMap<String, u32> = BTreeMap::new();
    for policy in policies {
        let tier = policy.tier;
        let rules = walk::numbered(&policy.document).filter_map(|(at, _, statement)| {
            let Statement::Rule(rule) = statement else { return None };
            let id = match &rule.options.id {
                Some(id) => id.text.clone(),
                None => {
                    let base = derive(tier.word(), rule);
                    let count = derived.entry(base.clone()).or_insert(0);
                    loop {
                        *count += 1;
                        let id = if *count == 1 { base.clone() } else { format!("{base}-{count}") };
                        if !given.contains_key(&id) {
                            break id;
                        }
                    }
                }
            };
            Some((at, id))
        });
        policy.rules = rules.collect();
    }
}

/// `deny-3f29c0a1b2d4`: from the tier, the effect, both ends and the services. Mode, reason, owner, end and log do not take
/// part: a rule that goes from audit to enforce is the same rule.
pub(crate) fn derive(tier: &str, rule: &Rule) -> String {
    let text = format!("{tier}\n{}", crate::format::essence(rule));
    let digest = blake3::hash(text.as_bytes());
    let mut id = rule.effect.word().to_owned();
    id.push('-');
    for byte in digest.as_bytes().iter().take(DIGEST_BYTES) {
        id.push_str(&format!("{byte:02x}"));
    }
    id
}
