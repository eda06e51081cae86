//! Selectors from near: which addresses of this host a selector means.

use std::collections::BTreeMap;

use image::AddressSet;
use verdict::Address;

use super::{needed, passes};
use crate::{
    facts::Here,
    inventory::{Host, Inventory},
    policy::Policy,
    syntax::{Expression, Meaning, Selector},
};

/// Which local addresses of this host a selector means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Near {
    /// None: the selector does not mean this host.
    Never,
    /// The whole host.
    Always,
    /// Some addresses, which need not all be this host's; neither none nor all.
    At(AddressSet),
}

/// The host that is asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Eye<'a> {
    /// What the inventory says of it; `None` for a host, or an address, that it does not know.
    pub(crate) host: Option<&'a Host>,
    /// Whether it is the host that enforces.
    pub(crate) me: bool,
}

impl<'a> Eye<'a> {
    /// The host that enforces.
    pub(crate) fn here(inventory: &'a Inventory, here: &Here) -> Self {
        Self { host: here.index.and_then(|index| inventory.host(index)), me: true }
    }
}

/// What the names of a document mean from near.
pub(crate) type NearNames = BTreeMap<String, Near>;

impl Near {
    fn from_set(set: AddressSet) -> Self {
        if set.is_empty() {
            Self::Never
        } else if set == AddressSet::all() {
            Self::Always
        } else {
            Self::At(set)
        }
    }

    fn whole(holds: bool) -> Self {
        if holds { Self::Always } else { Self::Never }
    }

    pub(crate) fn not(&self) -> Self {
        match self {
            Self::Never => Self::Always,
            Self::Always => Self::Never,
            Self::At(set) => Self::At(set.complement()),
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never, _) | (_, Self::Never) => Self::Never,
            (Self::Always, other) | (other, Self::Always) => other,
            (Self::At(a), Self::At(b)) => Self::from_set(a.intersection(&b)),
        }
    }

    /// What any of them means. A list may have a million members: they become one set at once, not one by one.
    fn any(members: impl Iterator<Item = Self>) -> Self {
        let mut sets = Vec::new();
        for member in members {
            match member {
                Self::Always => return Self::Always,
                Self::Never => {}
                Self::At(set) => sets.push(set),
            }
        }
        Self::from_set(AddressSet::from_ranges(sets.iter().flat_map(AddressSet::ranges)))
    }

    /// The names of `policy`, worked out in order so that a chain of any length is not recursed into.
    pub(crate) fn names(policy: &Policy, eye: Eye<'_>) -> NearNames {
        let mut names = NearNames::new();
        for name in policy.names_in_order() {
            if let Meaning::Selector(selector) = &name.means {
                let near = Self::of(selector, &names, eye);
                names.insert(name.name.text.clone(), near);
            }
        }
        names
    }

    /// What `selector` means by itself: the names it uses are worked out for it alone.
    pub(crate) fn with_names(selector: &Selector, policy: &Policy, eye: Eye<'_>) -> Self {
        let mut names = NearNames::new();
        for (name, meant) in needed(selector, policy) {
            let near = Self::of(meant, &names, eye);
            names.insert(name.name.text.clone(), near);
        }
        Self::of(selector, &names, eye)
    }

    /// What `selector` means, given the names it uses.
    pub(crate) fn of(selector: &Selector, names: &NearNames, eye: Eye<'_>) -> Self {
        let of = |selector: &Selector| Self::of(selector, names, eye);
        match &*selector.expression {
            Expression::Any => Self::Always,
            Expression::Me => Self::whole(eye.me),
            Expression::Named(word) => match names.get(word) {
                Some(near) => near.clone(),
                None => Self::whole(
                    eye.host.is_some_and(|host| host.id == *word || host.names.contains(word)),
                ),
            },
            Expression::Addresses(addresses) => {
                let ranges = addresses.ranges();
                Self::from_set(AddressSet::from_ranges(
                    ranges.map(|(a, b)| (Address::from_bits(a), Address::from_bits(b))),
                ))
            }
            Expression::Label { key, test } => {
                Self::whole(eye.host.is_some_and(|host| passes(host, key, test)))
            }
            Expression::Not(inner) => of(inner).not(),
            Expression::AllOf(members) => {
                members.iter().fold(Self::Always, |all, member| all.and(of(member)))
            }
            Expression::AnyOf(members) => Self::any(members.iter().map(of)),
            Expression::Except(from, without) => of(from).and(of(without).not()),
        }
    }

    /// The addresses of `domain` that are meant.
    pub(crate) fn within(&self, domain: &AddressSet) -> AddressSet {
        match self {
            Self::Never => AddressSet::new(),
            Self::Always => domain.clone(),
            Self::At(set) => set.intersection(domain),
        }
    }

    fn contains(&self, address: Address) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::At(set) => set.contains(address),
        }
    }

    /// Whether one of the host's addresses that others can reach is meant. A host whose addresses nobody knows stands
    /// at the unspecified ones, so that `0.0.0.0/0` means it and `10.0.0.0/8` does not.
    pub(crate) fn means_outside(&self, here: &Here) -> bool {
        if here.own.is_empty() {
            return self.contains(Address::UNSPECIFIED_V4)
                || self.contains(Address::UNSPECIFIED_V6);
        }
        here.own.iter().any(|&address| self.contains(address))
    }

    /// Whether a loopback address is meant; every host has all of them.
    pub(crate) fn means_loopback(&self) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::At(set) => !set.intersection(AddressSet::loopback()).is_empty(),
        }
    }

    /// Whether a rule that ends here says anything about this host. Where nobody knows the host's addresses, any may be
    /// its own.
    pub(crate) fn may_be_local(&self, here: &Here) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::At(_) => here.own.is_empty() || self.means_outside(here) || self.means_loopback(),
        }
    }
}
