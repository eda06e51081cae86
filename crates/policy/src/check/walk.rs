//! Every selector and every service of a document. Selectors are nested no deeper than the parser allows, so recursion
//! is bounded.

use crate::syntax::{
    Document, End, Expression, Failsafe, Flows, Line, Meaning, Rule, Selector, Service, Statement,
    Test,
};

/// The outermost selectors of a statement.
pub(super) fn selectors(statement: &Statement) -> Vec<&Selector> {
    match statement {
        Statement::Name(name) => match &name.means {
            Meaning::Selector(selector) => vec![selector],
            Meaning::Services(_) => Vec::new(),
        },
        Statement::Rule(_)
        | Statement::Failsafe(_)
        | Statement::Test(_)
        | Statement::Tier(_)
        | Statement::Mode(_)
        | Statement::Default(_)
        | Statement::Inbound(_) => {
            ends(statement).map(|(from, to)| vec![&from.selector, &to.selector]).unwrap_or_default()
        }
    }
}

/// Both ends of a statement that has ends.
pub(super) fn ends(statement: &Statement) -> Option<(&End, &End)> {
    match statement {
        Statement::Rule(Rule { from, to, .. })
        | Statement::Test(Test { flows: Flows { from, to, .. }, .. }) => Some((from, to)),
        Statement::Failsafe(Failsafe::Flows(flows)) => Some((&flows.from, &flows.to)),
        Statement::Failsafe(Failsafe::None)
        | Statement::Name(_)
        | Statement::Tier(_)
        | Statement::Mode(_)
        | Statement::Default(_)
        | Statement::Inbound(_) => None,
    }
}

/// The services of a statement.
pub(super) fn services(statement: &Statement) -> &[Service] {
    match statement {
        Statement::Rule(rule) => &rule.services,
        Statement::Test(test) => &test.flows.services,
        Statement::Failsafe(Failsafe::Flows(flows)) => &flows.services,
        Statement::Name(name) => match &name.means {
            Meaning::Services(services) => services,
            Meaning::Selector(_) => &[],
        },
        Statement::Failsafe(Failsafe::None)
        | Statement::Tier(_)
        | Statement::Mode(_)
        | Statement::Default(_)
        | Statement::Inbound(_) => &[],
    }
}

/// Every statement with the number of its line in the tree.
pub(super) fn numbered(document: &Document) -> impl Iterator<Item = (usize, &Line, &Statement)> {
    document
        .lines
        .iter()
        .enumerate()
        .filter_map(|(at, line)| line.statement.as_ref().map(|statement| (at, line, statement)))
}

/// Calls `look` with `selector` and every selector in it, outer ones first.
pub(super) fn each<'a>(selector: &'a Selector, look: &mut impl FnMut(&'a Selector)) {
    look(selector);
    match &*selector.expression {
        Expression::Any
        | Expression::Me
        | Expression::Named(_)
        | Expression::Addresses(_)
        | Expression::Label { .. } => {}
        Expression::Not(inner) => each(inner, look),
        Expression::AllOf(members) | Expression::AnyOf(members) => {
            members.iter().for_each(|member| each(member, look))
        }
        Expression::Except(from, without) => {
            each(from, look);
            each(without, look);
        }
    }
}
