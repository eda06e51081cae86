//! A document, seen from hosts: whom it concerns, and whom its rules speak of. What the views keep of a document: its text
//! is in the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use policy::syntax::{End, Failsafe, Statement};
use prost::Message;
use wire::sync::{Manifest, Piece};

use super::{
    meant::{Meant, Names},
    selectors::{SelectorNumber, Selectors, Use},
};
use crate::{digest::Digest, edition::Paper};

/// A document's number, as long as a version at hand has it.
pub(super) type LeafNumber = u32;

/// Some of the digest of a text.
type Short = u128;

/// What a rule has at its ends.
pub(super) type Ends = (SelectorNumber, SelectorNumber);

/// A document.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) name: String,
    /// Its envelope.
    pub(super) piece: Digest,
    /// The same as manifests name it, encoded as one of their documents.
    pub(super) entry: Box<[u8]>,
    /// The digest of its payload, by which snapshots list it.
    pub(super) payload: String,
    /// Whom it concerns, as its snapshot says; `None` for everybody.
    pub(super) listed: Option<String>,
    /// That is what the document says itself.
    pub(super) agreed: bool,
    /// The same.
    pub(super) concerns: Option<SelectorNumber>,
    /// The label keys that it asks for: numbers of the words, ascending.
    pub(super) keys: Box<[u32]>,
    /// Hosts that it calls by a name, sorted.
    pub(super) words: Box<[String]>,
    /// Names of the documents that it delegates.
    pub(super) delegates: Box<[String]>,
    /// Digests of its rules with both ends, ascending; those of failsafe lines, too.
    rules: Box<[(Short, SelectorNumber, SelectorNumber)]>,
    /// What a rule has at its other end, by what it has at one; ascending, each once.
    opposite: Box<[Ends]>,
    /// What holds for all of its rules.
    frame: Short,
    /// What is everybody's; `None` if nothing is.
    general: Option<Short>,
}

/// Whom the way from one version to the next touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    Everybody,
    /// Whom one of these selects.
    Those {
        ends: BTreeSet<SelectorNumber>,
        /// The rules that came or went and have them.
        rules: BTreeSet<Ends>,
    },
}

impl Touch {
    /// Nobody, so far.
    pub(super) fn nobody() -> Self {
        Self::Those { ends: BTreeSet::new(), rules: BTreeSet::new() }
    }

    /// The rules that came or went; `None` where that is not all.
    pub(super) fn rules(&self) -> Option<Arc<[Ends]>> {
        match self {
            Self::Everybody => None,
            Self::Those { ends: _, rules } => Some(rules.iter().copied().collect()),
        }
    }

    /// Adds whom it touches that `new` takes the place of `old`, where there are such.
    pub(super) fn add(&mut self, old: Option<&Leaf>, new: Option<&Leaf>) {
        let Self::Those { ends, rules } = self else { return };
        if let (Some(old), Some(new)) = (old, new)
            && old.piece == new.piece
        {
            return;
        }
        let general = |leaf: Option<&Leaf>| leaf.and_then(|it| it.general);
        if general(old) != general(new) {
            *self = Self::Everybody;
            return;
        }
        let framed = matches!((old, new), (Some(old), Some(new)) if old.frame == new.frame);
        let of = |leaf: Option<&Leaf>| leaf.map(|it| it.rules.clone()).unwrap_or_default();
        let (old, new) = (of(old), of(new));
        for (mine, other) in [(&old, &new), (&new, &old)] {
            let changed = mine.iter().filter(|it| !framed || other.binary_search(it).is_err());
            for &(_, from, to) in changed {
                ends.extend([from, to]);
                rules.insert((from, to));
            }
        }
    }
}

fn short(text: &str) -> Short {
    u128::from_be_bytes(Digest::of(text.as_bytes()).half())
}

