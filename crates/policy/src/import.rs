//! Other firewalls' rules as policies: nftables rulesets and Kubernetes network policies.
//!
//! Others look at rules in order and at packets; here deny wins whatever the order, and a connection is judged when it
//! is made. What was decided earlier is therefore taken out of what is denied later (`area`), so that order does not
//! matter any more. What cannot be expressed is left out and named by a [`Gap`]; nothing is dropped silently.

mod area;
mod fields;
mod kubernetes;
mod nftables;
mod spell;

use std::{collections::BTreeMap, fmt::Write as _};

use crate::syntax::{Document, Line, Rule, Tier, Word};

pub use kubernetes::import_network_policies;
pub use nftables::import_nftables;

/// What an import made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// One document for each tier that is needed, from the top. Gaps are comments in it.
    pub documents: Vec<(Tier, Document)>,
    /// What could not be expressed, in the order of the source.
    pub gaps: Vec<Gap>,
}

/// A construct that could not be expressed, or not exactly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {construct}: {effect}")]
pub struct Gap {
    /// Where it stands in the source, in the source's words.
    pub place: String,
    /// The construct.
    pub construct: String,
    /// What is different without it.
    pub effect: String,
}

/// Why nothing could be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Larger than the limit.
    #[error("the document has {0} bytes, more than {max}", max = crate::limits::DOCUMENT_BYTES_MAX)]
    TooLarge(usize),
    /// Not UTF-8.
    #[error("the document is not UTF-8 text: byte {0} does not belong there")]
    NotUtf8(usize),
    /// Not JSON.
    #[error("this is not JSON; `nft -j list ruleset` prints it: {0}")]
    Json(serde_json::Error),
    /// Not YAML.
    #[error("this is not YAML: {0}")]
    Yaml(String),
    /// JSON of something else.
    #[error(
        "this is not a ruleset as `nft -j list ruleset` prints it: there is no list `nftables`"
    )]
    NoRuleset,
    /// YAML without a network policy.
    #[error("there is no NetworkPolicy and no ClusterNetworkPolicy in the document")]
    NoPolicy,
    /// More than an import takes.
    #[error("{what}: more than {limit}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
}

/// Gaps while they are found.
#[derive(Debug, Default)]
struct Gaps(Vec<Gap>);

impl Gaps {
    fn push(&mut self, place: &str, construct: impl Into<String>, effect: impl Into<String>) {
        let gap =
            Gap { place: place.to_owned(), construct: construct.into(), effect: effect.into() };
        if !self.0.contains(&gap) {
            self.0.push(gap);
        }
    }

    /// As comments.
    fn lines(&self) -> Vec<Line> {
        self.0.iter().map(|gap| comment(&format!("not expressed: {gap}"))).collect()
    }
}

/// The text of a document, if it is no larger than a policy may be.
fn text_of(bytes: &[u8]) -> Result<&str, ImportError> {
    if bytes.len() > crate::limits::DOCUMENT_BYTES_MAX {
        return Err(ImportError::TooLarge(bytes.len()));
    }
    std::str::from_utf8(bytes).map_err(|error| ImportError::NotUtf8(error.valid_up_to()))
}

/// Each rule once: of those that say the same, the first, with the reasons of all. Their ids would be the same.
fn distinct(rules: Vec<Rule>) -> Vec<Rule> {
    let mut found: Vec<Rule> = Vec::with_capacity(rules.len());
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for rule in rules {
        let Rule { effect, from, to, services, .. } = &rule;
        // What a rule says, without what may follow it.
        let says = format!("{effect:?} {from:?} {to:?} {services:?}");
        let known = places.get(&says).and_then(|&at| found.get_mut(at));
        match known {
            Some(known) => {
                known.options.log |= rule.options.log;
                known.options.reason = joined(known.options.reason.take(), rule.options.reason);
            }
            None => {
                places.insert(says, found.len());
                found.push(rule);
            }
        }
    }
    found
}

/// Both reasons.
fn joined(one: Option<Word>, other: Option<Word>) -> Option<Word> {
    match (one, other) {
        (Some(mut one), Some(other)) if one != other => {
            one.text = format!("{}; {}", one.text, other.text);
            Some(one)
        }
        (one, other) => one.or(other),
    }
}

/// A comment on a line of its own. Texts of the source cannot break out of it.
fn comment(text: &str) -> Line {
    let mut plain = String::from(" ");
    for character in text.chars() {
        if character.is_control() {
            write!(plain, "{}", character.escape_default())
                .expect("writing to a String cannot fail");
        } else {
            plain.push(character);
        }
    }
    Line { comment: Some(plain), ..Line::default() }
}
