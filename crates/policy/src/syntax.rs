//! The syntax tree: a policy document as it is written, comments and places included, before anything is looked up.
//!
//! The text form (`parse`, `format`) and the JSON form (these types through serde, described by their JSON Schema) say
//! the same; places are not part of the JSON form. A tree says what was written and no more: whether names exist and
//! options make sense is what `check` answers.

mod address;
mod process;
mod selector;
mod service;
mod until;
mod word;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use address::{AddressError, Addresses};
pub(crate) use process::{
    CONTAINER_DIGITS_MAX, CONTAINER_DIGITS_MIN, QUALIFIERS, container_symbols, is_container_id,
    paths_above,
};
pub use process::{Process, Qualifier, means_container};
pub use selector::{Expression, LabelTest, Selector};
pub use service::{PortRange, Service, ServiceError, ServiceKind};
pub(crate) use service::{is_name, is_protocol};
pub use until::{Until, UntilError};
pub(crate) use word::{is_bare, is_bare_host, is_key};

use crate::span::Span;

/// A policy document: its lines in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Lines in the order of the text.
    pub lines: Vec<Line>,
}

impl Document {
    /// Every statement with its line.
    pub fn statements(&self) -> impl Iterator<Item = (&Line, &Statement)> {
        self.lines
            .iter()
            .filter_map(|line| line.statement.as_ref().map(|statement| (line, statement)))
    }

    /// The rules, in the order of the text.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.statements().filter_map(|(_, statement)| {
            if let Statement::Rule(rule) = statement { Some(rule) } else { None }
        })
    }

    /// The tests, in the order of the text.
    pub fn tests(&self) -> impl Iterator<Item = &Test> {
        self.statements().filter_map(|(_, statement)| {
            if let Statement::Test(test) = statement { Some(test) } else { None }
        })
    }

    /// Words of its selectors that stand for hosts: those that are no names of its own.
    ///
    /// Whoever is told of some hosts only, because no others concern them, needs to know that these are hosts all the same.
    pub fn hosts(&self) -> BTreeSet<&str> {
        let selectors = self.statements().flat_map(|(_, statement)| statement.selectors());
        let mut words: BTreeSet<&str> = selectors.flat_map(Selector::words).collect();
        for name in self.names() {
            words.remove(name.name.text.as_str());
        }
        words
    }

    /// The definitions of names, in the order of the text.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.statements().filter_map(|(_, statement)| {
            if let Statement::Name(name) = statement { Some(name) } else { None }
        })
    }
}

/// One line: a statement, a comment, both, or neither (an empty line).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// What the line says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<Statement>,
    /// The text after `#`, its leading blank included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Where the statement (or else the comment) stands.
    #[serde(skip)]
    pub span: Span,
}

/// What a line can say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Statement {
    /// `tier admin|team|baseline`
    Tier(Tier),
    /// `mode draft|audit|enforce`
    Mode(Mode),
    /// `name NAME = SELECTOR` or `name NAME = SERVICES`
    Name(Name),
    /// `[audit|draft] allow|deny|refuse FROM -> TO : SERVICES OPTIONS`
    Rule(Rule),
    /// `default allow|deny in|out`
    Default(Default),
    /// `inbound reject|drop`
    Inbound(Inbound),
    /// `failsafe FROM -> TO : SERVICES` or `failsafe none`
    Failsafe(Failsafe),
    /// `test allow|deny FROM -> TO : SERVICES`
    Test(Test),
}

impl Statement {
    /// Both ends of one that has ends.
    pub fn ends(&self) -> Option<(&End, &End)> {
        match self {
            Self::Rule(Rule { from, to, .. })
            | Self::Test(Test { flows: Flows { from, to, .. }, .. }) => Some((from, to)),
            Self::Failsafe(Failsafe::Flows(flows)) => Some((&flows.from, &flows.to)),
            Self::Failsafe(Failsafe::None)
            | Self::Name(_)
            | Self::Tier(_)
            | Self::Mode(_)
            | Self::Default(_)
            | Self::Inbound(_) => None,
        }
    }

    /// The outermost selectors: of its ends, or of what it names.
    pub fn selectors(&self) -> Vec<&Selector> {
        if let Self::Name(Name { means: Meaning::Selector(selector), .. }) = self {
            return vec![selector];
        }
        self.ends().map(|(from, to)| vec![&from.selector, &to.selector]).unwrap_or_default()
    }
}

