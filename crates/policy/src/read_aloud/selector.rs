//! Whether a selector means one address, asked of the tree and the inventory alone.

use std::{
    cell::{OnceCell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use verdict::{Address, Direction, Flow, Protocol};

use crate::{
    facts::Facts,
    inventory::Host,
    policy::Policy,
    syntax::{Expression, LabelTest, Meaning, PortRange, Selector, ServiceKind, Word},
};

/// One policy being read to someone who asks about one flow at one host.
///
/// What a name means is remembered once it was asked for, and so are those that it is made of, in their order: names of
/// names of names would else be asked for again and again.
pub(super) struct Reader<'a> {
    pub(super) policy: &'a Policy,
    pub(super) facts: &'a Facts<'a>,
    pub(super) flow: &'a Flow,
    selectors: RefCell<BTreeMap<(Side, Address), Meant<'a>>>,
    services: OnceCell<BTreeSet<&'a str>>,
}

/// Which names mean an address.
type Meant<'a> = BTreeMap<&'a str, bool>;

/// Whose address is asked about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    /// The peer's: a host is known by its addresses.
    Peer,
    /// Ours: a host or a label that means us does so at every address.
    Us,
}

impl<'a> Reader<'a> {
    pub(super) fn new(policy: &'a Policy, facts: &'a Facts<'a>, flow: &'a Flow) -> Self {
        let (selectors, services) = (RefCell::default(), OnceCell::new());
        Self { policy, facts, flow, selectors, services }
    }

    /// Whether the flow is to a service, or to one of those that a name stands for.
    pub(super) fn serves(&self, service: &ServiceKind) -> bool {
        let serves = |service: &ServiceKind, names: &BTreeSet<&str>| match service {
            ServiceKind::Any => true,
            ServiceKind::Ports(protocol, PortRange { first, last }) => {
                let has_ports = *protocol == Protocol::TCP || *protocol == Protocol::UDP;
                let port = self.flow.service_port();
                *protocol == self.flow.protocol && (!has_ports || *first <= port && port <= *last)
            }
            ServiceKind::Named(name) => names.contains(name.as_str()),
        };
        let names = self.services.get_or_init(|| {
            let mut names = BTreeSet::new();
            for name in self.policy.names_in_order() {
                if let Meaning::Services(services) = &name.means
                    && services.iter().any(|service| serves(&service.kind, &names))
                {
                    names.insert(name.name.text.as_str());
                }
            }
            names
        });
        serves(service, names)
    }

    /// Whether the name of a selector means `address`.
    fn name_means(&self, word: &str, side: Side, address: Address) -> bool {
        let known = |names: &Meant<'_>| names.get(word).copied().unwrap_or(false);
        if let Some(names) = self.selectors.borrow().get(&(side, address)) {
            return known(names);
        }
        self.selectors.borrow_mut().insert((side, address), BTreeMap::new());
        for name in self.policy.names_in_order() {
            if let Meaning::Selector(meant) = &name.means {
                let means = self.means(meant, side, address);
                if let Some(names) = self.selectors.borrow_mut().get_mut(&(side, address)) {
                    names.insert(&name.name.text, means);
                }
            }
        }
        self.selectors.borrow().get(&(side, address)).is_some_and(known)
    }

    /// Whether `selector` means the flow's peer.
    pub(super) fn means_peer(&self, selector: &Selector) -> bool {
        self.means(selector, Side::Peer, self.flow.remote.address)
    }

    /// Whether `selector` means this host's end of the flow.
    pub(super) fn means_us(&self, selector: &Selector) -> bool {
        let us = |address: Address| self.means(selector, Side::Us, address);
        let ours = self.our_addresses();
        let loopback = self.some_loopback(selector);
        match self.flow.direction {
            // Where we connect from is not chosen yet. To loopback one connects from loopback, and elsewhere from
            // elsewhere; a host whose addresses nobody knows stands at the unspecified ones.
            Direction::Out if self.flow.remote.address.is_loopback() => loopback,
            Direction::Out if ours.is_empty() => {
                us(Address::UNSPECIFIED_V4) || us(Address::UNSPECIFIED_V6)
            }
            Direction::Out => ours.into_iter().any(us),
            // The address must be meant, and the selector must mean us at all.
            Direction::In => {
                us(self.flow.local.address)
                    && (ours.is_empty() || loopback || ours.into_iter().any(us))
            }
        }
    }

