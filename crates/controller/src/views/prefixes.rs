//! Which ranges hold an address: an index by prefix.

use std::collections::BTreeMap;

use super::vocabulary::Term;

/// Terms by the prefixes of their ranges, the prefixes by their length in bits.
#[derive(Debug, Default)]
pub(super) struct Prefixes(BTreeMap<u32, BTreeMap<u128, Vec<Term>>>);

impl Prefixes {
    /// Puts a term in for an inclusive range.
    pub(super) fn put(&mut self, range: (u128, u128), term: Term) {
        each(range, |bits, first| {
            let terms = self.0.entry(bits).or_default().entry(first).or_default();
            if terms.last() != Some(&term) {
                terms.push(term);
            }
        });
    }

    /// The terms of all ranges that hold an address, ascending, each once. Costs one look-up for each length of prefix
    /// that there is.
    pub(super) fn holding(&self, address: u128) -> Vec<Term> {
        let mut found = Vec::new();
        for (bits, prefixes) in &self.0 {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            if let Some(terms) = prefixes.get(&(address & mask)) {
                found.extend_from_slice(terms);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Calls `take` with length in bits and first address of each prefix that a range is made of.
fn each((first, last): (u128, u128), mut take: impl FnMut(u32, u128)) {
    let mut at = first;
    while at <= last {
        // The largest block that begins here and does not go beyond the end.
        let room = (last - at).checked_add(1).map_or(128, u128::ilog2);
        let block = at.trailing_zeros().min(room);
        take(128 - block, at);
        let next = 1u128.checked_shl(block).and_then(|size| at.checked_add(size));
        match next {
            Some(next) => at = next,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_what_lies_in_it() {
        let ranges = [
            (0, u128::MAX),
            (0, 0),
            (u128::MAX, u128::MAX),
            (5, 5),
            (1, 6),
            (7, 1 << 40),
            (3 << 64, (4 << 64) - 1),
            (1, u128::MAX),
            (0, u128::MAX - 1),
        ];
        let mut prefixes = Prefixes::default();
        for (term, range) in (0..).zip(ranges) {
            prefixes.put(range, term);
        }
        let edges = ranges.iter().flat_map(|&(first, last)| {
            [first.saturating_sub(1), first, last, last.saturating_add(1), first / 2 + last / 2]
        });
        for address in edges {
            let wanted: Vec<Term> = (0..)
                .zip(ranges)
                .filter(|(_, (first, last))| (*first..=*last).contains(&address))
                .map(|(term, _)| term)
                .collect();
            assert_eq!(prefixes.holding(address), wanted, "{address:x}");
        }
    }
}
