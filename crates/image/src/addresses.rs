//! Sets of addresses as ranges, with the algebra that selectors need.

use std::sync::{Arc, LazyLock};

use verdict::Address;

/// A set of canonical addresses: sorted, disjoint, non-adjacent inclusive ranges over the 128-bit number of an
/// [`Address`]. Equal sets are equal values. Copies share their ranges: a list of a million is there once.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressSet(Arc<Vec<(u128, u128)>>);

/// The block `::ffff:0:0/96`, which is IPv4.
const MAPPED_FIRST: u128 = 0xffff << 32;
const MAPPED_LAST: u128 = MAPPED_FIRST | 0xffff_ffff;

impl AddressSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every address of both families.
    pub fn all() -> Self {
        Self::of(vec![(0, u128::MAX)])
    }

    /// 127.0.0.0/8 and ::1, which every host has for itself.
    pub fn loopback() -> &'static Self {
        static LOOPBACK: LazyLock<AddressSet> = LazyLock::new(|| {
            let prefixes = [(Address::LOOPBACK_V4, 96 + 8), (Address::LOOPBACK_V6, 128)];
            AddressSet::from_prefixes(prefixes)
        });
        &LOOPBACK
    }

    /// From inclusive ranges in any order; a reversed range is empty.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (Address, Address)>) -> Self {
        let mut ranges: Vec<(u128, u128)> = ranges
            .into_iter()
            .map(|(first, last)| (first.bits(), last.bits()))
            .filter(|(a, b)| a <= b)
            .collect();
        // Sets are joined one behind the other: a sort that makes use of what is in order only merges them.
        ranges.sort();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(previous) if first <= previous.1.saturating_add(1) => {
                    previous.1 = previous.1.max(last)
                }
                Some(_) | None => merged.push((first, last)),
            }
        }
        Self::of(merged)
    }

    /// From prefixes: an address and how many of its leading bits count, 0 to 128. An IPv4 prefix of `n` bits is one of
    /// `96 + n` here. Bits beyond the length are ignored; a length over 128 counts as 128.
    ///
    /// An IPv6 prefix that is shorter than the IPv4-mapped block does not hold it: `::/0` is every IPv6 address and no
    /// IPv4 one.
    pub fn from_prefixes(prefixes: impl IntoIterator<Item = (Address, u8)>) -> Self {
        Self::from_ranges(prefixes.into_iter().flat_map(|(address, bits)| {
            let host = u128::MAX.checked_shr(u32::from(bits.min(128))).unwrap_or(0);
            let first = address.bits() & !host;
            let last = first | host;
            let around = bits < 96 && first <= MAPPED_FIRST && MAPPED_LAST <= last;
            let parts = if around {
                [(first, MAPPED_FIRST - 1), (MAPPED_LAST + 1, last)]
            } else {
                [(first, last), (1, 0)]
            };
            parts.map(|(first, last)| (Address::from_bits(first), Address::from_bits(last)))
        }))
    }

    /// Every IPv4 address.
    pub fn all_v4() -> Self {
        Self::of(vec![(MAPPED_FIRST, MAPPED_LAST)])
    }

    /// One address.
    pub fn from_address(address: Address) -> Self {
        Self::of(vec![(address.bits(), address.bits())])
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = (Address, Address)> + '_ {
        self.0.iter().map(|&(first, last)| (Address::from_bits(first), Address::from_bits(last)))
    }

    fn of(ranges: Vec<(u128, u128)>) -> Self {
        Self(Arc::new(ranges))
    }

    pub(crate) fn bit_ranges(&self) -> &[(u128, u128)] {
        &self.0
    }

    /// Where the ranges are in memory: sets at the same place are the same while they live.
    pub(crate) fn place(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Whether no address is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `address` is in the set.
    pub fn contains(&self, address: Address) -> bool {
        let bits = address.bits();
        let after = self.0.partition_point(|&(first, _)| first <= bits);
        after > 0 && self.0.get(after - 1).is_some_and(|&(_, last)| bits <= last)
    }

    /// Addresses in either set.
    pub fn union(&self, other: &Self) -> Self {
        Self::from_ranges(self.ranges().chain(other.ranges()))
    }

    /// Addresses in both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut common = Vec::new();
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(&&a), Some(&&b)) = (left.peek(), right.peek()) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last {
                common.push((first, last));
            }
            if a.1 < b.1 {
                left.next()
            } else {
                right.next()
            };
        }
        Self::of(common)
    }

    /// Addresses not in the set.
    pub fn complement(&self) -> Self {
        let mut gaps = Vec::with_capacity(self.0.len() + 1);
        let mut next = Some(0);
        for &(first, last) in &*self.0 {
            if let Some(start) = next.filter(|&start| start < first) {
                gaps.push((start, first - 1));
            }
            next = last.checked_add(1);
        }
        if let Some(start) = next {
            gaps.push((start, u128::MAX));
        }
        Self::of(gaps)
    }

    /// Addresses of this set that are not in `other`.
    pub fn difference(&self, other: &Self) -> Self {
        self.intersection(&other.complement())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sets() -> impl Strategy<Value = AddressSet> {
        let ends = prop_oneof![0u128..40, Just(u128::MAX), Just(u128::MAX - 1)];
        prop::collection::vec((ends.clone(), ends), 0..6).prop_map(|ranges| {
            AddressSet::from_ranges(
                ranges.into_iter().map(|(a, b)| (Address::from_bits(a), Address::from_bits(b))),
            )
        })
    }

    proptest! {
        #[test]
        fn the_algebra_is_membership(a in sets(), b in sets(), at in prop_oneof![0u128..45, Just(u128::MAX)]) {
            let at = Address::from_bits(at);
            prop_assert_eq!(a.union(&b).contains(at), a.contains(at) || b.contains(at));
            prop_assert_eq!(a.intersection(&b).contains(at), a.contains(at) && b.contains(at));
            prop_assert_eq!(a.complement().contains(at), !a.contains(at));
            prop_assert_eq!(a.difference(&b).contains(at), a.contains(at) && !b.contains(at));
            prop_assert_eq!(a.complement().complement(), a);
        }
    }

    #[test]
    fn prefixes_cover_their_addresses() {
        let ten = AddressSet::from_prefixes([(Address::v4(0x0a01_0203), 96 + 8)]);
        assert!(ten.contains(Address::v4(0x0aff_ffff)) && !ten.contains(Address::v4(0x0b00_0000)));
        let all_v6 = AddressSet::from_prefixes([(Address::UNSPECIFIED_V6, 0)]);
        assert_eq!(all_v6.union(&AddressSet::all_v4()), AddressSet::all());
        assert!(all_v6.intersection(&AddressSet::all_v4()).is_empty());
        assert_eq!(
            AddressSet::from_prefixes([(Address::LOOPBACK_V6, 128)]),
            AddressSet::from_address(Address::LOOPBACK_V6)
        );
    }
}