/// Which rules are looked at first: the first tier in which any rule matches decides.
#[derive(
    Clone,
    Copy,
    Debug,
    std::default::Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Looked at first.
    Admin,
    /// Where a document without a `tier` line is.
    #[default]
    Team,
    /// Looked at last, before the defaults.
    Baseline,
}

/// What a policy's rules do. Ordered by strength: of two modes the weaker one holds.
#[derive(
    Clone,
    Copy,
    Debug,
    std::default::Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Checked and compiled, then left out.
    Draft,
    /// Counted and reported as the would-be verdict, not enforced.
    Audit,
    /// Enforced: the mode of a document without a `mode` line.
    #[default]
    Enforce,
}

/// A mode that a rule asks for, by a word before it; a rule cannot be stronger than its policy.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RuleMode {
    /// See [`Mode::Draft`].
    Draft,
    /// See [`Mode::Audit`].
    Audit,
}

/// What a rule does with a flow.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Let it through.
    Allow,
    /// Verdict deny; connect() ends with EACCES.
    Deny,
    /// Verdict deny; connect() ends with ECONNREFUSED.
    Refuse,
}

/// What a default or a test says of a flow.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The flow is let through.
    Allow,
    /// The flow is denied, by `deny` or by `refuse`.
    Deny,
}

/// Which way a connection is made, seen from the host.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// The host accepts.
    In,
    /// The host connects.
    Out,
}

/// How a denied peer is answered, where the hook can choose.
#[derive(
    Clone,
    Copy,
    Debug,
    std::default::Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Inbound {
    /// With a reset: what a document without an `inbound` line does.
    #[default]
    Reject,
    /// Not at all.
    Drop,
}

/// What happens to existing connections that a rule newly denies.
#[derive(
    Clone,
    Copy,
    Debug,
    std::default::Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Existing {
    /// They go on.
    #[default]
    Keep,
    /// They are ended.
    Revoke,
}

/// A written word or quoted text, with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Word {
    /// What it says, without quotes.
    pub text: String,
    /// Where it stands, quotes included.
    #[serde(skip)]
    pub span: Span,
}

/// `name NAME = ...`: a name for a selector or for services, known in its own document only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Name {
    /// The name. Selectors and services share one space of names.
    pub name: Word,
    /// What it stands for.
    pub means: Meaning,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Meaning {
    /// A set of hosts and addresses.
    Selector(Selector),
    /// Services; never empty.
    Services(#[schemars(length(min = 1))] Vec<Service>),
}

/// One end of a rule: hosts or addresses, and which processes there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Hosts and addresses.
    pub selector: Selector,
    /// Which processes of those hosts; `None` is any. Judged at the end where the process lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Where it stands.
    #[serde(skip)]
    pub span: Span,
}

/// One rule. Enforced at both ends: on hosts in `from` when they connect, on hosts in `to` when they accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// `audit` or `draft` before the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<RuleMode>,
    /// What it does.
    pub effect: Effect,
    /// Who connects.
    pub from: End,
    /// Who accepts.
    pub to: End,
    /// Which services; never empty, `any` is spelled out.
    #[schemars(length(min = 1))]
    pub services: Vec<Service>,
    /// What follows.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
    /// Where the rule stands.
    #[serde(skip)]
    pub span: Span,
}

/// What may follow a rule.
#[derive(
    Clone, Debug, std::default::Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// `id="..."`: the stable id. Without it one is derived from what the rule says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Word>,
    /// `reason="..."`: why the rule exists, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Word>,
    /// `owner="..."`: who answers for it, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Word>,
    /// `until DATE`: when the rule ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// `existing keep|revoke`; `None` is keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing: Option<Existing>,
    /// `log`: report every flow that this rule decides, allowed ones too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub log: bool,
}

impl Options {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `default allow|deny in|out`: the verdict where no rule of any tier matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Default {
    /// What it says.
    pub answer: Answer,
    /// Of which direction.
    pub way: Way,
}

/// What stays allowed whatever any rule says, and in lockdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Failsafe {
    /// `failsafe none`: nothing, explicitly.
    None,
    /// `failsafe FROM -> TO : SERVICES`
    Flows(Box<Flows>),
}

/// From whom to whom by which services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flows {
    /// Who connects.
    pub from: End,
    /// Who accepts.
    pub to: End,
    /// Which services; never empty.
    #[schemars(length(min = 1))]
    pub services: Vec<Service>,
}

/// `test allow|deny FROM -> TO : SERVICES`: what the policy must say of every such flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// What must be the answer.
    pub answer: Answer,
    /// Of which flows.
    pub flows: Flows,
    /// Where the test stands.
    #[serde(skip)]
    pub span: Span,
}
