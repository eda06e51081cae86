//! A policy whose meaning was checked: what `compile` and `read_aloud` start from.

use std::collections::BTreeMap;

use crate::{
    diagnostic::SourceIndex,
    syntax::{
        Answer, Document, Failsafe, Inbound, Line, Meaning, Mode, Name, Rule, RuleMode, Statement,
        Test, Tier, Way,
    },
};

/// One document of rules in one tier, with one mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which of the documents that were checked together.
    pub source: SourceIndex,
    /// Its tier; team where the document does not say.
    pub tier: Tier,
    /// Its mode; enforce where the document does not say.
    pub mode: Mode,
    /// How it answers denied peers; reject where the document does not say.
    pub inbound: Inbound,
    /// What was written.
    pub document: Document,
    /// Line of each name's definition.
    pub(crate) names: BTreeMap<String, usize>,
    /// Lines of the definitions, each after those it uses.
    pub(crate) order: Vec<usize>,
    /// Line and id of each rule.
    pub(crate) rules: Vec<(usize, String)>,
}

/// A rule with what follows from its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyRule<'a> {
    /// Its stable id: given, or derived from what it says. Unique among all policies checked together.
    pub id: &'a str,
    /// The weaker of the policy's mode and the rule's own.
    pub mode: Mode,
    /// What was written.
    pub rule: &'a Rule,
}

impl Policy {
    /// The rules in the order of the text.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = PolicyRule<'_>> {
        self.rules.iter().map(|(line, id)| {
            let Some(Statement::Rule(rule)) = self.document.lines.get(*line).and_then(|line| line.statement.as_ref()) else {
                unreachable!("`rules` holds lines of rules only, and the document is not changed after the check")
            };
            PolicyRule { id, mode: effective(self.mode, rule.mode), rule }
        })
    }

    /// What a name of this document stands for.
    pub fn meaning(&self, name: &str) -> Option<&Meaning> {
        self.names.get(name).and_then(|&line| self.name_at(line)).map(|name| &name.means)
    }

    /// The definitions, each after those it uses, so that a chain of names of any length is worked out in one pass.
    pub fn names_in_order(&self) -> impl Iterator<Item = &Name> {
        self.order.iter().filter_map(|&line| self.name_at(line))
    }

    fn name_at(&self, line: usize) -> Option<&Name> {
        match self.document.lines.get(line) {
            Some(Line { statement: Some(Statement::Name(name)), comment: _, span: _ }) => {
                Some(name)
            }
            Some(_) | None => None,
        }
    }

    /// What this policy says of flows that no rule matches.
    pub fn default_answer(&self, way: Way) -> Option<Answer> {
        self.document.statements().find_map(|(_, statement)| match statement {
            Statement::Default(default) if default.way == way => Some(default.answer),
            Statement::Default(_)
            | Statement::Tier(_)
            | Statement::Mode(_)
            | Statement::Name(_)
            | Statement::Rule(_)
            | Statement::Inbound(_)
            | Statement::Failsafe(_)
            | Statement::Test(_) => None,
        })
    }

    /// What this policy says of the failsafe set.
    pub fn failsafe(&self) -> impl Iterator<Item = &Failsafe> {
        self.document.statements().filter_map(|(_, statement)| {
            if let Statement::Failsafe(set) = statement { Some(set) } else { None }
        })
    }

    /// Its tests in the order of the text.
    pub fn tests(&self) -> impl Iterator<Item = &Test> {
        self.document.tests()
    }
}

/// Of two modes the weaker one holds: a policy in audit enforces nothing, whatever its rules say.
pub(crate) fn effective(policy: Mode, rule: Option<RuleMode>) -> Mode {
    let own = match rule {
        None => Mode::Enforce,
        Some(RuleMode::Audit) => Mode::Audit,
        Some(RuleMode::Draft) => Mode::Draft,
    };
    policy.min(own)
}
