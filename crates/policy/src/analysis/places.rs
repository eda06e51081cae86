//! Who there is: hosts by kind, and the pieces that addresses are cut into.
//!
//! Two hosts are of one kind if no selector of the policies can tell them apart: they have the same values of the labels
//! that are mentioned, neither is named, and their addresses lie in the same pieces. A piece is a range of addresses that
//! no selector divides.

use std::collections::{BTreeMap, BTreeSet};

use image::AddressSet;
use verdict::Address;

use super::clause::Clauses;
use crate::{
    inventory::{HOST_KEY, Host, HostIndex, Inventory},
    policy::Policy,
    syntax::{Expression, LabelTest, Meaning, Selector},
};

/// Number of a piece.
pub(super) type PieceNumber = usize;

/// The pieces of all addresses, ascending and without gaps. Each is IPv4 or IPv6, and loopback, unspecified or neither.
#[derive(Debug)]
pub(super) struct Pieces {
    starts: Vec<u128>,
    /// An address of each piece that belongs to no host; `None` where there is none, and for loopback and unspecified.
    outside: Vec<Option<Address>>,
}

/// Hosts that no selector tells apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Kind {
    /// Never empty, ascending; the host that the inventory does not know is `None`.
    pub(super) hosts: Vec<Option<HostIndex>>,
    /// In which pieces their addresses lie, ascending, loopback left out. Empty if they have none.
    pub(super) pieces: Vec<PieceNumber>,
}

/// Every selector of the policies, those of names, too.
fn selectors<'a>(sides: &[Clauses<'a>]) -> Vec<(&'a Policy, &'a Selector)> {
    let mut all = Vec::new();
    for side in sides {
        for policy in side.policies {
            for name in policy.names_in_order() {
                if let Meaning::Selector(selector) = &name.means {
                    all.push((policy, selector));
                }
            }
        }
        for &(at, selector) in &side.selectors {
            all.extend(side.policies.get(at).map(|policy| (policy, selector)));
        }
    }
    all
}

impl Pieces {
    /// `alone` is a piece of its own.
    pub(super) fn new(
        sides: &[Clauses<'_>],
        alone: Option<Address>,
        inventory: &Inventory,
    ) -> Self {
        let mut starts = vec![0];
        let mut cut = |first: u128, last: u128| {
            starts.push(first);
            starts.extend(last.checked_add(1));
        };
        let (v4_first, v4_last) = (Address::v4(0).bits(), Address::v4(u32::MAX).bits());
        cut(v4_first, v4_last);
        cut(v4_first, v4_first);
        cut(0, 0);
        alone.into_iter().for_each(|address| cut(address.bits(), address.bits()));
        AddressSet::loopback().ranges().for_each(|(first, last)| cut(first.bits(), last.bits()));
        for (_, selector) in selectors(sides) {
            selector.each(&mut |selector| {
                if let Expression::Addresses(addresses) = &*selector.expression {
                    addresses.ranges().for_each(|(first, last)| cut(first, last));
                }
            });
        }
        starts.sort_unstable();
        starts.dedup();
        let mut pieces = Self { starts, outside: Vec::new() };
        pieces.outside =
            (0..pieces.starts.len()).map(|at| pieces.first_outside(at, inventory)).collect();
        pieces
    }

    /// The lowest address of a piece that belongs to no host.
    fn first_outside(&self, piece: PieceNumber, inventory: &Inventory) -> Option<Address> {
        let (first, last) = self.ends(piece)?;
        let start = Address::from_bits(first);
        if start.is_loopback() || start.is_unspecified() {
            return None;
        }
        // At most as many addresses are taken as there are hosts' ones, so this ends.
        let mut free = (first..=last).map(Address::from_bits);
        free.find(|&address| inventory.find_address(address).is_none())
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// First and last number of a piece.
    pub(super) fn ends(&self, piece: PieceNumber) -> Option<(u128, u128)> {
        let first = *self.starts.get(piece)?;
        Some((first, self.starts.get(piece + 1).map_or(u128::MAX, |next| next - 1)))
    }

    /// The piece that `address` lies in.
    pub(super) fn of(&self, address: Address) -> PieceNumber {
        self.starts.partition_point(|&start| start <= address.bits()).saturating_sub(1)
    }

    /// Some address of the piece.
    pub(super) fn first(&self, piece: PieceNumber) -> Address {
        Address::from_bits(self.starts.get(piece).copied().unwrap_or(0))
    }

    pub(super) fn is_v4(&self, piece: PieceNumber) -> bool {
        self.first(piece).is_v4()
    }

    /// An address of the piece that belongs to no host, if there is one and it is neither loopback nor unspecified.
    pub(super) fn outside(&self, piece: PieceNumber) -> Option<Address> {
        self.outside.get(piece).copied().flatten()
    }

    /// The pieces with addresses outside the inventory.
    pub(super) fn all_outside(&self) -> impl Iterator<Item = PieceNumber> + '_ {
        (0..self.len()).filter(|&piece| self.outside(piece).is_some())
    }

    /// The usual address of a loopback piece.
    pub(super) fn loopback(&self, piece: PieceNumber) -> Address {
        let usual = Address::LOOPBACK_V4;
        if self.of(usual) == piece { usual } else { self.first(piece) }
    }

    /// The pieces of loopback.
    pub(super) fn all_loopback(&self) -> impl Iterator<Item = PieceNumber> + '_ {
        (0..self.len()).filter(|&piece| self.first(piece).is_loopback())
    }
}

