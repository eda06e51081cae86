//! Sets of cgroups as trees: a cgroup means everything below it, too, unless something there is left out.

use std::collections::{BTreeMap, BTreeSet};

/// The members of `listed` that are in no other member's tree, each with the cgroups of `known` in its tree that are
/// not listed: the nearest ones, because what is below them is left out with them. `above` tells the known cgroups above
/// one, the deepest first.
pub(super) fn families(
    listed: &BTreeSet<u64>,
    known: &[u64],
    above: impl Fn(u64) -> Vec<u64>,
) -> Vec<(u64, Vec<u64>)> {
    let nearest = |unit: u64| above(unit).into_iter().find(|above| known.contains(above));
    // The topmost of the listed ones that lead from it upwards without a gap.
    let top = |unit: u64| {
        let line = std::iter::successors(Some(unit), |&unit| {
            nearest(unit).filter(|above| listed.contains(above))
        });
        line.last().unwrap_or(unit)
    };
    let mut families: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for &unit in listed {
        families.entry(top(unit)).or_default();
    }
    for &unit in known.iter().filter(|unit| !listed.contains(unit)) {
        if let Some(parent) = nearest(unit).filter(|parent| listed.contains(parent)) {
            families.entry(top(parent)).or_default().push(unit);
        }
    }
    families.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 is above 12 and 13, 12 is above 121.
    fn above(unit: u64) -> Vec<u64> {
        std::iter::successors(Some(unit), |unit| Some(unit / 10).filter(|&unit| unit > 0))
            .skip(1)
            .collect()
    }

    fn of(listed: &[u64]) -> Vec<(u64, Vec<u64>)> {
        families(&listed.iter().copied().collect(), &[1, 12, 121, 13, 2], above)
    }

    #[test]
    fn a_whole_tree_is_its_root() {
        assert_eq!(of(&[1, 12, 121, 13]), [(1, vec![])]);
        assert_eq!(of(&[12, 121, 2]), [(2, vec![]), (12, vec![])]);
    }

    #[test]
    fn what_is_left_out_is_said_and_what_is_taken_in_again_too() {
        assert_eq!(of(&[1]), [(1, vec![12, 13])]);
        assert_eq!(of(&[1, 13, 121]), [(1, vec![12]), (121, vec![])]);
    }
}
