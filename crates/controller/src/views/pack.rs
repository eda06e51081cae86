//! A version of the policy, seen from hosts: whom each document concerns, and whom its rules speak of.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use policy::{
    Document,
    syntax::{End, Failsafe, Statement},
};
use wire::sync::Piece;

use super::meant::Meant;
use crate::{
    digest::Digest,
    edition::{Edition, Paper},
    model::Model,
    records::Step,
};

/// A selector's number.
pub(super) type SelectorNumber = u32;

/// All distinct selectors of the versions at hand.
#[derive(Clone, Debug, Default)]
pub(super) struct Selectors {
    numbers: BTreeMap<Meant, SelectorNumber>,
    pub(super) all: Vec<Meant>,
}

impl Selectors {
    pub(super) fn number(&mut self, meant: Meant) -> SelectorNumber {
        if let Some(&number) = self.numbers.get(&meant) {
            return number;
        }
        let number = SelectorNumber::try_from(self.all.len()).expect("fewer than 2^32 selectors");
        self.all.push(meant.clone());
        self.numbers.insert(meant, number);
        number
    }
}

/// A document, seen from hosts.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) paper: Arc<Paper>,
    /// Whom it concerns; `None` for everybody.
    pub(super) concerns: Option<SelectorNumber>,
    /// The label keys that it asks for.
    pub(super) keys: BTreeSet<String>,
    /// Places in the version of the documents that it delegates.
    pub(super) delegates: Vec<usize>,
    /// Its rules as text with both ends; those of failsafe lines, too.
    rules: BTreeMap<String, (SelectorNumber, SelectorNumber)>,
    /// What holds for all of its rules, and what is everybody's.
    frame: String,
    general: BTreeSet<String>,
}

/// A version.
#[derive(Clone, Debug)]
pub(super) struct Pack {
    pub(super) step: Step,
    pub(super) edition: Arc<Edition>,
    pub(super) leaves: Vec<Leaf>,
    /// What a rule has at its other end, by what it has at one.
    pub(super) opposite: BTreeMap<SelectorNumber, Vec<SelectorNumber>>,
    /// Roots, timestamp, snapshot.
    pub(super) roots: Vec<Piece>,
    pub(super) timestamp: Piece,
    pub(super) snapshot: Piece,
}

/// Whom the way from one version to the next touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    Everybody,
    /// Whom one of these selects.
    Those(BTreeSet<SelectorNumber>),
}

impl Pack {
    pub(super) fn of(
        model: &Model,
        step: &Step,
        edition: Arc<Edition>,
        selectors: &mut Selectors,
    ) -> Self {
        let papers = &edition.documents;
        let leaves: Vec<Leaf> =
            papers.iter().map(|paper| Leaf::of(paper, papers, selectors)).collect();
        let mut opposite: BTreeMap<SelectorNumber, Vec<SelectorNumber>> = BTreeMap::new();
        for (from, to) in leaves.iter().flat_map(|leaf| leaf.rules.values()) {
            opposite.entry(*from).or_default().push(*to);
            opposite.entry(*to).or_default().push(*from);
        }
        for others in opposite.values_mut() {
            others.sort_unstable();
            others.dedup();
        }
        let piece = |digest: &Digest, name: &str| Piece {
            digest: digest.0.to_vec(),
            bytes: model.piece(digest).map_or(0, |bytes| bytes.len() as u64),
            name: name.to_owned(),
        };
        Self {
            roots: edition.pieces.roots.iter().map(|root| piece(root, "root")).collect(),
            timestamp: piece(&step.timestamp, "timestamp"),
            snapshot: piece(&edition.pieces.snapshot, "snapshot"),
            step: step.clone(),
            edition,
            leaves,
            opposite,
        }
    }

