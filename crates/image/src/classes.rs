//! Equivalence classes: addresses, ports and values that no rule tells apart get one number.

use std::{collections::BTreeMap, ops::Add, sync::Arc};

use crate::{
    Budget,
    budget::{LABELS_MAX, STEPS_MAX},
};

/// What a class has in common: sorted labels of what holds it, shared by whoever looks at them.
pub(crate) type Labels = Arc<[u32]>;

/// What makes a class, and how many labels it takes to say so.
pub(crate) trait Signature: Ord + Clone {
    fn labels(&self) -> usize;
}

impl Signature for Labels {
    fn labels(&self) -> usize {
        self.len()
    }
}

impl<T: Ord + Copy> Signature for (T, Labels) {
    fn labels(&self) -> usize {
        self.1.len()
    }
}

/// Numbers distinct signatures in the order in which they are first met.
#[derive(Debug)]
pub(crate) struct Classes<S> {
    numbers: BTreeMap<S, u32>,
    signatures: Vec<S>,
    /// Of all signatures.
    labels: usize,
    what: &'static str,
    limit: u32,
}

impl<S: Signature> Classes<S> {
    /// Class 0 is given to `first`. There may be `limit` classes of `what`.
    pub(crate) fn starting_with(first: S, what: &'static str, limit: u32) -> Self {
        let (numbers, labels) = (BTreeMap::from([(first.clone(), 0)]), first.labels());
        Self { numbers, signatures: vec![first], labels, what, limit }
    }

