//! Tables of prefixes like those that people have: lists of threats, and the routes of the Internet in both families. The
//! same in every run.
//!
//! Prefixes belong to several lists. An address is in the list of the longest prefix that has it, so a prefix inside
//! another one, or beside it, is rarely the same to a look-up.

use std::collections::BTreeMap;

use testbed::Dice;
use verdict::Address;

/// Lists that the prefixes of a table belong to.
pub(crate) const LISTS: u8 = 16;
/// Bits of the canonical address above an IPv4 address.
const MAPPED_BITS: u8 = 96;
const MAPPED: u128 = 0xffff << 32;

/// A prefix: the canonical address, zero behind its length, and the length.
pub(crate) type Prefix = (u128, u8);

/// What a table is like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// 60 % hosts, 25 % networks of 24 bits, 15 % of 16 to 31 bits, all over the address space.
    Threats4,
    /// Lengths as in the routes of the Internet, most of them in few of the networks of 16 bits.
    Routes4,
    /// Lengths as there; routes in allocations of 29 bits that registries gave one after the other, most of them in few.
    Routes6,
}

/// How many of a thousand prefixes have a length. The greatest shares are those of the global table of 2024 (G. Huston,
/// "BGP in 2024", APNIC): six of ten IPv4 routes are of 24 bits, 46 % of IPv6 routes are of 48.
const LENGTHS4: [(u8, u32); 14] = [
    (24, 605),
    (23, 100),
    (22, 115),
    (21, 52),
    (20, 46),
    (19, 27),
    (18, 15),
    (17, 9),
    (16, 15),
    (15, 6),
    (14, 4),
    (13, 3),
    (12, 2),
    (11, 1),
];
const LENGTHS6: [(u8, u32); 17] = [
    (48, 460),
    (32, 110),
    (44, 90),
    (40, 85),
    (36, 55),
    (46, 35),
    (47, 35),
    (45, 20),
    (42, 20),
    (29, 20),
    (38, 15),
    (34, 12),
    (33, 12),
    (35, 9),
    (43, 8),
    (41, 8),
    (56, 6),
];
/// IPv4 networks of 16 bits from 1.0.0.0 to 223.255.0.0.
const BLOCKS4: u32 = 223 << 8;
/// Where the registries' IPv6 space begins (IANA, "IPv6 Global Unicast Address Assignments"): the first 32 bits.
const REGISTRIES: [u32; 6] =
    [0x2001_0200, 0x2400_0000, 0x2600_0000, 0x2800_0000, 0x2a00_0000, 0x2c00_0000];
/// Allocations of 29 bits.
const ALLOCATIONS: u32 = 120_000;

/// Below `end`, the less the more often: a tenth of the numbers comes in almost half of the cases.
fn few(dice: &mut Dice, end: u32) -> u32 {
    let mut third = || u64::from(dice.below(1 << 16));
    let product = third() * third() * third();
    u32::try_from(((product >> 16) * u64::from(end)) >> 32).expect("less than the end")
}

/// A length, as often as its share says.
fn length(dice: &mut Dice, shares: &[(u8, u32)]) -> u8 {
    let whole = shares.iter().map(|&(_, share)| share).sum();
    let mut rest = dice.below(whole);
    for &(length, share) in shares {
        if rest < share {
            return length;
        }
        rest -= share;
    }
    unreachable!("what is below the sum of all shares is below that of some")
}

impl Shape {
    /// `count` prefixes, each with its list.
    pub(crate) fn table(self, count: usize) -> BTreeMap<Prefix, u8> {
        let mut dice = Dice(2015);
        let mut table = BTreeMap::new();
        let mut last = (self.prefix(&mut dice), 0);
        while table.len() < count {
            // Networks of one owner stand beside each other, and often are the same to others.
            let beside = !matches!(self, Self::Threats4) && dice.below(2) == 0;
            let prefix = if beside { beside_of(last.0) } else { self.prefix(&mut dice) };
            let list = match dice.below(2) {
                0 if beside => last.1,
                _ => u8::try_from(dice.below(LISTS.into())).expect("lists are few"),
            };
            table.entry(prefix).or_insert(list);
            last = (prefix, list);
        }
        table
    }

