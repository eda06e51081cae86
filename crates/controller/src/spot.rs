//! Spots: where things with an id stand among all others, by the digests of the ids. Numbers are found by them without a look
//! at the ids of others, which lie all over the memory.

use std::{collections::BTreeSet, ops::RangeInclusive};

/// The beginning of the digest of an id. A few in a million share theirs.
pub(crate) type Spot = u32;

/// Where an id stands.
pub(crate) fn spot(id: &str) -> Spot {
    let [a, b, c, d, ..] = *blake3::hash(id.as_bytes()).as_bytes();
    Spot::from_be_bytes([a, b, c, d])
}

/// The numbers of things by their spots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spots(BTreeSet<(Spot, u32)>);

impl Spots {
    /// The number at a spot of which `is` says that it is the one.
    pub(crate) fn find(&self, spot: Spot, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.within(spot..=spot).map(|(_, number)| number).find(|number| is(*number))
    }

    /// All at some spots, in their order.
    pub(crate) fn within(&self, spots: RangeInclusive<Spot>) -> impl Iterator<Item = (Spot, u32)> {
        let (first, last) = spots.into_inner();
        self.0.range((first, 0)..=(last, u32::MAX)).copied()
    }

    pub(crate) fn insert(&mut self, spot: Spot, number: u32) {
        self.0.insert((spot, number));
    }

    pub(crate) fn remove(&mut self, spot: Spot, number: u32) {
        self.0.remove(&(spot, number));
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_at_one_spot_are_told_apart() {
        let mut spots = Spots::default();
        for (spot, number) in [(7, 1), (7, 2), (8, 3)] {
            spots.insert(spot, number);
        }
        assert_eq!(spots.find(7, |number| number == 2), Some(2));
        assert_eq!(spots.find(7, |number| number == 3), None);
        spots.remove(7, 2);
        assert_eq!((spots.find(7, |number| number == 2), spots.count()), (None, 2));
        assert_eq!(spots.within(7..=8).collect::<Vec<_>>(), [(7, 1), (8, 3)]);
    }
}
