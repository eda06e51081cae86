//! Every service of a document, and its statements by line.

use crate::syntax::{Document, Failsafe, Line, Meaning, Service, Statement};

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