    /// The documents that a host gets: those that concern it, and those that say who may sign them.
    pub(super) fn documents(&self, concerns: impl Fn(SelectorNumber) -> bool) -> Vec<u16> {
        let mut wanted: Vec<bool> =
            self.leaves.iter().map(|leaf| leaf.concerns.is_none_or(&concerns)).collect();
        // From the documents that are delegated up to those that delegate: no deeper than there are documents.
        loop {
            let mut more = Vec::new();
            for (at, leaf) in self.leaves.iter().enumerate() {
                let own = wanted.get(at) == Some(&true);
                let below = || leaf.delegates.iter().any(|it| wanted.get(*it) == Some(&true));
                if !own && below() {
                    more.push(at);
                }
            }
            if more.is_empty() {
                break;
            }
            for at in more {
                if let Some(it) = wanted.get_mut(at) {
                    *it = true;
                }
            }
        }
        (0u16..).zip(wanted).filter_map(|(at, wanted)| wanted.then_some(at)).collect()
    }

    /// Whom it touches that this follows `before`.
    pub(super) fn touch(&self, before: &Self) -> Touch {
        let by_name = |pack: &Self| -> BTreeMap<String, Leaf> {
            pack.leaves.iter().map(|leaf| (leaf.paper.name.clone(), leaf.clone())).collect()
        };
        let (old, new) = (by_name(before), by_name(self));
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let mut those = BTreeSet::new();
        for name in names {
            let (old, new) = (old.get(name), new.get(name));
            if let (Some(old), Some(new)) = (old, new)
                && old.paper.piece == new.paper.piece
            {
                continue;
            }
            let general =
                |leaf: Option<&Leaf>| leaf.map(|it| it.general.clone()).unwrap_or_default();
            if general(old) != general(new) {
                return Touch::Everybody;
            }
            let framed = matches!((old, new), (Some(old), Some(new)) if old.frame == new.frame);
            let rules = |leaf: Option<&Leaf>| leaf.map(|it| it.rules.clone()).unwrap_or_default();
            let (old, new) = (rules(old), rules(new));
            let changed = old
                .iter()
                .filter(|(text, ends)| !framed || new.get(*text) != Some(*ends))
                .chain(new.iter().filter(|(text, ends)| !framed || old.get(*text) != Some(*ends)));
            those.extend(changed.flat_map(|(_, (from, to))| [*from, *to]));
        }
        Touch::Those(those)
    }
}

impl Leaf {
    fn of(paper: &Arc<Paper>, papers: &[Arc<Paper>], selectors: &mut Selectors) -> Self {
        let document = &paper.document;
        let mut number = |end: &End| {
            // What is too much to be spelled out may be anybody.
            let meant = Meant::of(&end.selector, document).unwrap_or(Meant::Any);
            selectors.number(meant)
        };
        let mut rules = BTreeMap::new();
        let (mut frame, mut general) = (format!("{:?}\n", paper.audience), BTreeSet::new());
        for (line, said) in document.statements() {
            let text = || {
                let line = policy::syntax::Line {
                    statement: Some(said.clone()),
                    comment: None,
                    span: line.span,
                };
                policy::format(&Document { lines: vec![line] })
            };
            match said {
                Statement::Rule(rule) => {
                    rules.insert(text(), (number(&rule.from), number(&rule.to)));
                }
                Statement::Failsafe(Failsafe::Flows(flows)) => {
                    rules.insert(text(), (number(&flows.from), number(&flows.to)));
                    general.insert(text());
                }
                Statement::Failsafe(Failsafe::None) | Statement::Default(_) => {
                    general.insert(text());
                }
                Statement::Tier(_)
                | Statement::Mode(_)
                | Statement::Inbound(_)
                | Statement::Name(_) => frame.push_str(&text()),
                Statement::Test(_) => {}
            }
        }
        if !general.is_empty() {
            // A default depends on the document's mode, and on how it answers.
            general.insert(frame.clone());
        }
        let concerns = paper.listed.concerns.as_deref().and_then(|text| Meant::read(text).ok());
        let place = |name: &String| papers.iter().position(|other| other.name == *name);
        Self {
            concerns: concerns.map(|meant| selectors.number(meant)),
            keys: paper.label_keys().into_iter().map(str::to_owned).collect(),
            delegates: paper.delegates.iter().filter_map(place).collect(),
            paper: Arc::clone(paper),
            rules,
            frame,
            general,
        }
    }
}