    fn prefix(self, dice: &mut Dice) -> Prefix {
        let (address, bits) = match self {
            Self::Threats4 => {
                let bits = match dice.below(100) {
                    0..60 => 32,
                    60..85 => 24,
                    _ => dice.within(16..=31),
                };
                (MAPPED | dice.bits(32), MAPPED_BITS + bits)
            }
            Self::Routes4 => {
                let bits = length(dice, &LENGTHS4);
                // The factor and the number of blocks have no divisor in common: each block comes once.
                let block = (1 << 8) + (few(dice, BLOCKS4) * 40_503) % BLOCKS4;
                (MAPPED | u128::from(block) << 16 | dice.bits(16), MAPPED_BITS + bits)
            }
            Self::Routes6 => {
                let bits = length(dice, &LENGTHS6);
                let allocation = few(dice, ALLOCATIONS);
                let registries = u32::try_from(REGISTRIES.len()).expect("six");
                let registry = (allocation % registries) as usize;
                let first = REGISTRIES.get(registry).copied().unwrap_or_default();
                let network = first + (allocation / registries) * 8;
                // Owners begin to number from 0, and not all of them go far.
                let inside = dice.bits(96);
                let inside = if dice.below(2) == 0 { inside >> 8 } else { inside };
                (u128::from(network) << 96 | inside, bits)
            }
        };
        (address & mask(bits), bits)
    }
}

/// The network of the same length that follows, or the last one again.
fn beside_of((address, bits): Prefix) -> Prefix {
    let size = 1u128 << (128 - u32::from(bits));
    // Not out of the block of 16 bits that an IPv4 network is in, nor out of an allocation of 32.
    let around = mask(if bits > MAPPED_BITS { (MAPPED_BITS + 16).min(bits) } else { bits.min(32) });
    let next = address.wrapping_add(size);
    if next & around == address & around { (next, bits) } else { (address, bits) }
}

/// The first `bits` bits, at least one.
fn mask(bits: u8) -> u128 {
    u128::MAX << (128 - u32::from(bits))
}

/// Addresses in prefixes that are picked at random.
pub(crate) fn addresses(table: &BTreeMap<Prefix, u8>, count: u32) -> Vec<Address> {
    let prefixes: Vec<Prefix> = table.keys().copied().collect();
    let mut dice = Dice(1999);
    let many = u32::try_from(prefixes.len()).expect("a table is a few millions");
    let address = |_| {
        let (first, bits) = prefixes.get(dice.below(many) as usize).copied().unwrap_or_default();
        Address::from_bits(first | dice.bits(128 - bits))
    };
    (0..count).map(address).collect()
}

/// The ranges of each list: where it has the longest prefix.
pub(crate) fn ranges(table: &BTreeMap<Prefix, u8>) -> Vec<Vec<(Address, Address)>> {
    let mut lists = vec![Vec::new(); LISTS.into()];
    let mut put = |list: u8, first: u128, last: u128| {
        if first <= last
            && let Some(list) = lists.get_mut(usize::from(list))
        {
            list.push((Address::from_bits(first), Address::from_bits(last)));
        }
    };
    // Prefixes that are open at a place, the longest last: its last address, its list.
    let mut open: Vec<(u128, u8)> = Vec::new();
    let mut from = 0;
    for (&(first, bits), &list) in table {
        while let Some(&(last, own)) = open.last().filter(|(last, _)| *last < first) {
            put(own, from, last);
            from = last + 1;
            open.pop();
        }
        if let Some(&(_, around)) = open.last()
            && from < first
        {
            put(around, from, first - 1);
        }
        from = first;
        open.push((first | !mask(bits), list));
    }
    while let Some((last, own)) = open.pop() {
        put(own, from, last);
        from = last.saturating_add(1);
    }
    lists
}