    /// The number of a signature.
    ///
    /// # Errors
    /// One class or label more than there may be.
    pub(crate) fn number(&mut self, signature: S) -> Result<u32, Budget> {
        if let Some(&number) = self.numbers.get(&signature) {
            return Ok(number);
        }
        Budget::spend(self.what, self.len() + 1, self.limit, None)?;
        self.labels += signature.labels();
        Budget::spend("what all classes of a kind are in", self.labels, LABELS_MAX, None)?;
        let number = u32::try_from(self.len()).expect("within the limit");
        self.signatures.push(signature.clone());
        self.numbers.insert(signature, number);
        Ok(number)
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

/// Cuts the number line at every end of `ranges` (inclusive, each with a label) and says where which class starts,
/// ascending, the first at zero, neighbours of different class. `number` gives the class of the sorted labels that cover
/// a piece: another one for other labels.
///
/// A label's own ranges must neither overlap nor touch. What is active is not looked at for every piece: a step from one
/// class over the end of one or two labels' ranges is remembered, and lists have few kinds of steps.
pub(crate) fn sweep<P: Point>(
    ranges: impl IntoIterator<Item = (P, P, u32)>,
    mut number: impl FnMut(&Labels) -> Result<u32, Budget>,
) -> Result<Vec<(P, u32)>, Budget> {
    let mut ends: Vec<(P, u32)> = Vec::new();
    for (first, last, label) in ranges {
        ends.push((first, label));
        ends.extend(last.next().map(|after| (after, label)));
    }
    // Each set comes in order: a sort that makes use of that is a merge.
    ends.sort();
    let mut starts: Vec<(P, u32)> = Vec::new();
    let nothing: Labels = Arc::default();
    let mut class = 0;
    if ends.first().is_none_or(|&(at, _)| at != P::ZERO) {
        class = number(&nothing)?;
        starts.push((P::ZERO, class));
    }
    let mut active: BTreeMap<u32, Labels> = BTreeMap::from([(class, Arc::clone(&nothing))]);
    let mut known: BTreeMap<(u32, u32, Option<u32>), u32> = BTreeMap::new();
    let mut steps = 0;
    let mut turned = Vec::new();
    for at_once in ends.chunk_by(|(one, _), (other, _)| one == other) {
        let step = match *at_once {
            [(_, label)] => Some((class, label, None)),
            [(_, label), (_, other)] => Some((class, label, Some(other))),
            _ => None,
        };
        let step = step.filter(|_| !starts.is_empty());
        class = match step.and_then(|step| known.get(&step)) {
            Some(&class) => class,
            None => {
                turned.clear();
                turned.extend(at_once.iter().map(|&(_, label)| label));
                let before = match starts.is_empty() {
                    true => &nothing,
                    false => active.get(&class).expect("every class was met here"),
                };
                steps += before.len() + turned.len();
                Budget::spend("steps from one class to the next", steps, STEPS_MAX, None)?;
                let labels = either(before, &turned);
                let class = number(&labels)?;
                active.insert(class, labels);
                known.extend(step.map(|step| (step, class)));
                class
            }
        };
        if starts.last().is_none_or(|&(_, last)| last != class) {
            starts.extend(at_once.first().map(|&(at, _)| (at, class)));
        }
    }
    Ok(starts)
}

/// What is in one of two sorted lists and not in the other.
fn either(one: &[u32], other: &[u32]) -> Labels {
    let mut found = Vec::with_capacity(one.len() + other.len());
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    while let (Some(&&a), Some(&&b)) = (one.peek(), other.peek()) {
        if a < b {
            found.extend(one.next());
        } else if b < a {
            found.extend(other.next());
        } else {
            one.next();
            other.next();
        }
    }
    found.extend(one.chain(other));
    found.into()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn classes() -> Classes<Labels> {
        Classes::starting_with(Arc::default(), "classes", 1_000)
    }

    fn swept(ranges: Vec<(u16, u16, u32)>) -> Vec<(u16, Vec<u32>)> {
        let mut classes = classes();
        let starts = sweep(ranges, |labels| classes.number(labels.clone())).expect("it is little");
        let labels = |class: u32| classes.signatures()[class as usize].to_vec();
        starts.into_iter().map(|(start, class)| (start, labels(class))).collect()
    }

    #[test]
    fn a_sweep_names_what_covers_each_piece() {
        assert_eq!(
            swept(vec![(10, 20, 7), (15, u16::MAX, 3), (0, 0, 9)]),
            [(0, vec![9]), (1, vec![]), (10, vec![7]), (15, vec![3, 7]), (21, vec![3])]
        );
        assert_eq!(swept(vec![]), [(0, vec![])]);
    }

    proptest! {
        /// Each label has at most two ranges, which do not touch.
        #[test]
        fn a_sweep_says_of_every_point_what_covers_it(
            ends in vec((0u16..20, 0u16..20, 0u16..20, 0u16..20), 0..8)
        ) {
            let ranges: Vec<(u16, u16, u32)> = (0..)
                .zip(ends)
                .flat_map(|(label, (first, length, gap, more))| {
                    let last = first + length;
                    let next = last + 2 + gap;
                    [(first, last, label), (next, next + more, label)]
                })
                .collect();
            let starts = swept(ranges.clone());
            for point in 0..100 {
                let covers = |&&(first, last, _): &&(u16, u16, u32)| first <= point && point <= last;
                let expected: Vec<u32> =
                    ranges.iter().filter(covers).map(|&(_, _, label)| label).collect();
                let at = starts.partition_point(|&(start, _)| start <= point);
                prop_assert_eq!(&starts[at - 1].1, &expected, "at {}", point);
            }
            prop_assert!(starts.windows(2).all(|pair| pair[0].1 != pair[1].1));
        }
    }

    #[test]
    fn classes_and_their_labels_are_counted() {
        let mut few = Classes::starting_with(Labels::default(), "classes of a test", 2);
        assert_eq!(few.number([1].into()), Ok(1));
        let refused = few.number([2].into()).expect_err("a third one");
        assert_eq!(refused.to_string(), "classes of a test: 3 needed, 2 is the budget");
        let mut long = classes();
        let all: Labels = (0..LABELS_MAX / 2).collect();
        assert_eq!(long.number(Arc::clone(&all)), Ok(1));
        let refused = long.number((1..LABELS_MAX).collect()).expect_err("too many labels");
        assert_eq!(refused.what, "what all classes of a kind are in");
    }
}