impl Leaf {
    /// Reads a document that takes the place of `before`, if of any. Its selectors are numbered, and nobody has them yet.
    pub(super) fn of(
        paper: &Paper,
        payload: String,
        before: Option<&Self>,
        selectors: &mut Selectors,
    ) -> Self {
        let document = &paper.document;
        let names = Names::of(document);
        let frame_text = frame_of(paper);
        let frame = short(&frame_text);
        let number = |end: &End, selectors: &mut Selectors| {
            // What is too much to be spelled out may be anybody.
            selectors.number(&names.spelled_out(&end.selector).unwrap_or(Meant::Any))
        };
        // What was said before with names that mean the same has the same ends.
        let before = before.filter(|leaf| leaf.frame == frame);
        let mut ends = |rule: Short, from: &End, to: &End| {
            let known = before.and_then(|leaf| leaf.ends(rule));
            known.unwrap_or_else(|| (number(from, selectors), number(to, selectors)))
        };
        let (mut rules, mut general) = (Vec::new(), BTreeSet::new());
        for (_, said) in document.statements() {
            match said {
                Statement::Rule(rule) => {
                    let text = short(&policy::statement(said));
                    let (from, to) = ends(text, &rule.from, &rule.to);
                    rules.push((text, from, to));
                }
                Statement::Failsafe(Failsafe::Flows(flows)) => {
                    let text = policy::statement(said);
                    let (from, to) = ends(short(&text), &flows.from, &flows.to);
                    rules.push((short(&text), from, to));
                    general.insert(text);
                }
                Statement::Failsafe(Failsafe::None) | Statement::Default(_) => {
                    general.insert(policy::statement(said));
                }
                Statement::Tier(_)
                | Statement::Mode(_)
                | Statement::Inbound(_)
                | Statement::Name(_)
                | Statement::Test(_) => {}
            }
        }
        if !general.is_empty() {
            // A default depends on the document's mode, and on how it answers.
            general.insert(frame_text);
        }
        rules.sort_unstable();
        rules.dedup();
        let both = rules.iter().flat_map(|&(_, from, to)| [(from, to), (to, from)]);
        let mut opposite: Vec<Ends> = both.collect();
        opposite.sort_unstable();
        opposite.dedup();
        let listed = paper.listed.concerns.clone();
        let concerns = listed.as_deref().and_then(|text| Meant::read(text).ok());
        let words = &mut selectors.vocabulary.words;
        let mut keys: Vec<u32> =
            paper.label_keys().into_iter().map(|key| words.number(key)).collect();
        keys.sort_unstable();
        Self {
            name: paper.name.clone(),
            piece: paper.piece,
            entry: entry(paper),
            payload,
            concerns: concerns.map(|meant| selectors.number(&meant)),
            listed,
            agreed: paper.agreed,
            keys: keys.into(),
            words: document.hosts().into_iter().map(str::to_owned).collect(),
            delegates: paper.delegates.clone().into(),
            rules: rules.into(),
            opposite: opposite.into(),
            frame,
            general: (!general.is_empty()).then(|| short(&format!("{general:?}"))),
        }
    }

    /// What a rule has at its ends, if the document has it.
    fn ends(&self, rule: Short) -> Option<Ends> {
        let at = self.rules.partition_point(|(text, _, _)| *text < rule);
        let (text, from, to) = *self.rules.get(at)?;
        (text == rule).then_some((from, to))
    }

    /// What rules have at the other end that have `selector` at one.
    pub(super) fn opposite(
        &self,
        selector: SelectorNumber,
    ) -> impl Iterator<Item = SelectorNumber> {
        let from = self.opposite.partition_point(|(one, _)| *one < selector);
        let rest = self.opposite.get(from..).unwrap_or_default();
        rest.iter().take_while(move |(one, _)| *one == selector).map(|(_, other)| *other)
    }

