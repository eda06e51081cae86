//! What lies outside of a scope, and why.

use std::fmt;

use policy::{
    Tier,
    syntax::{Effect, Until},
};

use super::STEPS_MAX;

/// The statement that lies outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escape {
    /// Its line, and what it says; `None` where it is the document as a whole.
    pub rule: Option<(u32, String)>,
    /// Why it does.
    pub why: Why,
}

/// Why something lies outside of a scope, or is not known to lie within.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The document is no policy.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// The scope is none.
    #[error("the scope makes no sense: {0}")]
    Scope(String),
    /// Another tier.
    #[error("it is in the tier {}", .0.word())]
    Tier(Tier),
    /// Another effect.
    #[error("the scope does not allow `{}`", .0.word())]
    Effect(Effect),
    /// No end, or too late a one.
    #[error("it must end by {limit}, and {}", .end.map_or("has no `until`".to_owned(), |end| format!("ends {end}")))]
    Until {
        /// The scope's.
        limit: Until,
        /// The rule's.
        end: Option<Until>,
    },
    /// A service that the scope does not have.
    #[error("the scope does not hold {0}")]
    Service(String),
    /// Somebody whom the scope does not hold.
    #[error("its {end} holds {witness}, which the scope does not")]
    Outside {
        /// Which end.
        end: &'static str,
        /// Who, for example.
        witness: String,
    },
    /// A default would decide what no rule of the document speaks of.
    #[error("a default speaks of every flow")]
    Default,
    /// A failsafe line outranks all rules.
    #[error("the failsafe set is not the business of a delegated document")]
    Failsafe,
    /// More rules than are allowed.
    #[error("it has {found} rules with those it hands on, and the scope allows {max}")]
    Rules {
        /// Those there are.
        found: u64,
        /// Those there may be.
        max: u32,
    },
    /// A name that is defined twice, by itself, or through too many others.
    #[error("the name `{0}` is defined twice, by itself, or through too many others")]
    Name(String),
    /// A name of services where a selector stands, or the other way.
    #[error("`{0}` stands for something else than is wanted there")]
    Kind(String),
    /// The question takes too long.
    #[error("its selectors are too involved to be compared with the scope in {STEPS_MAX} steps")]
    Involved,
}

impl Why {
    /// At which end it was found.
    pub(super) fn at(self, end: &'static str) -> Self {
        match self {
            Self::Outside { end: _, witness } => Self::Outside { end, witness },
            other @ (Self::Unreadable(_)
            | Self::Scope(_)
            | Self::Tier(_)
            | Self::Effect(_)
            | Self::Until { .. }
            | Self::Service(_)
            | Self::Default
            | Self::Failsafe
            | Self::Rules { .. }
            | Self::Name(_)
            | Self::Kind(_)
            | Self::Involved) => other,
        }
    }
}

impl fmt::Display for Escape {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, said)) = &self.rule {
            write!(to, "line {line}, `{said}`: ")?;
        }
        self.why.fmt(to)
    }
}
