//! A selector with its names looked up, and how a part of it holds in a world that is only partly decided.

use std::{collections::BTreeMap, rc::Rc};

use image::AddressSet;
use policy::{
    inventory::HOST_KEY,
    syntax::{Addresses, LabelTest},
};
use verdict::Address;

/// A selector.
pub(super) enum Form<'a> {
    Leaf(Part<'a>),
    Set(AddressSet),
    Not(Rc<Self>),
    All(Vec<Rc<Self>>),
    Any(Vec<Rc<Self>>),
}

/// What a selector says of one host.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    Any,
    Me,
    /// By id or by name.
    Called(&'a str),
    Label {
        key: &'a str,
        test: &'a LabelTest,
    },
}

/// Who the other end could be, as far as it is decided: one host with one of its addresses, or a stranger with one.
#[derive(Clone, Default)]
pub(super) struct World<'a> {
    /// Whether the inventory knows it.
    pub(super) known: Option<bool>,
    /// Whether it is the host that enforces.
    pub(super) me: Option<bool>,
    /// Ids and names that it has, or has not.
    pub(super) called: BTreeMap<&'a str, bool>,
    /// Its labels.
    pub(super) labels: BTreeMap<&'a str, Value<'a>>,
}

/// A label's value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// The host has no such label.
    Absent,
    /// One of those that are spoken of.
    Is(&'a str),
    /// Any other one.
    Other,
}

/// What a form means in a world: the addresses it holds for certain, and those it may hold.
#[derive(Clone)]
pub(super) struct Meant {
    pub(super) must: AddressSet,
    pub(super) may: AddressSet,
}

/// Something that a form asks of a world and that is not decided.
#[derive(Clone, Copy)]
pub(super) enum Question<'a> {
    Known,
    Me,
    Called(&'a str),
    Label(&'a str),
}

impl<'a> Form<'a> {
    pub(super) fn leaf(part: Part<'a>) -> Rc<Self> {
        Rc::new(Self::Leaf(part))
    }

    pub(super) fn set(addresses: Addresses) -> Rc<Self> {
        let ranges = addresses.ranges();
        Rc::new(Self::Set(AddressSet::from_ranges(
            ranges.map(|(a, b)| (Address::from_bits(a), Address::from_bits(b))),
        )))
    }

    pub(super) fn not(form: Rc<Self>) -> Rc<Self> {
        Rc::new(Self::Not(form))
    }

    pub(super) fn all(members: Vec<Rc<Self>>) -> Rc<Self> {
        Rc::new(Self::All(members))
    }

    pub(super) fn any(members: Vec<Rc<Self>>) -> Rc<Self> {
        Rc::new(Self::Any(members))
    }

    /// What it means in `world`; `None` once `steps` are used up. The first question it asks goes to `open`.
    pub(super) fn meant(
        &self,
        world: &World<'a>,
        open: &mut Option<Question<'a>>,
        steps: &mut u64,
    ) -> Option<Meant> {
        *steps = steps.checked_sub(1)?;
        match self {
            Self::Leaf(part) => Some(match part.holds(world) {
                Ok(true) => Meant::always(),
                Ok(false) => Meant::never(),
                Err(question) => {
                    open.get_or_insert(question);
                    Meant { must: AddressSet::new(), may: AddressSet::all() }
                }
            }),
            Self::Set(set) => Some(Meant { must: set.clone(), may: set.clone() }),
            Self::Not(form) => {
                let Meant { must, may } = form.meant(world, open, steps)?;
                Some(Meant { must: may.complement(), may: must.complement() })
            }
            Self::All(members) => {
                let mut all = Meant::always();
                for member in members {
                    if all.may.is_empty() {
                        break;
                    }
                    let Meant { must, may } = member.meant(world, open, steps)?;
                    all = Meant {
                        must: all.must.intersection(&must),
                        may: all.may.intersection(&may),
                    };
                }
                Some(all)
            }
            Self::Any(members) => {
                let mut any = Meant::never();
                // Sets are joined at once: one by one would cost the square of their number.
                let sets = members.iter().filter_map(|member| match &**member {
                    Self::Set(set) => Some(set),
                    Self::Leaf(_) | Self::Not(_) | Self::All(_) | Self::Any(_) => None,
                });
                let joined = AddressSet::from_ranges(sets.flat_map(AddressSet::ranges));
                any = any.or(&Meant { must: joined.clone(), may: joined });
                for member in members {
                    if matches!(**member, Self::Set(_)) {
                        *steps = steps.checked_sub(1)?;
                        continue;
                    }
                    any = any.or(&member.meant(world, open, steps)?);
                    if any.must == AddressSet::all() {
                        break;
                    }
                }
                Some(any)
            }
        }
    }

    /// Every value that labels are tested for, by key.
    pub(super) fn values(&self, found: &mut BTreeMap<&'a str, Vec<&'a str>>) {
        match self {
            Self::Leaf(Part::Label { key, test }) => {
                let values = found.entry(key).or_default();
                match test {
                    LabelTest::Is(value) | LabelTest::IsNot(value) => values.push(&value.text),
                    LabelTest::In(words) | LabelTest::NotIn(words) => {
                        values.extend(words.iter().map(|word| word.text.as_str()));
                    }
                    LabelTest::Present => {}
                }
            }
            Self::Leaf(Part::Any | Part::Me | Part::Called(_)) | Self::Set(_) => {}
            Self::Not(form) => form.values(found),
            Self::All(members) | Self::Any(members) => {
                members.iter().for_each(|member| member.values(found));
            }
        }
    }
}

impl Meant {
    fn always() -> Self {
        Self { must: AddressSet::all(), may: AddressSet::all() }
    }

    fn never() -> Self {
        Self { must: AddressSet::new(), may: AddressSet::new() }
    }

    fn or(&self, other: &Self) -> Self {
        Self { must: self.must.union(&other.must), may: self.may.union(&other.may) }
    }
}

impl<'a> Part<'a> {
    fn holds(self, world: &World<'a>) -> Result<bool, Question<'a>> {
        match self {
            Self::Any => Ok(true),
            Self::Me => world.me.ok_or(Question::Me),
            Self::Called(_) | Self::Label { .. } if world.known == Some(false) => Ok(false),
            Self::Called(_) | Self::Label { .. } if world.known.is_none() => Err(Question::Known),
            Self::Called(word) => {
                if world.labels.get(HOST_KEY) == Some(&Value::Is(word)) {
                    return Ok(true);
                }
                world.called.get(word).copied().ok_or(Question::Called(word))
            }
            Self::Label { key, test } => {
                if key == HOST_KEY && *test == LabelTest::Present {
                    return Ok(true);
                }
                let value = *world.labels.get(key).ok_or(Question::Label(key))?;
                let is = |word: &policy::syntax::Word| value == Value::Is(&word.text);
                Ok(match test {
                    LabelTest::Is(word) => is(word),
                    LabelTest::IsNot(word) => !is(word),
                    LabelTest::In(words) => words.iter().any(is),
                    LabelTest::NotIn(words) => !words.iter().any(is),
                    LabelTest::Present => value != Value::Absent,
                })
            }
        }
    }
}
