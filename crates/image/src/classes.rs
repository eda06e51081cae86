//! Equivalence classes: addresses, ports and values that no rule tells apart get one number.

use std::{collections::BTreeMap, ops::Add};

/// Numbers distinct signatures in the order in which they are first met.
#[derive(Debug)]
pub(crate) struct Classes<S> {
    numbers: BTreeMap<S, u32>,
    signatures: Vec<S>,
}

impl<S: Ord + Clone> Classes<S> {
    /// Class 0 is given to `first`.
    pub(crate) fn starting_with(first: S) -> Self {
        Self { numbers: BTreeMap::from([(first.clone(), 0)]), signatures: vec![first] }
    }

    pub(crate) fn number(&mut self, signature: &S) -> u32 {
        if let Some(&number) = self.numbers.get(signature) {
            return number;
        }
        let number = u32::try_from(self.signatures.len())
            .expect("fewer than 2^32 classes: the budget is far below");
        self.numbers.insert(signature.clone(), number);
        self.signatures.push(signature.clone());
        number
    }

    pub(crate) fn len(&self) -> usize {
        self.signatures.len()
    }

    /// The signatures, by class number.
    pub(crate) fn signatures(&self) -> &[S] {
        &self.signatures
    }
}

/// Points where a range begins or ends, and what is active between them.
pub(crate) trait Point: Copy + Ord + Add<Output = Self> {
    const ZERO: Self;
    fn next(self) -> Option<Self>;
}

impl Point for u128 {
    const ZERO: Self = 0;
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Point for u16 {
    const ZERO: Self = 0;
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// Cuts the number line at every end of `ranges` (inclusive, each with a label) and calls `visit` with the start of
/// each piece and the sorted labels that cover it, in ascending order. The first piece starts at zero.
///
/// A label's own ranges must not overlap.
pub(crate) fn sweep<P: Point, E>(
    ranges: impl IntoIterator<Item = (P, P, u32)>,
    mut visit: impl FnMut(P, &[u32]) -> Result<(), E>,
) -> Result<(), E> {
    let mut ends: Vec<(P, u32, bool)> = Vec::new();
    for (first, last, label) in ranges {
        ends.push((first, label, true));
        if let Some(after) = last.next() {
            ends.push((after, label, false));
        }
    }
    ends.sort_unstable();
    let mut active: Vec<u32> = Vec::new();
    let mut ends = ends.into_iter().peekable();
    if ends.peek().is_none_or(|&(at, ..)| at != P::ZERO) {
        visit(P::ZERO, &active)?;
    }
    while let Some((at, label, begins)) = ends.next() {
        match (active.binary_search(&label), begins) {
            (Err(place), true) => active.insert(place, label),
            (Ok(place), false) => {
                active.remove(place);
            }
            (Ok(_), true) | (Err(_), false) => {
                unreachable!("ranges of one label do not overlap or touch")
            }
        }
        if ends.peek().is_none_or(|&(next, ..)| next != at) {
            visit(at, &active)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn a_sweep_names_what_covers_each_piece() {
        let mut pieces = Vec::new();
        let Ok(()) =
            sweep::<u16, Infallible>([(10, 20, 7), (15, u16::MAX, 3), (0, 0, 9)], |at, active| {
                pieces.push((at, active.to_vec()));
                Ok(())
            });
        assert_eq!(
            pieces,
            [(0, vec![9]), (1, vec![]), (10, vec![7]), (15, vec![3, 7]), (21, vec![3])]
        );
    }
}
