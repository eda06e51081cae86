//! What an address must fulfil all at once, and whether it can.

use std::collections::{BTreeMap, BTreeSet};

use image::AddressSet;

/// Tests of labels and addresses that must all hold. Never contradictory in itself: the constructors and `and` give
/// `None` instead.
#[derive(Clone, Debug, Default)]
pub(super) struct Conjunction<'a> {
    labels: BTreeMap<&'a str, Allowed<'a>>,
    /// `None`: any address.
    addresses: Option<AddressSet>,
}

/// What the label of one key may be.
#[derive(Clone, Debug)]
enum Allowed<'a> {
    /// Anything but these, or no label at all.
    Not(BTreeSet<&'a str>),
    /// Some value, but none of these.
    PresentNot(BTreeSet<&'a str>),
    /// One of these.
    OneOf(BTreeSet<&'a str>),
    /// No label.
    Absent,
}

impl<'a> Conjunction<'a> {
    pub(super) fn of_label(key: &'a str, values: &[&'a str], inside: bool) -> Option<Self> {
        let values = values.iter().copied().collect();
        Self::of(key, if inside { Allowed::OneOf(values) } else { Allowed::Not(values) })
    }

    pub(super) fn of_presence(key: &'a str, inside: bool) -> Option<Self> {
        Self::of(key, if inside { Allowed::PresentNot(BTreeSet::new()) } else { Allowed::Absent })
    }

    pub(super) fn of_addresses(set: AddressSet) -> Option<Self> {
        (!set.is_empty()).then(|| Self { labels: BTreeMap::new(), addresses: Some(set) })
    }

    fn of(key: &'a str, allowed: Allowed<'a>) -> Option<Self> {
        Some(Self { labels: BTreeMap::from([(key, allowed)]), addresses: None })
    }

    /// Both, if both can hold.
    pub(super) fn and(&self, other: &Self) -> Option<Self> {
        let mut labels = self.labels.clone();
        for (&key, allowed) in &other.labels {
            let both = match labels.get(key) {
                Some(own) => own.and(allowed)?,
                None => allowed.clone(),
            };
            labels.insert(key, both);
        }
        let addresses = match (&self.addresses, &other.addresses) {
            (Some(a), Some(b)) => {
                Some(a.intersection(b)).filter(|both| !both.is_empty()).map(Some)?
            }
            (Some(set), None) | (None, Some(set)) => Some(set.clone()),
            (None, None) => None,
        };
        Some(Self { labels, addresses })
    }
}

impl<'a> Allowed<'a> {
    fn and(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Absent, Self::Absent | Self::Not(_)) | (Self::Not(_), Self::Absent) => {
                Some(Self::Absent)
            }
            (Self::Absent, Self::PresentNot(_) | Self::OneOf(_))
            | (Self::PresentNot(_) | Self::OneOf(_), Self::Absent) => None,
            (Self::Not(a), Self::Not(b)) => Some(Self::Not(a | b)),
            (Self::PresentNot(a), Self::PresentNot(b) | Self::Not(b))
            | (Self::Not(a), Self::PresentNot(b)) => Some(Self::PresentNot(a | b)),
            (Self::OneOf(a), Self::OneOf(b)) => one_of(a & b),
            (Self::OneOf(a), Self::Not(b) | Self::PresentNot(b))
            | (Self::Not(b) | Self::PresentNot(b), Self::OneOf(a)) => one_of(a - b),
        }
    }
}

fn one_of(values: BTreeSet<&str>) -> Option<Allowed<'_>> {
    (!values.is_empty()).then_some(Allowed::OneOf(values))
}
