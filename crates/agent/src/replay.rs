//! What a candidate policy would say of recorded flows: which it would newly deny, and which newly allow.

use std::collections::BTreeMap;

use policy::{Compiled, syntax::Answer};
use serde::Serialize;
use verdict::{Judgement, decide};

use crate::flows::{Named, Record, answer};

/// Flows that the candidate judges otherwise than they were judged, by the rule that decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What the candidate says.
    pub verdict: Answer,
    /// Id of its rule.
    pub rule: String,
    /// What that rule says.
    pub text: String,
    /// Whether the rule is enforced; in audit nothing changes yet.
    pub enforced: bool,
    /// Flows of all records.
    pub count: u64,
    /// The records, those with most flows first.
    pub records: Vec<Record>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// What changes: new denials first, those with most flows first.
    pub changes: Vec<Change>,
    /// Flows that are judged as they were.
    pub unchanged: u64,
}

/// Judges `records` by a candidate that was compiled with [`Named`] identities of the same records. Rules in audit count
/// as if they were enforced, and are marked: that is what one wants to know before enforcing them.
pub fn replay(records: &[Record], candidate: &Compiled) -> Replay {
    // By id: a rule that is enforced at both ends is two rules of the image, and one to people.
    let mut found: BTreeMap<(bool, String, bool), Change> = BTreeMap::new();
    let mut unchanged = 0u64;
    for record in records {
        let flow = record.kind.flow(Named::subject(&record.kind.process));
        let decision = decide(&flow, &candidate.now());
        let Some((judgement, enforced)) = changed(record.kind.verdict, decision) else {
            unchanged = unchanged.saturating_add(record.count);
            continue;
        };
        let verdict = answer(judgement.verdict);
        let origin = candidate.origin(judgement.rule);
        let rule = origin.map(|origin| origin.id.clone()).unwrap_or_default();
        let key = (verdict == Answer::Allow, rule.clone(), enforced);
        let change = found.entry(key).or_insert_with(|| Change {
            verdict,
            rule,
            text: origin.map(|origin| origin.text.clone()).unwrap_or_default(),
            enforced,
            count: 0,
            records: Vec::new(),
        });
        change.count = change.count.saturating_add(record.count);
        change.records.push(record.clone());
    }
    let mut changes: Vec<Change> = found.into_values().collect();
    for change in &mut changes {
        change.records.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.kind.cmp(&b.kind)));
    }
    changes.sort_by(|a, b| {
        let new_denials_first = (a.verdict == Answer::Allow).cmp(&(b.verdict == Answer::Allow));
        new_denials_first.then(b.count.cmp(&a.count)).then_with(|| a.rule.cmp(&b.rule))
    });
    Replay { changes, unchanged }
}

/// The judgement that differs from what was enforced, and whether it is enforced too.
fn changed(was: Answer, now: verdict::Decision) -> Option<(Judgement, bool)> {
    if answer(now.enforced.verdict) != was {
        return Some((now.enforced, true));
    }
    (answer(now.would.verdict) != was).then_some((now.would, false))
}
