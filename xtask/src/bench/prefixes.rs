//! The prefixes that contenders hold and the addresses that are connected to: the same in every run, and so made that no
//! prefix of any list covers an address that is connected to.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result};

/// An address of the namespace that every contender denies, and the network that it is in.
pub(super) const DENIED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const DENIED_NETWORK: Prefix = Prefix { bits: 0xc633_6400, length: 24 };
/// A network that no list has: TEST-NET-3 (RFC 5737), which a change adds.
const FREE_NETWORK: Prefix = Prefix { bits: 0xcb00_7100, length: 24 };

/// An IPv4 prefix; the bits behind its length are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix {
    bits: u32,
    length: u32,
}

impl Prefix {
    fn of(bits: u32, length: u32) -> Self {
        Self { bits: bits & mask(length), length }
    }

    /// Its first address.
    pub(super) fn first(self) -> u32 {
        self.bits
    }

    /// Its length in bits.
    pub(super) fn length(self) -> u32 {
        self.length
    }

    /// The last address of it.
    fn last(self) -> u32 {
        self.bits | !mask(self.length)
    }

    /// Addresses are written without a length.
    fn is_host(self) -> bool {
        self.length == 32
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = Ipv4Addr::from(self.bits);
        if self.is_host() { write!(f, "{address}") } else { write!(f, "{address}/{}", self.length) }
    }
}

/// The first `length` bits, which are at least one.
fn mask(length: u32) -> u32 {
    u32::MAX << (32 - length)
}

/// What one kind of list is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Like lists of threats: 60 % hosts, 25 % networks of 24 bits, the rest of 16 to 31 bits.
    Threats,
    /// Networks of 24 bits.
    Networks,
    /// Single addresses.
    Hosts,
}

/// `count` prefixes of a shape; the denied address is in one of them.
pub(super) fn list(shape: Shape, count: usize, seed: u64) -> Vec<Prefix> {
    let mut random = Random(seed);
    let denied = match shape {
        Shape::Threats | Shape::Networks => DENIED_NETWORK,
        Shape::Hosts => Prefix::of(DENIED.to_bits(), 32),
    };
    let mut prefixes = BTreeSet::from([denied]);
    while prefixes.len() < count {
        let length = match (shape, random.below(100)) {
            (Shape::Hosts, _) | (Shape::Threats, 0..60) => 32,
            (Shape::Networks, _) | (Shape::Threats, 60..85) => 24,
            (Shape::Threats, _) => 16 + random.below(16),
        };
        let prefix = Prefix::of(random.next(), length);
        // Neither what nobody connects to, nor the namespace's own.
        let near = |network: Prefix| prefix.bits & mask(24) == network.bits;
        let wide = prefix.bits <= FREE_NETWORK.bits && prefix.last() >= FREE_NETWORK.bits;
        if !matches!(prefix.bits >> 24, 0 | 127 | 224..)
            && ![DENIED_NETWORK, FREE_NETWORK].into_iter().any(near)
            && !wide
        {
            prefixes.insert(prefix);
        }
    }
    prefixes.into_iter().collect()
}

/// Addresses beside hosts of `beside`, in random order, that none of `lists` covers. A look-up there goes as deep as one
/// of a listed address does, and no two go the same way for long.
pub(super) fn neighbours(
    beside: &[Prefix],
    lists: &[&[Prefix]],
    count: usize,
    seed: u64,
) -> Vec<Ipv4Addr> {
    let covered = Covered::by(lists);
    let hosts: Vec<u32> = beside.iter().filter(|it| it.is_host()).map(|it| it.bits ^ 1).collect();
    let mut free: Vec<u32> = hosts.into_iter().filter(|it| !covered.has(*it)).collect();
    let mut random = Random(seed);
    let wanted = count.min(free.len());
    for at in 0..wanted {
        let rest = u32::try_from(free.len() - at).unwrap_or(u32::MAX);
        free.swap(at, at + random.below(rest) as usize);
    }
    free.truncate(wanted);
    free.into_iter().map(Ipv4Addr::from).collect()
}

/// Ranges of addresses that prefixes cover, none touching another.
struct Covered(Vec<(u32, u32)>);

impl Covered {
    fn by(lists: &[&[Prefix]]) -> Self {
        let mut all: Vec<Prefix> = lists.iter().flat_map(|list| list.iter().copied()).collect();
        all.sort_unstable();
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for prefix in all {
            match ranges.last_mut() {
                Some((_, last)) if prefix.bits <= *last => *last = prefix.last().max(*last),
                _ => ranges.push((prefix.bits, prefix.last())),
            }
        }
        Self(ranges)
    }

    fn has(&self, address: u32) -> bool {
        let behind = self.0.partition_point(|(first, _)| *first <= address);
        behind
            .checked_sub(1)
            .and_then(|at| self.0.get(at))
            .is_some_and(|(_, last)| address <= *last)
    }
}

/// Writes one a line.
pub(super) fn write(path: &Path, lines: impl IntoIterator<Item = impl fmt::Display>) -> Result<()> {
    let text: String = lines.into_iter().map(|line| format!("{line}\n")).collect();
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// Numbers that look random and are the same in every run: SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((mixed ^ mixed >> 31) >> 32).expect("32 bits are left")
    }

    /// Below `end`, as evenly as a multiplication makes it.
    fn below(&mut self, end: u32) -> u32 {
        u32::try_from((u64::from(self.next()) * u64::from(end)) >> 32).expect("less than the end")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_list_covers_an_address_that_is_connected_to_and_each_covers_the_denied_one() {
        let threats = list(Shape::Threats, 3_000, 1);
        let networks = list(Shape::Networks, 2_000, 2);
        let hosts = list(Shape::Hosts, 500, 3);
        assert_eq!([threats.len(), networks.len(), hosts.len()], [3_000, 2_000, 500]);
        let lists: [&[Prefix]; 3] = [&threats, &networks, &hosts];
        let addresses = neighbours(&threats, &lists, 1_000, 4);
        assert_eq!(addresses.len(), 1_000);
        for list in lists {
            let within = |address: Ipv4Addr| {
                list.iter().any(|it| it.bits == address.to_bits() & mask(it.length))
            };
            assert!(within(DENIED));
            assert!(!addresses.iter().any(|address| within(*address)));
        }
        assert!(
            threats
                .iter()
                .any(|it| it.is_host() && addresses.contains(&Ipv4Addr::from(it.bits ^ 1)))
        );
        assert_eq!(networks.first().unwrap().to_string().split_once('/').unwrap().1, "24");
    }
}