/// What selectors ask of hosts.
#[derive(Debug, Default)]
struct Questions<'a> {
    /// Label keys with the values that are asked for.
    labels: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// Hosts that are asked for by name.
    named: BTreeSet<HostIndex>,
}

impl<'a> Questions<'a> {
    fn new(sides: &[Clauses<'a>], inventory: &Inventory) -> Self {
        let mut questions = Self::default();
        for (policy, selector) in selectors(sides) {
            selector.each(&mut |selector| match &*selector.expression {
                Expression::Named(word) if policy.meaning(word).is_none() => {
                    questions.named.extend(inventory.find(word));
                }
                Expression::Label { key, test } => {
                    let values = match test {
                        LabelTest::Is(value) | LabelTest::IsNot(value) => {
                            std::slice::from_ref(value)
                        }
                        LabelTest::In(values) | LabelTest::NotIn(values) => values.as_slice(),
                        LabelTest::Present => &[],
                    };
                    let texts = values.iter().map(|value| value.text.as_str());
                    if key.text == HOST_KEY {
                        questions
                            .named
                            .extend(texts.flat_map(|value| inventory.with_label(HOST_KEY, value)));
                    } else {
                        questions.labels.entry(key.text.as_str()).or_default().extend(texts);
                    }
                }
                Expression::Named(_)
                | Expression::Any
                | Expression::Me
                | Expression::Addresses(_)
                | Expression::Not(_)
                | Expression::AllOf(_)
                | Expression::AnyOf(_)
                | Expression::Except(..) => {}
            });
        }
        questions
    }

    /// What the labels of `host` are, as far as anybody asks: not there, another value, or one that is asked for.
    fn answers<'h>(&self, host: &'h Host) -> Vec<Option<Option<&'h str>>> {
        let answer = |(key, values): (&&str, &BTreeSet<&str>)| {
            let value = host.labels.get(*key)?;
            Some(values.contains(value.as_str()).then_some(value.as_str()))
        };
        self.labels.iter().map(answer).collect()
    }
}

/// What tells hosts apart: what their labels answer, the host that is named, and the pieces of its addresses.
type Signature<'a> = (Vec<Option<Option<&'a str>>>, Option<HostIndex>, Vec<PieceNumber>);

/// Sorts the hosts by kind; `alone` is of a kind of its own. Without any host there is one that is not known: whoever
/// enforces the policies.
pub(super) fn kinds(
    sides: &[Clauses<'_>],
    pieces: &Pieces,
    alone: Option<HostIndex>,
    inventory: &Inventory,
) -> Vec<Kind> {
    let mut questions = Questions::new(sides, inventory);
    questions.named.extend(alone);
    let mut kinds: BTreeMap<Signature<'_>, Vec<Option<HostIndex>>> = BTreeMap::new();
    for (index, host) in (0..).zip(inventory.hosts()) {
        let reachable = host.addresses.iter().filter(|address| !address.is_loopback());
        let mut own: Vec<PieceNumber> = reachable.map(|&address| pieces.of(address)).collect();
        own.sort_unstable();
        own.dedup();
        let named = questions.named.contains(&index).then_some(index);
        kinds.entry((questions.answers(host), named, own)).or_default().push(Some(index));
    }
    let mut kinds: Vec<Kind> =
        kinds.into_iter().map(|((.., pieces), hosts)| Kind { hosts, pieces }).collect();
    if kinds.is_empty() {
        kinds.push(Kind { hosts: vec![None], pieces: Vec::new() });
    }
    // In the order of the inventory.
    kinds.sort_unstable_by_key(|kind| kind.hosts.first().copied());
    kinds
}
