//! Numbers that look random and are the same in every run: a million of them are made in no time, which property tests
//! do not need and large tables do.

use std::ops::RangeInclusive;

use verdict::Address;

/// The generator, from its seed (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014: SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// Any number.
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, as evenly as a multiplication makes it. Below 0 is 0.
    pub fn below(&mut self, end: u32) -> u32 {
        let scaled = (self.roll() >> 32) * u64::from(end);
        u32::try_from(scaled >> 32).expect("less than the end")
    }

    /// A length of a prefix, or whatever else is small, evenly.
    pub fn within(&mut self, range: RangeInclusive<u8>) -> u8 {
        let (first, last) = range.into_inner();
        let more = self.below(u32::from(last - first) + 1);
        first + u8::try_from(more).expect("within the range")
    }

    /// Any number of `bits` bits, 128 at the most.
    pub fn bits(&mut self, bits: u8) -> u128 {
        let all = u128::from(self.roll()) << 64 | u128::from(self.roll());
        all.checked_shr(128 - u32::from(bits)).unwrap_or(0)
    }

    /// One of `these`.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn one<T: Copy>(&mut self, these: &[T]) -> T {
        let count = u32::try_from(these.len()).expect("fewer than 2^32");
        these[self.below(count) as usize]
    }

    /// Any IPv4 address.
    pub fn v4(&mut self) -> Address {
        Address::v4(self.below(u32::MAX))
    }

    /// An address of the Internet's part of IPv6, 2000::/3.
    pub fn v6(&mut self) -> Address {
        Address::from_bits(1 << 125 | self.bits(125))
    }
}
