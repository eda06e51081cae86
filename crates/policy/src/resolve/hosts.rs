//! Sets of hosts as bits.

use crate::inventory::HostIndex;

/// A set of hosts, one bit for each number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostBits {
    words: Vec<u64>,
    len: u32,
}

impl HostBits {
    /// No host of `len`.
    pub(crate) fn none(len: u32) -> Self {
        Self { words: vec![0; (len as usize).div_ceil(64)], len }
    }

    /// Every host of `len`.
    pub(crate) fn all(len: u32) -> Self {
        let mut all = Self { words: vec![u64::MAX; (len as usize).div_ceil(64)], len };
        all.trim();
        all
    }

    fn trim(&mut self) {
        if let Some(last) = self.words.last_mut()
            && self.len & 63 != 0
        {
            *last &= u64::MAX >> (64 - (self.len & 63));
        }
    }

    pub(crate) fn insert(&mut self, host: HostIndex) {
        if let Some(word) = self.words.get_mut(host as usize >> 6) {
            *word |= 1 << (host & 63);
        }
    }

    pub(crate) fn remove(&mut self, host: HostIndex) {
        if let Some(word) = self.words.get_mut(host as usize >> 6) {
            *word &= !(1 << (host & 63));
        }
    }

    pub(crate) fn contains(&self, host: HostIndex) -> bool {
        self.words.get(host as usize >> 6).is_some_and(|word| word >> (host & 63) & 1 == 1)
    }

    pub(crate) fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    pub(crate) fn invert(&mut self) {
        self.words.iter_mut().for_each(|word| *word = !*word);
        self.trim();
    }

    pub(crate) fn and(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a &= b);
    }

    pub(crate) fn or(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a |= b);
    }

    /// The hosts, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = HostIndex> + '_ {
        (0u32..).step_by(64).zip(&self.words).flat_map(|(base, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(base + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inversion_stays_within_the_hosts() {
        for len in [0, 1, 63, 64, 65, 130] {
            let mut bits = HostBits::none(len);
            bits.invert();
            assert_eq!(bits, HostBits::all(len));
            assert_eq!(bits.count(), len);
            assert_eq!(bits.iter().collect::<Vec<_>>(), (0..len).collect::<Vec<_>>());
        }
        let mut bits = HostBits::none(70);
        bits.insert(64);
        bits.insert(3);
        assert!(bits.contains(64) && !bits.contains(65));
        assert_eq!(bits.iter().collect::<Vec<_>>(), [3, 64]);
    }
}
