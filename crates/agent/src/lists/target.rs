//! What one entry denies: addresses, or ports of a protocol.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::prefix::{BadPorts, BadPrefix, Ports, Prefix, standard};

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP, MPTCP included
    Tcp,
    /// UDP
    Udp,
}

/// What one entry denies, in both directions: an address by every protocol, a port as the peer's when connecting and as
/// our own when accepting. Written as people write it: `192.0.2.1`, `2001:db8::/32`, `tcp/10000`, `udp/6000-6063`; a
/// bare port is one of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The canonical first address and how many of its 128 bits count.
    Addresses {
        /// As the bits of a [`verdict::Address`].
        first: u128,
        /// 0 to 128.
        bits: u8,
    },
    /// Ports.
    Ports {
        /// Of which protocol.
        transport: Transport,
        /// First port, never 0.
        first: u16,
        /// Last port.
        last: u16,
    },
}

/// What is wrong with a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// Its address or length.
    #[error(transparent)]
    Prefix(#[from] BadPrefix),
    /// Its ports.
    #[error(transparent)]
    Ports(#[from] BadPorts),
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let bare = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let ports = match text.split_once('/') {
            Some(("tcp", ports)) => Some((Transport::Tcp, ports)),
            Some(("udp", ports)) => Some((Transport::Udp, ports)),
            None if bare && !text.is_empty() => Some((Transport::Tcp, text)),
            Some(_) | None => None,
        };
        if let Some((transport, ports)) = ports {
            let Ports { first, last } = ports.parse()?;
            return Ok(Self::Ports { transport, first, last });
        }
        let Prefix { address, bits, .. } = text.parse()?;
        Ok(Self::Addresses { first: address.bits(), bits })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Addresses { first, bits } => {
                let address = verdict::Address::from_bits(first);
                // `::/0` and its like begin at an IPv6 address; only what lies wholly in the mapped block is IPv4.
                let (shown, bits, max) = if address.is_v4() && bits >= 96 {
                    (standard(address), bits - 96, 32)
                } else {
                    (std::net::IpAddr::V6(first.into()), bits, 128)
                };
                if bits == max {
                    write!(formatter, "{shown}")
                } else {
                    write!(formatter, "{shown}/{bits}")
                }
            }
            Self::Ports { transport, first, last } => {
                let name = match transport {
                    Transport::Tcp => "tcp",
                    Transport::Udp => "udp",
                };
                write!(formatter, "{name}/{}", Ports { first, last })
            }
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_one_form() {
        for (typed, written) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1/32", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("tcp/10000", "tcp/10000"),
            ("10000", "tcp/10000"),
            ("8000-8999", "tcp/8000-8999"),
            ("udp/6000-6063", "udp/6000-6063"),
        ] {
            let target: Target = typed.parse().unwrap();
            assert_eq!(target.to_string(), written);
            assert_eq!(written.parse(), Ok(target));
        }
    }

    #[test]
    fn bad_targets_say_what_is_wrong() {
        for (typed, said) in [
            ("", "'' is not an IPv4 or IPv6 address"),
            ("example.org", "'example.org' is not an IPv4 or IPv6 address"),
            ("sctp/5", "'sctp' is not an IPv4 or IPv6 address"),
            ("tcp/", "'' is not a port from 1 to 65535"),
            ("70000", "'70000' is not a port from 1 to 65535"),
            ("192.0.2.1/24", "bits are set beyond the prefix length; write 192.0.2.0/24"),
        ] {
            assert_eq!(typed.parse::<Target>().expect_err(typed).to_string(), said);
        }
    }
}
