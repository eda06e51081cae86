//! Selectors, with the names of their documents spelled out.
//!
//! A selector stands for a set of addresses, and is asked about one address at a time, with whose it is: that decides
//! every leaf, and so the whole. Where it is asked about all addresses at once it is enough to ask about one of each
//! stretch between two borders of the addresses that are written in it.

use std::collections::BTreeMap;

use policy::{
    Diagnostics, Document, Severity,
    inventory::HOST_KEY,
    syntax::{Addresses, Expression, LabelTest, Meaning, Selector, Statement, Word},
};
use verdict::Address;

use crate::records::HostRecord;

/// A selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meant {
    /// `any`
    Any,
    /// `me`
    Me,
    /// A host, by its id or another of its names.
    Host(String),
    /// Addresses, as inclusive ranges.
    Addresses(Vec<(u128, u128)>),
    /// A label with one of these values; any value where there are none. The key is not `host`.
    Label(String, Vec<String>),
    /// A host with one of these ids.
    Id(Vec<String>),
    /// A host of the inventory, whichever.
    Known,
    /// The complement.
    Not(Box<Self>),
    /// All of them.
    All(Vec<Self>),
    /// One of them.
    Either(Vec<Self>),
}

/// How deep selectors are nested at most once names are spelled out: the parser's limit, and names in names.
const DEPTH_MAX: usize = 256;
/// Leaves of one selector once its names are spelled out.
const LEAVES_MAX: usize = 1 << 16;

/// Whose an address is.
#[derive(Clone, Copy, Debug)]
struct Owner<'a> {
    id: &'a str,
    names: &'a [String],
    labels: &'a BTreeMap<String, String>,
}

/// A place where addresses are asked about.
trait Whose {
    /// Whether it is the host of this id or name.
    fn is_host(&self, word: &str) -> bool;
    /// Whether it is a host of one of these ids.
    fn has_id(&self, ids: &[String]) -> bool;
    /// Whether it is a host with this label, and one of these values if there are any.
    fn has_label(&self, key: &str, values: &[String]) -> bool;
    /// Whether it is a host of the inventory.
    fn is_known(&self) -> bool;
    /// Whether it is the host that enforces.
    fn is_me(&self) -> bool;
}

impl Whose for Owner<'_> {
    fn is_host(&self, word: &str) -> bool {
        self.id == word || self.names.iter().any(|name| name == word)
    }

    fn has_id(&self, ids: &[String]) -> bool {
        ids.iter().any(|id| id == self.id)
    }

    fn has_label(&self, key: &str, values: &[String]) -> bool {
        let value = self.labels.get(key);
        value.is_some_and(|value| values.is_empty() || values.contains(value))
    }

    fn is_known(&self) -> bool {
        true
    }

    fn is_me(&self) -> bool {
        false
    }
}

impl Meant {
    /// Reads a selector on its own. Bare words are hosts.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut report = Diagnostics::default();
        let parsed = policy::parse(format!("name it = {text}").as_bytes(), 0, &mut report);
        let wrong = report.reported().iter().find(|it| it.severity() == Severity::Error);
        if let Some(wrong) = wrong {
            return Err(wrong.message.clone());
        }
        let document = parsed.document;
        let mut said = document.statements();
        match (said.next(), said.next()) {
            (Some((_, Statement::Name(name))), None) => match &name.means {
                Meaning::Selector(selector) => {
                    Names::default().spelled_out(selector).ok_or_else(too_much)
                }
                Meaning::Services(_) => Err("it is a service".to_owned()),
            },
            _ => Err("it is more than one selector".to_owned()),
        }
    }

    /// Whether a host is meant, one of its addresses or all of it: what `policy::Concerned` says.
    pub fn means(&self, id: &str, host: &HostRecord) -> bool {
        let owner = Owner { id, names: &host.names, labels: &host.labels };
        self.concerns(&owner, &host.addresses)
    }

    /// Whether a rule that has this at one end says anything about the host `me` that has these addresses, and those of
    /// loopback. Where nobody knows its addresses, any may be its own.
    fn concerns(&self, me: &impl Whose, addresses: &[Address]) -> bool {
        let own = addresses.iter().filter(|address| !address.is_loopback()).map(|it| it.bits());
        let mut own = own.peekable();
        let here = Here(me);
        if own.peek().is_none() {
            return self.borders(|_| true).into_iter().any(|at| self.holds(&here, at));
        }
        own.any(|at| self.holds(&here, at)) || self.means_loopback(me)
    }

    /// Whether a loopback address of the host `me` is meant.
    fn means_loopback(&self, me: &impl Whose) -> bool {
        let loopback = |at: u128| Address::from_bits(at).is_loopback();
        self.borders(loopback).into_iter().any(|at| self.holds(&Here(me), at))
    }

    /// Whether `address` is meant, whose it is being known.
    fn holds(&self, whose: &impl Whose, address: u128) -> bool {
        match self {
            Self::Any => true,
            Self::Me => whose.is_me(),
            Self::Host(word) => whose.is_host(word),
            Self::Addresses(ranges) => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&address))
            }
            Self::Label(key, values) => whose.has_label(key, values),
            Self::Id(ids) => whose.has_id(ids),
            Self::Known => whose.is_known(),
            Self::Not(inner) => !inner.holds(whose, address),
            Self::All(members) => members.iter().all(|member| member.holds(whose, address)),
            Self::Either(members) => members.iter().any(|member| member.holds(whose, address)),
        }
    }

    /// One address of each stretch that this can tell from the next, among those that pass.
    fn borders(&self, pass: impl Fn(u128) -> bool) -> Vec<u128> {
        let mut borders = vec![0, Address::LOOPBACK_V4.bits() - 1, Address::LOOPBACK_V6.bits()];
        self.each_range(&mut |first, last| {
            borders.push(first);
            borders.extend(last.checked_add(1));
        });
        borders.retain(|&at| pass(at));
        borders.sort_unstable();
        borders.dedup();
        borders
    }

    /// Calls `look` with each range of addresses that is written in it.
    pub(crate) fn each_range(&self, look: &mut impl FnMut(u128, u128)) {
        self.each(&mut |leaf| {
            if let Self::Addresses(ranges) = leaf {
                ranges.iter().for_each(|&(first, last)| look(first, last));
            }
        });
    }

    /// Calls `look` with this and everything in it.
    pub(crate) fn each(&self, look: &mut impl FnMut(&Self)) {
        look(self);
        match self {
            Self::Any
            | Self::Me
            | Self::Host(_)
            | Self::Addresses(_)
            | Self::Label(..)
            | Self::Id(_)
            | Self::Known => {}
            Self::Not(inner) => inner.each(look),
            Self::All(members) | Self::Either(members) => {
                members.iter().for_each(|member| member.each(look));
            }
        }
    }
}

