//! Canonical addresses: one host address has one spelling, whatever family the socket spoke.

/// An IP address as 128 bits, IPv4 in its IPv4-mapped form `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2).
///
/// Because IPv4 *is* its mapped form here, the two cannot be told apart and a rule for one is a rule for the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The upper 64 bits, as a number.
    pub hi: u64,
    /// The lower 64 bits, as a number.
    pub lo: u64,
}

/// The upper half of the lower word of every IPv4-mapped address.
const MAPPED: u64 = 0xffff << 32;

impl Address {
    /// `127.0.0.1`
    pub const LOOPBACK_V4: Self = Self::v4(0x7f00_0001);
    /// `::1`
    pub const LOOPBACK_V6: Self = Self { hi: 0, lo: 1 };
    /// `::`
    pub const UNSPECIFIED_V6: Self = Self { hi: 0, lo: 0 };
    /// `0.0.0.0`
    pub const UNSPECIFIED_V4: Self = Self::v4(0);

    /// An IPv4 address from its number: `127.0.0.1` is `0x7f00_0001`.
    #[inline(always)]
    pub const fn v4(address: u32) -> Self {
        Self { hi: 0, lo: MAPPED | address as u64 }
    }

    /// An IPv6 address from the four words of `sin6_addr`, each already in host byte order.
    #[inline(always)]
    pub const fn v6(words: [u32; 4]) -> Self {
        let [a, b, c, d] = words;
        Self { hi: (a as u64) << 32 | b as u64, lo: (c as u64) << 32 | d as u64 }
    }

    /// From the 16 bytes of the address in network order.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let bits = u128::from_be_bytes(bytes);
        Self::from_bits(bits)
    }

    /// From the address as one number.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the two halves of the number are what is wanted"
    )]
    pub const fn from_bits(bits: u128) -> Self {
        Self { hi: (bits >> 64) as u64, lo: bits as u64 }
    }

    /// The address as one number.
    pub const fn bits(self) -> u128 {
        (self.hi as u128) << 64 | self.lo as u128
    }

    /// Whether this is an IPv4 address (or its mapped form, which is the same).
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        self.hi == 0 && self.lo >> 32 == 0xffff
    }

    /// The IPv4 address as a number, if it is one.
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is the IPv4 address")]
    pub const fn as_v4(self) -> Option<u32> {
        if self.is_v4() { Some(self.lo as u32) } else { None }
    }

    /// `127.0.0.0/8` or `::1`.
    #[inline(always)]
    pub const fn is_loopback(self) -> bool {
        self.hi == 0 && (self.lo == 1 || self.lo >> 24 == 0x00ff_ff7f)
    }

    /// `0.0.0.0` or `::`.
    #[inline(always)]
    pub const fn is_unspecified(self) -> bool {
        self.hi == 0 && (self.lo == 0 || self.lo == MAPPED)
    }

    /// Where a packet for this destination goes: the unspecified address reaches loopback.
    ///
    /// The kernel rewrites it only after the cgroup hooks ran (`ip_route_connect`, `tcp_v6_connect`), so a rule about
    /// 127.0.0.1 that looked at the asked-for address alone would be bypassed by 0.0.0.0.
    #[inline(always)]
    pub const fn as_destination(self) -> Self {
        if self.hi == 0 && self.lo == MAPPED {
            Self::LOOPBACK_V4
        } else if self.hi == 0 && self.lo == 0 {
            Self::LOOPBACK_V6
        } else {
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_its_ipv4_address() {
        assert_eq!(Address::v6([0, 0, 0xffff, 0xc0a8_3865]), Address::v4(0xc0a8_3865));
        assert_eq!(Address::v4(0xc0a8_3865).as_v4(), Some(0xc0a8_3865));
        assert_eq!(
            Address::v6([0, 0, 0, 0xc0a8_3865]).as_v4(),
            None,
            "IPv4-compatible is not IPv4-mapped"
        );
    }

    #[test]
    fn the_unspecified_destination_is_loopback() {
        assert_eq!(Address::UNSPECIFIED_V4.as_destination(), Address::LOOPBACK_V4);
        assert_eq!(Address::UNSPECIFIED_V6.as_destination(), Address::LOOPBACK_V6);
        assert_eq!(Address::v6([0, 0, 0xffff, 0]).as_destination(), Address::LOOPBACK_V4);
        assert_eq!(Address::v4(1).as_destination(), Address::v4(1));
    }

    #[test]
    fn loopback_is_the_whole_of_127() {
        for last in [0x7f00_0000, 0x7f00_0001, 0x7fff_ffff] {
            assert!(Address::v4(last).is_loopback());
        }
        assert!(Address::LOOPBACK_V6.is_loopback());
        assert!(!Address::v4(0x8000_0000).is_loopback());
        assert!(!Address::v6([0, 0, 0, 0x7f00_0001]).is_loopback());
    }

    #[test]
    fn bits_go_round() {
        let address = Address::v6([0x2001_0db8, 1, 2, 3]);
        assert_eq!(Address::from_bits(address.bits()), address);
        assert_eq!(Address::from_bytes(address.bits().to_be_bytes()), address);
    }
}
