//! Where a rule of an image comes from: what answers "which rule was that?".

use crate::{
    check::Checked,
    diagnostic::SourceIndex,
    format,
    span::{Position, Span},
    syntax::{Rule, Statement},
};

/// Where a rule of an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The stable id that people see. Ids of rules, failsafe lines (`failsafe:1`), `loopback`, `default-in` and
    /// `default-out`.
    pub id: String,
    /// The statement it was written as; `None` for what is built in.
    pub stated: Option<Stated>,
    /// What it says, on one line.
    pub text: String,
    /// Why it exists, by its author.
    pub reason: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
}

/// A statement of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stated {
    /// Which of the documents that were compiled together.
    pub source: SourceIndex,
    /// Where in it.
    pub span: Span,
}

impl Origin {
    pub(super) fn of_rule(id: &str, rule: &Rule, source: SourceIndex) -> Self {
        Self {
            id: id.to_owned(),
            stated: Some(Stated { source, span: rule.span }),
            text: format::statement(&Statement::Rule(rule.clone())),
            reason: rule.options.reason.as_ref().map(|reason| reason.text.clone()),
            owner: rule.options.owner.as_ref().map(|owner| owner.text.clone()),
        }
    }

    pub(super) fn of_statement(
        id: String,
        said: &Statement,
        source: SourceIndex,
        span: Span,
    ) -> Self {
        let text = format::statement(said);
        Self { id, stated: Some(Stated { source, span }), text, reason: None, owner: None }
    }

    pub(super) fn built_in(id: &str, text: &str) -> Self {
        Self { id: id.to_owned(), stated: None, text: text.to_owned(), reason: None, owner: None }
    }

    /// The name of the document and the place in it; `None` for what is built in. Finds lines anew: keep the answer.
    pub fn place<'a>(&self, checked: &'a Checked) -> Option<(&'a str, Position)> {
        let Stated { source, span } = self.stated?;
        let (name, _) = checked.sources().get(source)?;
        Some((name, checked.position(source, span)?))
    }
}
