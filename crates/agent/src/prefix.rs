//! Prefixes and ports as people write them.

use std::{net::IpAddr, str::FromStr};

use verdict::Address;

/// The canonical form of an address as the standard library has it.
pub fn canonical(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => Address::v4(v4.to_bits()),
        IpAddr::V6(v6) => Address::from_bits(v6.to_bits()),
    }
}

/// An address as the standard library has it: IPv4-mapped ones as IPv4.
pub fn standard(address: Address) -> IpAddr {
    match address.as_v4() {
        Some(v4) => IpAddr::V4(v4.into()),
        None => IpAddr::V6(address.bits().into()),
    }
}

/// `ADDR` or `ADDR/LEN`, IPv4 or IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// First address.
    pub address: Address,
    /// Leading bits that count, of the canonical 128.
    pub bits: u8,
    /// As typed.
    pub text: String,
}

/// What is wrong with a prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPrefix {
    /// The address is none; a name, say.
    #[error("'{0}' is not an IPv4 or IPv6 address")]
    Address(String),
    /// The length is no number, or too long for the family.
    #[error("'{length}' is not a prefix length from 0 to {max}")]
    Length {
        /// As typed.
        length: String,
        /// The longest of the family.
        max: u8,
    },
    /// It is an address in a network, and not a network; the network is named.
    #[error("bits are set beyond the prefix length; write {0}")]
    HostBits(String),
    /// The unspecified address, which is nobody's: what it reaches, and what denies its family.
    #[error("connecting to it reaches {0}: deny that, or all of the family with {1}")]
    Unspecified(&'static str, &'static str),
}

impl FromStr for Prefix {
    type Err = BadPrefix;

    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        let (address_text, length_text) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let typed: IpAddr =
            address_text.parse().map_err(|_error| BadPrefix::Address(address_text.to_owned()))?;
        let max = if typed.is_ipv4() { 32 } else { 128 };
        let length = match length_text {
            None => max,
            Some(length) => length
                .parse()
                .ok()
                .filter(|&bits: &u8| {
                    bits <= max && length.bytes().all(|byte| byte.is_ascii_digit())
                })
                .ok_or_else(|| BadPrefix::Length { length: length.to_owned(), max })?,
        };
        let address = canonical(typed);
        let bits = length + (128 - max);
        let network = Address::from_bits(
            address.bits() & !u128::MAX.checked_shr(u32::from(bits)).unwrap_or(0),
        );
        if network != address {
            let shown =
                if typed.is_ipv4() { standard(network) } else { IpAddr::V6(network.bits().into()) };
            return Err(BadPrefix::HostBits(format!("{shown}/{length}")));
        }
        if address.is_unspecified() && bits == 128 {
            return Err(if address.is_v4() {
                BadPrefix::Unspecified("127.0.0.1", "0.0.0.0/0")
            } else {
                BadPrefix::Unspecified("::1", "::/0")
            });
        }
        Ok(Self { address, bits, text: text.to_owned() })
    }
}

/// `PORT` or `PORT-PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// First port, never 0.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

/// What is wrong with a port or a range of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPorts {
    /// No number, or out of range.
    #[error("'{0}' is not a port from 1 to 65535")]
    Port(String),
    /// The last port is below the first.
    #[error("the range ends before it begins; write {1}-{0}")]
    Reversed(u16, u16),
}

impl FromStr for Ports {
    type Err = BadPorts;

    fn from_str(text: &str) -> Result<Self, BadPorts> {
        let port = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse()
                .ok()
                .filter(|&port| digits && port != 0)
                .ok_or_else(|| BadPorts::Port(text.to_owned()))
        };
        // A leading minus is a negative number, not a range that lacks its beginning.
        let (first, last) = match text.split_once('-').filter(|(first, _)| !first.is_empty()) {
            Some((first, last)) => (port(first)?, port(last)?),
            None => {
                let port = port(text)?;
                (port, port)
            }
        };
        if last < first { Err(BadPorts::Reversed(first, last)) } else { Ok(Self { first, last }) }
    }
}

impl std::fmt::Display for Ports {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last {
            write!(formatter, "{}", self.first)
        } else {
            write!(formatter, "{}-{}", self.first, self.last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_canonical() {
        let parsed =
            |text: &str| text.parse::<Prefix>().map(|prefix| (prefix.address, prefix.bits));
        let v4 = Address::v4(0xc0a8_3865);
        assert_eq!(parsed("192.168.56.101"), Ok((v4, 128)));
        assert_eq!(parsed("::ffff:192.168.56.101"), Ok((v4, 128)));
        assert_eq!(parsed("192.168.56.0/24"), Ok((Address::v4(0xc0a8_3800), 120)));
        assert_eq!(parsed("::1"), Ok((Address::LOOPBACK_V6, 128)));
        assert_eq!(parsed("::/0"), Ok((Address::UNSPECIFIED_V6, 0)));
        assert_eq!(parsed("0.0.0.0/0"), Ok((Address::UNSPECIFIED_V4, 96)));
    }

    #[test]
    fn bad_prefixes_say_what_is_wrong() {
        for (text, message) in [
            ("192.168.56.400", "'192.168.56.400' is not an IPv4 or IPv6 address"),
            ("", "'' is not an IPv4 or IPv6 address"),
            ("localhost", "'localhost' is not an IPv4 or IPv6 address"),
            ("10.0.0.0/33", "'33' is not a prefix length from 0 to 32"),
            ("10.0.0.0/+8", "'+8' is not a prefix length from 0 to 32"),
            ("::1/129", "'129' is not a prefix length from 0 to 128"),
            ("10.0.0.1/8", "bits are set beyond the prefix length; write 10.0.0.0/8"),
            ("2001:db8::1/32", "bits are set beyond the prefix length; write 2001:db8::/32"),
            (
                "0.0.0.0",
                "connecting to it reaches 127.0.0.1: deny that, or all of the family with 0.0.0.0/0",
            ),
            ("::", "connecting to it reaches ::1: deny that, or all of the family with ::/0"),
        ] {
            assert_eq!(text.parse::<Prefix>().expect_err(text).to_string(), message);
        }
    }

    #[test]
    fn ports_are_checked() {
        assert_eq!("22".parse(), Ok(Ports { first: 22, last: 22 }));
        assert_eq!("8000-8999".parse(), Ok(Ports { first: 8000, last: 8999 }));
        for (text, message) in [
            ("70000", "'70000' is not a port from 1 to 65535"),
            ("-1", "'-1' is not a port from 1 to 65535"),
            ("0", "'0' is not a port from 1 to 65535"),
            ("9-8", "the range ends before it begins; write 8-9"),
            ("8-", "'' is not a port from 1 to 65535"),
            ("http", "'http' is not a port from 1 to 65535"),
        ] {
            assert_eq!(text.parse::<Ports>().expect_err(text).to_string(), message);
        }
    }
}
