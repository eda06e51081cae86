//! Sets of small numbers (clauses, places, classes) as bits, ordered so that equal sets are equal values.

/// A set of numbers below a bound that is fixed when it is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// No number below `len`.
    pub(super) fn none(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    /// Those of the numbers below `len` that pass.
    pub(super) fn of(len: usize, passes: impl Fn(usize) -> bool) -> Self {
        let mut bits = Self::none(len);
        (0..len).filter(|&at| passes(at)).for_each(|at| bits.insert(at));
        bits
    }

    pub(super) fn insert(&mut self, at: usize) {
        if let Some(word) = self.0.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    pub(super) fn contains(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// How many words the bits take: the unit in which work is counted.
    pub(super) fn words(&self) -> usize {
        self.0.len()
    }

    pub(super) fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect())
    }

    pub(super) fn without(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & !b).collect())
    }

    /// The least number in both sets.
    pub(super) fn first_common(&self, other: &Self) -> Option<usize> {
        let mut common = self.0.iter().zip(&other.0).map(|(a, b)| a & b).enumerate();
        common
            .find(|&(_, word)| word != 0)
            .map(|(at, word)| at * 64 + word.trailing_zeros() as usize)
    }

    /// The numbers, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(at, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(at * 64 + bit as usize)
            })
        })
    }
}

/// Numbers distinct values in the order in which they are first met.
#[derive(Clone, Debug)]
pub(super) struct Numbered<T> {
    numbers: std::collections::BTreeMap<T, usize>,
    values: Vec<T>,
}

impl<T: Ord + Clone> Numbered<T> {
    pub(super) fn new() -> Self {
        Self { numbers: std::collections::BTreeMap::new(), values: Vec::new() }
    }

    pub(super) fn number(&mut self, value: T) -> usize {
        if let Some(&number) = self.numbers.get(&value) {
            return number;
        }
        self.values.push(value.clone());
        self.numbers.insert(value, self.values.len() - 1);
        self.values.len() - 1
    }

    /// The values by number.
    pub(super) fn values(&self) -> &[T] {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_sets() {
        let (a, b) = (Bits::of(130, |at| at % 3 == 0), Bits::of(130, |at| at % 2 == 1));
        assert_eq!(a.and(&b), Bits::of(130, |at| at % 6 == 3));
        assert_eq!(a.without(&b), Bits::of(130, |at| at % 6 == 0));
        assert_eq!(a.first_common(&b), Some(3));
        assert_eq!(a.iter().collect::<Vec<_>>(), (0..130).step_by(3).collect::<Vec<_>>());
        assert!(!a.contains(129 + 64) && a.contains(129) && !a.is_empty());
        assert_eq!(Bits::none(130).first_common(&a), None);
    }
}
