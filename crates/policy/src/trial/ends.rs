//! The ends that a test speaks of: of hosts and addresses that no rule tells apart, two of each kind (the second for flows
//! from one to another of the same kind).

use std::collections::BTreeMap;

use image::AddressSet;
use verdict::Address;

use crate::{
    facts::Here,
    format::selector_text,
    inventory::{Host, HostIndex, Inventory},
    policy::Policy,
    resolve::{AddressOrder, Far, Part, passes},
    syntax::{self, Addresses, Expression, LabelTest, Selector, Statement, Test, Word},
};

/// One end of flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The host, if the inventory knows it.
    pub(super) host: Option<HostIndex>,
    pub(super) address: Address,
    /// Equal for ends that no rule tells apart.
    pub(super) class: usize,
}

/// Who may be at an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// Everybody.
    All,
    /// One host.
    Only(HostIndex),
    /// The others that are known; and of addresses that are no known host's those that are meant whosever they are.
    Others(HostIndex),
}

impl Whom {
    fn takes(self, index: HostIndex) -> bool {
        match self {
            Self::All => true,
            Self::Only(one) => index == one,
            Self::Others(one) => index != one,
        }
    }

    fn takes_strangers(self, selector: &Selector) -> bool {
        match self {
            Self::All => true,
            Self::Only(_) => false,
            Self::Others(_) => {
                let mut plain = true;
                selector.each(&mut |selector| match &*selector.expression {
                    Expression::Named(_) | Expression::Label { .. } | Expression::Me => {
                        plain = false;
                    }
                    Expression::Any
                    | Expression::Addresses(_)
                    | Expression::Not(_)
                    | Expression::AllOf(_)
                    | Expression::AnyOf(_)
                    | Expression::Except(..) => {}
                });
                plain
            }
        }
    }
}

/// What tells hosts and addresses apart: every test of a host or an address that rules and one policy test make.
pub(super) struct Classes {
    /// By how it is written.
    labels: BTreeMap<String, (Word, LabelTest)>,
    hosts: Vec<String>,
    /// First addresses of the pieces into which the prefixes and ranges cut the number line, sorted.
    cuts: Vec<u128>,
}

impl Classes {
    /// `further` are addresses that rules beside the policies tell apart.
    pub(super) fn new(policies: &[Policy], test: &Test, further: &[AddressSet]) -> Self {
        let mut classes = Self { labels: BTreeMap::new(), hosts: Vec::new(), cuts: Vec::new() };
        // The two families never share a piece: no flow goes from one to the other.
        classes.cuts.extend([0, Address::v4(0).bits(), Address::v4(u32::MAX).bits() + 1]);
        let statements = policies.iter().flat_map(|policy| policy.document.statements());
        // Tests are what is asked, not whom the rules tell apart.
        for (_, said) in statements.filter(|(_, said)| !matches!(said, Statement::Test(_))) {
            for selector in said.selectors() {
                classes.learn(selector);
            }
        }
        classes.learn(&test.flows.from.selector);
        classes.learn(&test.flows.to.selector);
        for (first, last) in further.iter().flat_map(AddressSet::ranges) {
            classes.cuts.push(first.bits());
            classes.cuts.extend(last.bits().checked_add(1));
        }
        classes.hosts.sort_unstable();
        classes.hosts.dedup();
        classes.cuts.sort_unstable();
        classes.cuts.dedup();
        classes
    }

    fn learn(&mut self, selector: &Selector) {
        selector.each(&mut |selector| match &*selector.expression {
            Expression::Label { key, test } => {
                self.labels
                    .entry(selector_text(selector))
                    .or_insert_with(|| (key.clone(), test.clone()));
            }
            Expression::Named(word) => self.hosts.push(word.clone()),
            Expression::Addresses(addresses) => self.cut(addresses),
            Expression::Any
            | Expression::Me
            | Expression::Not(_)
            | Expression::AllOf(_)
            | Expression::AnyOf(_)
            | Expression::Except(..) => {}
        });
    }

    fn cut(&mut self, addresses: &Addresses) {
        for (first, last) in addresses.ranges() {
            self.cuts.push(first);
            self.cuts.extend(last.checked_add(1));
        }
    }

    fn piece(&self, address: Address) -> usize {
        self.cuts.partition_point(|&cut| cut <= address.bits())
    }

    /// What rules can see of a host.
    fn kind(&self, host: &Host) -> (Vec<bool>, Vec<usize>) {
        let labels = self.labels.values().map(|(key, test)| passes(host, key, test));
        let called = |word: &String| host.id == *word || host.names.contains(word);
        let seen = labels.chain(self.hosts.iter().map(called)).collect();
        let mut pieces: Vec<usize> =
            host.addresses.iter().map(|&address| self.piece(address)).collect();
        pieces.sort_unstable();
        pieces.dedup();
        (seen, pieces)
    }

    /// The ends that `end` stands for: each kind with up to two hosts.
    pub(super) fn ends(
        &self,
        policy: &Policy,
        end: &syntax::End,
        inventory: &Inventory,
        whom: Whom,
    ) -> Vec<End> {
        let order = AddressOrder::new(inventory);
        let nobody = Here { index: None, own: Vec::new(), disputed: Vec::new() };
        let meant =
            Far::new(policy, inventory, &nobody, &order).addresses(&end.selector, Part::Outside);
        let mut kinds = BTreeMap::new();
        let mut ends: Vec<End> = Vec::new();
        let mut taken: BTreeMap<usize, Vec<HostIndex>> = BTreeMap::new();
        for (index, host) in (0..).zip(inventory.hosts()) {
            if !whom.takes(index) {
                continue;
            }
            let addresses: Vec<Address> =
                host.addresses.iter().copied().filter(|&address| meant.contains(address)).collect();
            if addresses.is_empty() {
                continue;
            }
            let kind = self.kind(host);
            for address in addresses {
                let next = kinds.len();
                let class = *kinds.entry((Some(kind.clone()), self.piece(address))).or_insert(next);
                let hosts = taken.entry(class).or_default();
                if hosts.len() < 2 && !hosts.contains(&index) {
                    hosts.push(index);
                    ends.push(End { host: Some(index), address, class });
                }
            }
        }
        if !whom.takes_strangers(&end.selector) {
            return ends;
        }
        for address in self.strangers(&meant, inventory) {
            let next = kinds.len();
            let class = *kinds.entry((None, self.piece(address))).or_insert(next);
            ends.push(End { host: None, address, class });
        }
        ends
    }

    /// One address of no host from each piece, of those that are meant.
    fn strangers(&self, meant: &AddressSet, inventory: &Inventory) -> Vec<Address> {
        let owned = inventory.hosts().iter().flat_map(|host| &host.addresses);
        let nobodys = [Address::UNSPECIFIED_V4, Address::UNSPECIFIED_V6];
        let owned =
            AddressSet::from_ranges(owned.chain(&nobodys).map(|&address| (address, address)));
        let free = meant.difference(&owned).difference(AddressSet::loopback());
        let mut found: BTreeMap<usize, Address> = BTreeMap::new();
        for (first, last) in free.ranges() {
            let mut at = first;
            loop {
                let piece = self.piece(at);
                found.entry(piece).or_insert(at);
                match self.cuts.get(piece) {
                    Some(&next) if next <= last.bits() => at = Address::from_bits(next),
                    Some(_) | None => break,
                }
            }
        }
        found.into_values().collect()
    }
}
