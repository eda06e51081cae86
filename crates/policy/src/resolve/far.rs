//! Selectors from far: the set of all addresses that a selector means, worked out over hosts as bits for as long as it
//! speaks of hosts only.

use std::collections::BTreeMap;

use image::AddressSet;
use verdict::Address;

use super::{hosts::HostBits, needed};
use crate::{
    facts::Here,
    inventory::{HostIndex, Inventory},
    policy::Policy,
    syntax::{Expression, LabelTest, Selector},
};

/// Which part of a selector's addresses a peer is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// All of them.
    Whole,
    /// Those on loopback: the rule starts at a loopback address, and only loopback can be reached from there.
    Loopback,
    /// Those elsewhere: the rule starts at an address from which loopback is not reached.
    Outside,
}

impl Part {
    pub(crate) fn of(self, set: AddressSet) -> AddressSet {
        match self {
            Self::Whole => set,
            Self::Loopback => set.intersection(AddressSet::loopback()),
            Self::Outside => set.difference(AddressSet::loopback()),
        }
    }
}

/// Every address of the inventory in ascending order with its host, so that a large set of hosts becomes addresses
/// without sorting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AddressOrder(Vec<(Address, HostIndex)>);

impl AddressOrder {
    pub(crate) fn new(inventory: &Inventory) -> Self {
        let mut order: Vec<(Address, HostIndex)> = (0..)
            .zip(inventory.hosts())
            .flat_map(|(index, host)| host.addresses.iter().map(move |&address| (address, index)))
            .collect();
        order.sort_unstable();
        Self(order)
    }

    /// Takes over that `host` has `new` addresses in place of `old` ones.
    pub(crate) fn replace(&mut self, host: HostIndex, old: &[Address], new: &[Address]) {
        for &address in old.iter().filter(|address| !new.contains(address)) {
            if let Ok(at) = self.0.binary_search(&(address, host)) {
                self.0.remove(at);
            }
        }
        for &address in new.iter().filter(|address| !old.contains(address)) {
            if let Err(at) = self.0.binary_search(&(address, host)) {
                self.0.insert(at, (address, host));
            }
        }
    }
}

/// What a selector means: hosts for as long as it speaks of nothing else.
#[derive(Clone, Debug)]
enum Extension {
    /// Whole hosts, and whether the addresses that belong to no host are meant, too.
    Hosts { hosts: HostBits, strangers: bool },
    /// Addresses.
    Addresses(AddressSet),
}

/// Works out selectors of one policy.
///
/// The host that enforces has a bit of its own, the last one, if the inventory does not know it.
pub(crate) struct Far<'a> {
    policy: &'a Policy,
    inventory: &'a Inventory,
    here: &'a Here,
    order: &'a AddressOrder,
    /// One more than the hosts.
    len: u32,
    names: BTreeMap<&'a str, Extension>,
}

impl<'a> Far<'a> {
    pub(crate) fn new(
        policy: &'a Policy,
        inventory: &'a Inventory,
        here: &'a Here,
        order: &'a AddressOrder,
    ) -> Self {
        let hosts = u32::try_from(inventory.hosts().len()).expect("HOSTS_MAX fits in 32 bits");
        Self { policy, inventory, here, order, len: hosts + 1, names: BTreeMap::new() }
    }

    /// The addresses that `selector` means.
    pub(crate) fn addresses(&mut self, selector: &Selector, part: Part) -> AddressSet {
        for (name, meant) in needed(selector, self.policy) {
            if !self.names.contains_key(name.name.text.as_str()) {
                let extension = self.extension(meant);
                self.names.insert(&name.name.text, extension);
            }
        }
        let extension = self.extension(selector);
        part.of(self.flat(extension))
    }

    fn extension(&self, selector: &Selector) -> Extension {
        match &*selector.expression {
            Expression::Any => Extension::Hosts { hosts: HostBits::all(self.len), strangers: true },
            Expression::Me => self.one(Some(self.me())),
            Expression::Named(word) => match self.names.get(word.as_str()) {
                Some(extension) => extension.clone(),
                None => self.one(self.inventory.find(word)),
            },
            Expression::Addresses(addresses) => Extension::Addresses(AddressSet::from_ranges(
                addresses.ranges().map(|(a, b)| (Address::from_bits(a), Address::from_bits(b))),
            )),
            Expression::Label { key, test } => {
                Extension::Hosts { hosts: self.labelled(&key.text, test), strangers: false }
            }
            Expression::Not(inner) => self.not(self.extension(inner)),
            Expression::AllOf(members) => {
                self.all(members.iter().map(|member| self.extension(member)))
            }
            Expression::AnyOf(members) => {
                self.any(members.iter().map(|member| self.extension(member)))
            }
            Expression::Except(from, without) => {
                let without = self.not(self.extension(without));
                self.all([self.extension(from), without].into_iter())
            }
        }
    }

