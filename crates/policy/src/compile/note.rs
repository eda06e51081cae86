//! What is true of compiled policies without being a fault.

use std::net::IpAddr;

use verdict::Address;

use crate::syntax::Way;

/// Something that whoever enforces the policies should know. Its text form is for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Note {
    /// Nobody says what happens to flows that no rule matches.
    #[error("no policy has a `default` line for what {}: what no rule matches is allowed", coming(.way))]
    NoDefault {
        /// Of which direction.
        way: Way,
    },
    /// The host is not in the inventory.
    #[error("the inventory does not know the host `{host}`: no label and no name means it")]
    UnknownHost {
        /// What it was called.
        host: String,
    },
    /// Nobody knows the host's addresses.
    #[error(
        "the addresses of this host are not known: rules that start at addresses may not mean it"
    )]
    NoAddresses,
    /// An address that the host has belongs to another one by the inventory.
    #[error("this host has the address {address}, which the inventory gives to `{host}`")]
    DisputedAddress {
        /// The address.
        address: IpAddr,
        /// The id of the other host.
        host: String,
    },
    /// A rule names a process that cannot be on this host.
    #[error("rule {rule}: there is no {kind} `{name}` on this host")]
    UnknownProcess {
        /// The rule's id.
        rule: String,
        /// The word of the qualifier: "user", "unit", ...
        kind: &'static str,
        /// As written.
        name: String,
    },
    /// Some policies name a failsafe set, but on this host nothing is in it, or none is named at all.
    #[error(
        "the failsafe set of this host is empty: a policy that denies everything locks everybody out"
    )]
    NoFailsafe,
}

impl Note {
    pub(super) fn disputed(address: Address, host: &str) -> Self {
        Self::DisputedAddress { address: std_address(address), host: host.to_owned() }
    }
}

fn coming(way: &Way) -> &'static str {
    match way {
        Way::In => "comes in",
        Way::Out => "goes out",
    }
}

/// As the standard library writes it: IPv4 in its own form.
pub(crate) fn std_address(address: Address) -> IpAddr {
    match address.as_v4() {
        Some(v4) => IpAddr::V4(v4.into()),
        None => IpAddr::V6(address.bits().into()),
    }
}
