//! A set of addresses as text: prefixes where a range is one, `first-last` where it is not.

use std::fmt;

use image::AddressSet;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
    ser::SerializeSeq,
};
use verdict::Address;

use super::Target;

/// A set of addresses that can be written into a file and read from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(pub AddressSet);

impl Serialize for Ranges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(None)?;
        for (first, last) in self.0.ranges() {
            sequence.serialize_element(&Range(first.bits(), last.bits()))?;
        }
        sequence.end()
    }
}

/// One range, both ends included.
struct Range(u128, u128);

impl Serialize for Range {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let &Self(first, last) = self;
        let host_bits = (last - first).count_ones();
        let aligned = (last - first).trailing_ones() == host_bits && first & (last - first) == 0;
        if aligned && let Ok(bits) = u8::try_from(128 - host_bits) {
            return Target::Addresses { first, bits }.serialize(serializer);
        }
        serializer.collect_str(&format_args!("{}-{}", Bits(first), Bits(last)))
    }
}

/// An address, IPv4 in its own form.
struct Bits(u128);

impl fmt::Display for Bits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::prefix::standard(Address::from_bits(self.0)).fmt(formatter)
    }
}

impl<'de> Deserialize<'de> for Ranges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Texts)
    }
}

struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = Ranges;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("addresses, prefixes and ranges of addresses")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Ranges, A::Error> {
        let mut ranges = Vec::new();
        while let Some(text) = sequence.next_element::<&str>()? {
            let range =
                parse(text).ok_or_else(|| A::Error::custom(format!("'{text}' is no range")))?;
            ranges.push(range);
        }
        Ok(Ranges(AddressSet::from_ranges(ranges)))
    }
}

fn parse(text: &str) -> Option<(Address, Address)> {
    let address = |text: &str| text.parse().ok().map(crate::prefix::canonical);
    if let Some((first, last)) = text.split_once('-') {
        return Some((address(first)?, address(last)?));
    }
    let (first, bits) = match text.split_once('/') {
        Some((first, bits)) => {
            let typed: std::net::IpAddr = first.parse().ok()?;
            let bits: u8 = bits.parse().ok()?;
            (
                crate::prefix::canonical(typed),
                bits.checked_add(if typed.is_ipv4() { 96 } else { 0 })?,
            )
        }
        None => (address(text)?, 128),
    };
    let host = u128::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
    Some((first, Address::from_bits(first.bits() | host)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(ends in prop::collection::vec((any::<u128>(), 0u32..128), 0..9), near in any::<bool>()) {
            let set = AddressSet::from_ranges(ends.into_iter().map(|(at, size)| {
                let (first, length) =
                    if near { (0xffff_0000_0000 | (at & 0xffff_ffff), 1 << (size % 34)) } else { (at, 1 << size) };
                (Address::from_bits(first), Address::from_bits(first.saturating_add(length)))
            }));
            let text = serde_json::to_string(&Ranges(set.clone())).unwrap();
            prop_assert_eq!(serde_json::from_str::<Ranges>(&text).unwrap().0, set);
        }
    }

    #[test]
    fn ranges_are_prefixes_where_they_can_be() {
        let v4 = |bits: u32| Address::v4(bits);
        let set = AddressSet::from_ranges([
            (v4(0xc000_0200), v4(0xc000_02ff)),
            (v4(0x0a00_0001), v4(0x0a00_0003)),
            (Address::UNSPECIFIED_V6, Address::from_bits(1)),
            (Address::from_bits(0xffff_0000_0000_0000), Address::from_bits(u128::MAX)),
        ]);
        assert_eq!(
            serde_json::to_string(&Ranges(set)).unwrap(),
            r#"["::/127","10.0.0.1-10.0.0.3","192.0.2.0/24","::ffff:0:0:0-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]"#
        );
        let all = Ranges(AddressSet::all());
        assert_eq!(serde_json::to_string(&all).unwrap(), r#"["::/0"]"#);
        assert_eq!(serde_json::from_str::<Ranges>(r#"["::/0"]"#).unwrap(), all);
    }
}