    /// The bit of the host that enforces.
    fn me(&self) -> HostIndex {
        self.here.index.unwrap_or(self.len - 1)
    }

    fn one(&self, host: Option<HostIndex>) -> Extension {
        let mut hosts = HostBits::none(self.len);
        if let Some(host) = host {
            hosts.insert(host);
        }
        Extension::Hosts { hosts, strangers: false }
    }

    /// Hosts of the inventory that pass a label test.
    fn labelled(&self, key: &str, test: &LabelTest) -> HostBits {
        let (values, inverted) = match test {
            LabelTest::Is(value) => (std::slice::from_ref(value), false),
            LabelTest::IsNot(value) => (std::slice::from_ref(value), true),
            LabelTest::In(values) => (values.as_slice(), false),
            LabelTest::NotIn(values) => (values.as_slice(), true),
            LabelTest::Present => (&[][..], false),
        };
        let mut hosts = HostBits::none(self.len);
        let mut insert = |found: &[HostIndex]| found.iter().for_each(|&host| hosts.insert(host));
        if key == crate::inventory::HOST_KEY {
            values.iter().for_each(|value| insert(&self.inventory.with_label(key, &value.text)));
        } else {
            values.iter().for_each(|value| insert(self.inventory.labelled(key, &value.text)));
        }
        if *test == LabelTest::Present {
            insert(&self.inventory.with_key(key));
        }
        if inverted {
            hosts.invert();
            // The bit of an unknown host: it has no labels to be tested.
            hosts.remove(self.len - 1);
        }
        hosts
    }

    fn not(&self, extension: Extension) -> Extension {
        match extension {
            Extension::Hosts { mut hosts, strangers } => {
                hosts.invert();
                Extension::Hosts { hosts, strangers: !strangers }
            }
            Extension::Addresses(set) => Extension::Addresses(set.complement()),
        }
    }

    /// What all of at least one extension mean.
    fn all(&self, members: impl Iterator<Item = Extension>) -> Extension {
        members
            .reduce(|one, other| match (one, other) {
                (
                    Extension::Hosts { mut hosts, strangers },
                    Extension::Hosts { hosts: others, strangers: other_strangers },
                ) => {
                    hosts.and(&others);
                    Extension::Hosts { hosts, strangers: strangers && other_strangers }
                }
                (one, other) => {
                    Extension::Addresses(self.flat(one).intersection(&self.flat(other)))
                }
            })
            .unwrap_or_else(|| self.one(None))
    }

    /// What any of the extensions means. A list may have a million members: their addresses become one set at once, not
    /// one by one.
    fn any(&self, members: impl Iterator<Item = Extension>) -> Extension {
        let (mut hosts, mut strangers) = (HostBits::none(self.len), false);
        let mut sets = Vec::new();
        for member in members {
            match member {
                Extension::Hosts { hosts: others, strangers: other_strangers } => {
                    hosts.or(&others);
                    strangers |= other_strangers;
                }
                Extension::Addresses(set) => sets.push(set),
            }
        }
        let hosts = Extension::Hosts { hosts, strangers };
        if sets.is_empty() {
            return hosts;
        }
        sets.push(self.flat(hosts));
        Extension::Addresses(AddressSet::from_ranges(sets.iter().flat_map(AddressSet::ranges)))
    }

    fn flat(&self, extension: Extension) -> AddressSet {
        match extension {
            Extension::Addresses(set) => set,
            Extension::Hosts { hosts, strangers: false } => self.of_hosts(&hosts),
            Extension::Hosts { mut hosts, strangers: true } => {
                hosts.invert();
                self.of_hosts(&hosts).complement()
            }
        }
    }

    /// The addresses of hosts. Loopback is this host's alone, whatever the inventory says.
    fn of_hosts(&self, hosts: &HostBits) -> AddressSet {
        let count = hosts.count();
        let own = hosts.contains(self.me());
        let here = if own { self.here.own.as_slice() } else { &[] };
        let around = if own { Some(AddressSet::loopback()) } else { None };
        let around = around.into_iter().flat_map(AddressSet::ranges);
        let known = |address: &Address| !address.is_loopback();
        // Walking all addresses in order costs a step each; collecting those of few hosts costs a sort.
        let few = u64::from(count) * 8 < u64::from(self.len);
        let listed: Vec<Address> = if few {
            let hosts = hosts.iter().filter_map(|index| self.inventory.host(index));
            hosts.flat_map(|host| host.addresses.iter().copied()).filter(known).collect()
        } else {
            let order = self.order.0.iter().filter(|(_, host)| hosts.contains(*host));
            order.map(|&(address, _)| address).filter(known).collect()
        };
        let single = listed.iter().chain(here).map(|&address| (address, address));
        AddressSet::from_ranges(single.chain(around))
    }
}
