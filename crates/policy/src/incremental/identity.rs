//! Rule ids under edits: which rule must be named anew when another one changes.

use std::collections::BTreeSet;

use crate::{
    check::ids,
    diagnostic::Diagnostics,
    format,
    policy::Policy,
    syntax::{Rule, Statement},
};

/// The ids of all rules.
#[derive(Clone, Debug)]
pub(super) struct Ids(BTreeSet<String>);

impl Ids {
    pub(super) fn new(policies: &[Policy]) -> Self {
        Self(policies.iter().flat_map(Policy::rules).map(|rule| rule.id.to_owned()).collect())
    }

    /// Whether another rule's id is, or was made from, `base`: `deny-3f` or `deny-3f-2`.
    fn has_kin(&self, base: &str, besides: &str) -> bool {
        let begins = |id: &&String| id.starts_with(base);
        let mut near = self.0.range(base.to_owned()..).take_while(begins);
        near.any(|id| {
            id != besides
                && id
                    .strip_prefix(base)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
    }

    /// Renames the rule `old` to what `written` is called, if no other rule's id depends on either.
    pub(super) fn rename(
        &mut self,
        tier: &str,
        before: &Rule,
        old: &str,
        written: &Rule,
    ) -> Option<String> {
        let (was, is) = (base(tier, before), base(tier, written));
        if was != old || self.has_kin(&was, old) || self.has_kin(&is, old) {
            return None;
        }
        self.0.remove(old);
        self.0.insert(is.clone());
        Some(is)
    }
}

fn base(tier: &str, rule: &Rule) -> String {
    rule.options.id.as_ref().map_or_else(|| ids::derive(tier, rule), |id| id.text.clone())
}

/// Gives all rules their ids anew. `false` if an id is given twice.
pub(super) fn rename_all(policies: &mut [Policy]) -> bool {
    let mut report = Diagnostics::default();
    ids::give(policies, &mut report);
    !report.has_errors()
}

/// Whether the names of two documents are defined alike.
pub(super) fn same_names(new: &Policy, old: &Policy) -> bool {
    let names = |policy: &Policy| -> BTreeSet<String> {
        let names = policy.document.names();
        names.map(|name| format::statement(&Statement::Name(name.clone()))).collect()
    };
    new.source == old.source && names(new) == names(old)
}
