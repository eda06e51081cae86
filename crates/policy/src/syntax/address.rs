//! Addresses, prefixes and ranges as they are written.

use std::{borrow::Cow, fmt, net::IpAddr, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use verdict::Address;

/// Bits before an IPv4 address in its mapped form.
const MAPPED_BITS: u8 = 96;

/// An address (`10.0.0.1`), a prefix (`10.0.0.0/8`) or a range (`10.0.0.1-10.0.0.9`). Canonical: IPv4 and its `::ffff:`
/// form are the same value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Addresses {
    first: Address,
    last: Address,
    /// Bits of the canonical prefix, 0 to 128; `None` for a range.
    bits: Option<u8>,
}

/// Why a text is not addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not an address of either family.
    #[error("`{0}` is not an address, a prefix or a range of addresses")]
    Malformed(String),
    /// An address with a zone.
    #[error("`{0}` has a zone: an interface is not part of an address here")]
    Zone(String),
    /// A prefix length that is no number or too large.
    #[error("`/{length}` is not a prefix length: 0 to {max} is")]
    Length {
        /// As written.
        length: String,
        /// 32 or 128.
        max: u8,
    },
    /// Bits set beyond the prefix.
    #[error("`{written}` has bits set beyond its prefix: the network is `{network}`")]
    HostBits {
        /// As written.
        written: String,
        /// The corrected prefix.
        network: String,
    },
    /// A range that ends before it begins.
    #[error("the range ends before it begins: write `{0}`")]
    Reversed(String),
    /// A range from one family into the other.
    #[error("`{0}` begins in one address family and ends in the other")]
    Families(String),
}

impl Addresses {
    /// The first address.
    pub fn first(&self) -> Address {
        self.first
    }

    /// The last address.
    pub fn last(&self) -> Address {
        self.last
    }

    /// Bits of the prefix in the canonical 128-bit form (96 more than written for IPv4); `None` for a range.
    pub fn bits(&self) -> Option<u8> {
        self.bits
    }

    /// The addresses meant, as inclusive ranges of their numbers. An IPv6 prefix or range that covers the IPv4-mapped
    /// block (`::/0`, say) means IPv6 only, so it leaves that block out.
    pub fn ranges(&self) -> impl Iterator<Item = (u128, u128)> + use<> {
        let (first, last) = (self.first.bits(), self.last.bits());
        let (v4_first, v4_last) = (Address::v4(0).bits(), Address::v4(u32::MAX).bits());
        let ranges = if first < v4_first && last >= v4_first {
            [Some((first, v4_first - 1)), (last > v4_last).then_some((v4_last + 1, last))]
        } else {
            [Some((first, last)), None]
        };
        ranges.into_iter().flatten()
    }

    /// Whether `text`, if it is addresses at all, spells IPv4 in its IPv6 form (`::ffff:10.0.0.1`).
    pub fn is_mapped_spelling(&self, text: &str) -> bool {
        self.first.is_v4() && self.last.is_v4() && text.contains(':')
    }

    fn prefix(text: &str, address: &str, length: &str) -> Result<Self, AddressError> {
        let (address, family_bits) = canonical(text, address)?;
        // `::ffff:10.0.0.0/104` counts from the front of the 128 bits, `10.0.0.0/8` from the front of the 32.
        let max = 128 - family_bits;
        let plain = !length.is_empty()
            && length.bytes().all(|byte| byte.is_ascii_digit())
            && (length.len() == 1 || !length.starts_with('0'));
        let bits = length.parse::<u8>().ok().filter(|&bits| plain && bits <= max);
        let Some(bits) = bits else {
            return Err(AddressError::Length { length: length.to_owned(), max });
        };
        let bits = bits + family_bits;
        let rest = u128::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
        let number = address.bits();
        let network = Self {
            first: Address::from_bits(number & !rest),
            last: Address::from_bits(number | rest),
            bits: Some(bits),
        };
        if number & rest == 0 {
            Ok(network)
        } else {
            Err(AddressError::HostBits { written: text.to_owned(), network: network.to_string() })
        }
    }

    fn range(text: &str, first: &str, last: &str) -> Result<Self, AddressError> {
        let (first, _) = canonical(text, first)?;
        let (last, _) = canonical(text, last)?;
        if first.is_v4() != last.is_v4() {
            return Err(AddressError::Families(text.to_owned()));
        }
        if last < first {
            let turned = Self { first: last, last: first, bits: None };
            return Err(AddressError::Reversed(turned.to_string()));
        }
        Ok(Self { first, last, bits: None })
    }
}

impl From<Address> for Addresses {
    fn from(address: Address) -> Self {
        Self { first: address, last: address, bits: Some(128) }
    }
}