fn too_much() -> String {
    format!("it has more than {LEAVES_MAX} parts")
}

/// The host that enforces.
struct Here<'a, T>(&'a T);

impl<T: Whose> Whose for Here<'_, T> {
    fn is_host(&self, word: &str) -> bool {
        self.0.is_host(word)
    }

    fn has_id(&self, ids: &[String]) -> bool {
        self.0.has_id(ids)
    }

    fn has_label(&self, key: &str, values: &[String]) -> bool {
        self.0.has_label(key, values)
    }

    fn is_known(&self) -> bool {
        self.0.is_known()
    }

    fn is_me(&self) -> bool {
        true
    }
}

/// What the names of a document mean.
#[derive(Clone, Debug, Default)]
pub(super) struct Names<'a>(BTreeMap<&'a str, &'a Meaning>);

impl<'a> Names<'a> {
    pub(super) fn of(document: &'a Document) -> Self {
        Self(document.names().map(|it| (it.name.text.as_str(), &it.means)).collect())
    }

    /// A selector of the document; `None` if it is too much once the names are spelled out.
    pub(super) fn spelled_out(&self, selector: &Selector) -> Option<Meant> {
        Spelling { names: &self.0, leaves: 0 }.of(selector, 0)
    }
}

/// Spells names out.
struct Spelling<'a> {
    names: &'a BTreeMap<&'a str, &'a Meaning>,
    leaves: usize,
}

impl Spelling<'_> {
    fn of(&mut self, selector: &Selector, depth: usize) -> Option<Meant> {
        self.leaves += 1;
        if self.leaves > LEAVES_MAX || depth > DEPTH_MAX {
            return None;
        }
        let mut all = |members: &[Selector]| {
            members.iter().map(|it| self.of(it, depth + 1)).collect::<Option<Vec<_>>>()
        };
        Some(match &*selector.expression {
            Expression::Any => Meant::Any,
            Expression::Me => Meant::Me,
            Expression::Named(word) => match self.names.get(word.as_str()) {
                Some(Meaning::Selector(meant)) => return self.of(meant, depth + 1),
                Some(Meaning::Services(_)) | None => Meant::Host(word.clone()),
            },
            Expression::Addresses(addresses) => Meant::Addresses(ranges(addresses)),
            Expression::Label { key, test } => label(key, test),
            Expression::Not(inner) => Meant::Not(Box::new(self.of(inner, depth + 1)?)),
            Expression::AllOf(members) => Meant::All(sorted(all(members)?)),
            Expression::AnyOf(members) => Meant::Either(sorted(all(members)?)),
            Expression::Except(from, without) => {
                let from = self.of(from, depth + 1)?;
                let without = self.of(without, depth + 1)?;
                Meant::All(sorted(vec![from, Meant::Not(Box::new(without))]))
            }
        })
    }
}

fn ranges(addresses: &Addresses) -> Vec<(u128, u128)> {
    addresses.ranges().collect()
}

/// Order and repetition say nothing.
fn sorted(mut members: Vec<Meant>) -> Vec<Meant> {
    members.sort_unstable();
    members.dedup();
    members
}

fn label(key: &Word, test: &LabelTest) -> Meant {
    let values = |words: &[Word]| {
        let mut values: Vec<String> = words.iter().map(|word| word.text.clone()).collect();
        values.sort_unstable();
        values.dedup();
        values
    };
    let (found, not) = match test {
        LabelTest::Is(word) => (values(std::slice::from_ref(word)), false),
        LabelTest::IsNot(word) => (values(std::slice::from_ref(word)), true),
        LabelTest::In(words) => (values(words), false),
        LabelTest::NotIn(words) => (values(words), true),
        LabelTest::Present => (Vec::new(), false),
    };
    let is = match (key.text == HOST_KEY, found.is_empty()) {
        (true, true) => Meant::Known,
        (true, false) => Meant::Id(found),
        (false, _) => Meant::Label(key.text.clone(), found),
    };
    if not {
        // Hosts without the label, too, and no address that belongs to nobody.
        return Meant::All(sorted(vec![Meant::Known, Meant::Not(Box::new(is))]));
    }
    is
}