    /// Says that the document has its selectors from now on, or not any more.
    fn have(&self, number: LeafNumber, selectors: &mut Selectors, on: bool) {
        let mut ends: Vec<SelectorNumber> = self.opposite.iter().map(|(one, _)| *one).collect();
        ends.dedup();
        ends.into_iter().for_each(|end| selectors.have(end, Use::Rule, number, on));
        if let Some(concerns) = self.concerns {
            selectors.have(concerns, Use::Concern, number, on);
        }
    }
}

/// What holds for all rules of a document.
fn frame_of(paper: &Paper) -> String {
    let mut frame = format!("{:?}\n", paper.audience);
    for (_, said) in paper.document.statements() {
        match said {
            Statement::Tier(_)
            | Statement::Mode(_)
            | Statement::Inbound(_)
            | Statement::Name(_) => {
                frame.push_str(&policy::statement(said));
                frame.push('\n');
            }
            Statement::Rule(_)
            | Statement::Failsafe(_)
            | Statement::Default(_)
            | Statement::Test(_) => {}
        }
    }
    frame
}

fn entry(paper: &Paper) -> Box<[u8]> {
    let document = Piece {
        digest: paper.piece.0.to_vec(),
        bytes: paper.bytes,
        name: paper.name.clone(),
        sections: 0,
    };
    Manifest { documents: vec![document], ..Manifest::default() }.encode_to_vec().into()
}

/// The documents of the versions at hand.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    /// Each with how many versions have it.
    all: Vec<Option<(Arc<Leaf>, usize)>>,
    free: Vec<LeafNumber>,
    /// The same document may be listed as one that concerns others.
    by_piece: BTreeMap<Digest, Vec<LeafNumber>>,
}

impl Leaves {
    /// The documents of an envelope.
    pub(super) fn find(&self, piece: &Digest) -> &[LeafNumber] {
        self.by_piece.get(piece).map_or(&[], |numbers| numbers)
    }

    pub(super) fn leaf(&self, number: LeafNumber) -> Option<&Arc<Leaf>> {
        self.all.get(number as usize)?.as_ref().map(|(leaf, _)| leaf)
    }

    /// The label keys that some documents ask for: numbers of the words, ascending.
    pub(super) fn keys(&self, of: &[LeafNumber]) -> Vec<u32> {
        // Most documents ask for the same.
        let keys: BTreeSet<&[u32]> =
            of.iter().filter_map(|leaf| Some(&*self.leaf(*leaf)?.keys)).collect();
        let keys: BTreeSet<u32> = keys.into_iter().flatten().copied().collect();
        keys.into_iter().collect()
    }

    /// Takes a document in, which no version has yet.
    pub(super) fn put(&mut self, leaf: Leaf) -> LeafNumber {
        let number = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            LeafNumber::try_from(self.all.len() - 1).expect("documents are fewer than 2^32")
        });
        self.by_piece.entry(leaf.piece).or_default().push(number);
        if let Some(place) = self.all.get_mut(number as usize) {
            *place = Some((Arc::new(leaf), 0));
        }
        number
    }

    /// A version has a document from now on.
    pub(super) fn hold(&mut self, number: LeafNumber, selectors: &mut Selectors) {
        let place = self.all.get_mut(number as usize).and_then(Option::as_mut);
        let Some((leaf, versions)) = place else { return };
        if *versions == 0 {
            leaf.have(number, selectors, true);
        }
        *versions += 1;
    }

    /// A version does not have it any more: it is forgotten when none has.
    pub(super) fn release(&mut self, number: LeafNumber, selectors: &mut Selectors) {
        let Some(place) = self.all.get_mut(number as usize) else { return };
        let Some((leaf, versions)) = place else { return };
        *versions -= 1;
        if *versions != 0 {
            return;
        }
        let leaf = Arc::clone(leaf);
        *place = None;
        self.free.push(number);
        leaf.have(number, selectors, false);
        if let Some(numbers) = self.by_piece.get_mut(&leaf.piece) {
            numbers.retain(|it| *it != number);
            if numbers.is_empty() {
                self.by_piece.remove(&leaf.piece);
            }
        }
    }
}