/// The canonical address that `part` of `text` spells, and how many bits stand before it in the canonical form.
fn canonical(text: &str, part: &str) -> Result<(Address, u8), AddressError> {
    if part.contains('%') {
        return Err(AddressError::Zone(text.to_owned()));
    }
    let ip =
        part.parse::<IpAddr>().map_err(|_malformed| AddressError::Malformed(text.to_owned()))?;
    Ok(match ip {
        IpAddr::V4(v4) => (Address::v4(v4.to_bits()), MAPPED_BITS),
        IpAddr::V6(v6) => (Address::from_bits(v6.to_bits()), 0),
    })
}

impl FromStr for Addresses {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some((address, length)) = text.split_once('/') {
            Self::prefix(text, address, length)
        } else if let Some((first, last)) = text.split_once('-') {
            Self::range(text, first, last)
        } else {
            canonical(text, text).map(|(address, _)| address.into())
        }
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}", Spelled(self.first))?;
        // A prefix of fewer than 96 bits is IPv6 even where its first address looks mapped; `::ffff:0:0/96` is 0.0.0.0/0.
        match self.bits {
            Some(128) => Ok(()),
            Some(bits) if self.first.is_v4() && bits >= MAPPED_BITS => {
                write!(to, "/{}", bits - MAPPED_BITS)
            }
            Some(bits) => write!(to, "/{bits}"),
            None => write!(to, "-{}", Spelled(self.last)),
        }
    }
}

/// The spelling of one canonical address.
struct Spelled(Address);

impl fmt::Display for Spelled {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_v4() {
            Some(v4) => std::net::Ipv4Addr::from_bits(v4).fmt(to),
            None => std::net::Ipv6Addr::from_bits(self.0.bits()).fmt(to),
        }
    }
}

impl TryFrom<String> for Addresses {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Addresses> for String {
    fn from(addresses: Addresses) -> Self {
        addresses.to_string()
    }
}

impl JsonSchema for Addresses {
    fn schema_name() -> Cow<'static, str> {
        "Addresses".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An address, a prefix or a range: 10.0.0.1, 2001:db8::/48, 10.0.0.1-10.0.0.9.",
            "type": "string",
            "minLength": 2,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        match text.parse::<Addresses>() {
            Ok(addresses) => addresses.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn ipv4_and_its_mapped_form_are_one() {
        assert_eq!(written("::ffff:10.0.0.1"), "10.0.0.1");
        assert_eq!(written("::ffff:10.0.0.0/104"), "10.0.0.0/8");
        assert_eq!(written("::ffff:0:0/96"), "0.0.0.0/0");
        assert_eq!("::ffff:a00:1".parse::<Addresses>(), "10.0.0.1".parse());
    }

    #[test]
    fn every_fault_is_named() {
        assert_eq!(
            written("10.0.0.1/8"),
            "`10.0.0.1/8` has bits set beyond its prefix: the network is `10.0.0.0/8`"
        );
        assert_eq!(written("10.0.0.0/33"), "`/33` is not a prefix length: 0 to 32 is");
        assert_eq!(written("10.0.0.0/08"), "`/08` is not a prefix length: 0 to 32 is");
        assert_eq!(written("2001:db8::/"), "`/` is not a prefix length: 0 to 128 is");
        assert_eq!(
            written("10.0.0.9-10.0.0.1"),
            "the range ends before it begins: write `10.0.0.1-10.0.0.9`"
        );
        assert_eq!(
            written("10.0.0.9-::1"),
            "`10.0.0.9-::1` begins in one address family and ends in the other"
        );
        assert_eq!(
            written("10.0.0"),
            "`10.0.0` is not an address, a prefix or a range of addresses"
        );
        assert_eq!(
            written("010.0.0.1"),
            "`010.0.0.1` is not an address, a prefix or a range of addresses"
        );
    }

    #[test]
    fn all_of_ipv6_leaves_ipv4_out() {
        let all: Addresses = "::/0".parse().unwrap();
        let ranges: Vec<_> = all.ranges().collect();
        assert_eq!(ranges, [(0, 0xfffe_ffff_ffff), (0x1_0000_0000_0000, u128::MAX)]);
        let v4: Addresses = "0.0.0.0/0".parse().unwrap();
        assert_eq!(v4.ranges().collect::<Vec<_>>(), [(0xffff_0000_0000, 0xffff_ffff_ffff)]);
        assert_eq!(written("::/0"), "::/0");
        assert_eq!(
            written("::ffff:0:0/95"),
            "`::ffff:0:0/95` has bits set beyond its prefix: the network is `::fffe:0:0/95`"
        );
    }
}