    /// Whether some loopback address is meant. Selectors change their mind only where their addresses begin and end, so
    /// these and their neighbours are asked.
    fn some_loopback(&self, selector: &Selector) -> bool {
        let mut asked =
            vec![Address::v4(0x7f00_0000), Address::v4(0x7fff_ffff), Address::LOOPBACK_V6];
        edges(selector, &mut asked);
        for name in self.policy.document.names() {
            if let Meaning::Selector(meant) = &name.means {
                edges(meant, &mut asked);
            }
        }
        let mut asked = asked.into_iter().filter(|address| address.is_loopback());
        asked.any(|address| self.means(selector, Side::Us, address))
    }

    /// Every address of this host but loopback.
    fn our_addresses(&self) -> Vec<Address> {
        let listed = self.us().into_iter().flat_map(|host| host.addresses.iter().copied());
        let added = self.facts.addresses.iter().copied().filter(|&address| {
            let owner = self.facts.inventory.find_address(address);
            owner.is_none() || owner == self.facts.inventory.find(self.facts.host)
        });
        listed.chain(added).filter(|address| !address.is_loopback()).collect()
    }

    /// This host in the inventory.
    fn us(&self) -> Option<&Host> {
        let inventory = self.facts.inventory;
        inventory.find(self.facts.host).and_then(|index| inventory.host(index))
    }

    /// The host of the inventory that is asked about.
    fn host_asked(&self, side: Side, address: Address) -> Option<&Host> {
        let inventory = self.facts.inventory;
        if side == Side::Us || self.is_ours(address) {
            return self.us();
        }
        inventory.find_address(address).and_then(|index| inventory.host(index))
    }

    fn is_ours(&self, address: Address) -> bool {
        address.is_loopback() || self.our_addresses().contains(&address)
    }

    fn means(&self, selector: &Selector, side: Side, address: Address) -> bool {
        let means = |selector: &Selector| self.means(selector, side, address);
        match &*selector.expression {
            Expression::Any => true,
            Expression::Me => side == Side::Us || self.is_ours(address),
            Expression::Named(word) => match self.policy.meaning(word) {
                Some(Meaning::Selector(_)) => self.name_means(word, side, address),
                Some(Meaning::Services(_)) => false,
                None => self.host_asked(side, address).is_some_and(|host| {
                    host.id == *word || host.names.iter().any(|name| name == word)
                }),
            },
            Expression::Addresses(addresses) => {
                addresses.ranges().any(|(first, last)| (first..=last).contains(&address.bits()))
            }
            Expression::Label { key, test } => {
                self.host_asked(side, address).is_some_and(|host| has_label(host, key, test))
            }
            Expression::Not(inner) => !means(inner),
            Expression::AllOf(members) => members.iter().all(means),
            Expression::AnyOf(members) => members.iter().any(means),
            Expression::Except(from, without) => means(from) && !means(without),
        }
    }
}

/// Where the addresses that a selector writes begin and end, and their neighbours. Names are not followed.
fn edges(selector: &Selector, into: &mut Vec<Address>) {
    match &*selector.expression {
        Expression::Addresses(addresses) => {
            for (first, last) in addresses.ranges() {
                let beside = [first.saturating_sub(1), first, last, last.saturating_add(1)];
                into.extend(beside.into_iter().map(Address::from_bits));
            }
        }
        Expression::Not(inner) => edges(inner, into),
        Expression::AllOf(members) | Expression::AnyOf(members) => {
            members.iter().for_each(|member| edges(member, into));
        }
        Expression::Except(from, without) => {
            edges(from, into);
            edges(without, into);
        }
        Expression::Any | Expression::Me | Expression::Named(_) | Expression::Label { .. } => {}
    }
}

fn has_label(host: &Host, key: &Word, test: &LabelTest) -> bool {
    let value = match key.text.as_str() {
        "host" => Some(&host.id),
        key => host.labels.get(key),
    };
    match test {
        LabelTest::Is(wanted) => value == Some(&wanted.text),
        LabelTest::IsNot(unwanted) => value != Some(&unwanted.text),
        LabelTest::In(wanted) => wanted.iter().any(|wanted| value == Some(&wanted.text)),
        LabelTest::NotIn(unwanted) => unwanted.iter().all(|unwanted| value != Some(&unwanted.text)),
        LabelTest::Present => value.is_some(),
    }
}
