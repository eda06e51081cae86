//! Who: sets of hosts and addresses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Addresses, Word};
use crate::span::Span;

/// A set of hosts and addresses, with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Selector {
    /// What is selected.
    pub expression: Box<Expression>,
    /// Where it stands.
    #[serde(skip)]
    pub span: Span,
}

impl Selector {
    /// At `span`.
    pub fn new(expression: Expression, span: Span) -> Self {
        Self { expression: Box::new(expression), span }
    }

    /// Calls `look` with it and every selector in it, outer ones first. The parser bounds the nesting.
    pub fn each<'a>(&'a self, look: &mut impl FnMut(&'a Self)) {
        look(self);
        match &*self.expression {
            Expression::Any
            | Expression::Me
            | Expression::Named(_)
            | Expression::Addresses(_)
            | Expression::Label { .. } => {}
            Expression::Not(inner) => inner.each(look),
            Expression::AllOf(members) | Expression::AnyOf(members) => {
                members.iter().for_each(|member| member.each(look));
            }
            Expression::Except(from, without) => {
                from.each(look);
                without.each(look);
            }
        }
    }

    /// The bare words in it: names of the document, and hosts.
    pub fn words(&self) -> Vec<&str> {
        let mut words = Vec::new();
        self.each(&mut |selector| {
            if let Expression::Named(word) = &*selector.expression {
                words.push(word.as_str());
            }
        });
        words
    }

    /// The bare words, if it is nothing but a list of them.
    pub(crate) fn as_names(&self) -> Option<Vec<(&str, Span)>> {
        let members = if let Expression::AnyOf(members) = &*self.expression {
            members
        } else {
            std::slice::from_ref(self)
        };
        members
            .iter()
            .map(|member| {
                if let Expression::Named(name) = &*member.expression {
                    Some((name.as_str(), member.span))
                } else {
                    None
                }
            })
            .collect()
    }
}

/// What a selector can be. It stands for a set of addresses: a host stands for all addresses that the inventory gives
/// it, a label test for all hosts that pass it, and `not` is the complement among all addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expression {
    /// `any`: every address.
    Any,
    /// `me`: the host that enforces.
    Me,
    /// A bare word: a name of the document if it defines one, else a host of the inventory, by id or by name.
    Named(String),
    /// An address, a prefix or a range.
    Addresses(Addresses),
    /// A test of a label. The key `host` is the host's id.
    Label {
        /// The label's key.
        key: Word,
        /// What its value must be.
        test: LabelTest,
    },
    /// `not S`
    Not(Selector),
    /// `S & S`; at least two.
    AllOf(#[schemars(length(min = 2))] Vec<Selector>),
    /// `S, S` or `S | S`; at least two.
    AnyOf(#[schemars(length(min = 2))] Vec<Selector>),
    /// `S except S`: the first without the second.
    Except(Selector, Selector),
}

/// What a label's value must be. Hosts of the inventory only: an address that belongs to no host passes none of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LabelTest {
    /// `key=value`
    Is(Word),
    /// `key!=value`: hosts without the label, too.
    IsNot(Word),
    /// `key in (value, ...)`; never empty.
    In(#[schemars(length(min = 1))] Vec<Word>),
    /// `key not in (value, ...)`: hosts without the label, too; never empty.
    NotIn(#[schemars(length(min = 1))] Vec<Word>),
    /// `has key`
    Present,
}
