//! What can be wrong with a host.

use verdict::Address;

use super::{
    HOST_ADDRESSES_MAX, HOST_KEY, HOST_LABELS_MAX, HOST_NAMES_MAX, HOSTS_MAX, Host, HostIndex,
    Inventory,
};
use crate::{
    limits::WORD_BYTES_MAX,
    syntax::{Addresses, is_key},
};

/// One thing that is wrong with an inventory. Hosts are named by their place, counted from 0, and their id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InventoryFault {
    /// More hosts than the limit.
    #[error("the inventory has {count} hosts, more than {HOSTS_MAX}")]
    Hosts {
        /// How many there are.
        count: usize,
    },
    /// Two hosts of one id, or a name that is another host's id or name.
    #[error(
        "hosts[{index}] `{id}`: `{word}` is already an id or a name of hosts[{other}] `{other_id}`"
    )]
    RepeatedWord {
        /// Place of the host.
        index: HostIndex,
        /// Its id.
        id: String,
        /// What is there twice.
        word: String,
        /// Place of the host that has it.
        other: HostIndex,
        /// That host's id.
        other_id: String,
    },
    /// Two hosts of one address.
    #[error(
        "hosts[{index}] `{id}`: the address {address} already belongs to hosts[{other}] `{other_id}`"
    )]
    RepeatedAddress {
        /// Place of the host.
        index: HostIndex,
        /// Its id.
        id: String,
        /// What is there twice.
        address: Addresses,
        /// Place of the host that has it.
        other: HostIndex,
        /// That host's id.
        other_id: String,
    },
    /// An address that no host can have.
    #[error("hosts[{index}] `{id}`: {address} is not the address of one host")]
    NoHostAddress {
        /// Place of the host.
        index: HostIndex,
        /// Its id.
        id: String,
        /// The address.
        address: Addresses,
    },
    /// An id or a name that cannot be one.
    #[error("hosts[{index}]: `{word}` cannot be an id or a name: {why}")]
    Word {
        /// Place of the host.
        index: HostIndex,
        /// The id or name.
        word: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A label that cannot be one.
    #[error("hosts[{index}] `{id}`: the label `{key}` {why}")]
    Label {
        /// Place of the host.
        index: HostIndex,
        /// Its id.
        id: String,
        /// The label's key.
        key: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More of something than the limit.
    #[error("hosts[{index}] `{id}`: {count} {what}, more than {max}")]
    TooMany {
        /// Place of the host.
        index: HostIndex,
        /// Its id.
        id: String,
        /// Names, addresses or labels.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
}

/// Everything that is wrong with `host` as number `index` of `inventory`, in which it may replace a host.
pub(super) fn find(
    inventory: &Inventory,
    host: &Host,
    index: HostIndex,
    replaced: Option<HostIndex>,
) -> Vec<InventoryFault> {
    let mut faults = Vec::new();
    let Host { id, names, addresses, labels } = host;
    let id_of =
        |other: HostIndex| inventory.host(other).map(|host| host.id.clone()).unwrap_or_default();
    for (what, count, max) in [
        ("names", names.len(), HOST_NAMES_MAX),
        ("addresses", addresses.len(), HOST_ADDRESSES_MAX),
        ("labels", labels.len(), HOST_LABELS_MAX),
    ] {
        if count > max {
            faults.push(InventoryFault::TooMany { index, id: id.clone(), what, count, max });
        }
    }
    for (at, word) in std::iter::once(id).chain(names).enumerate() {
        if let Some(why) = bad_word(word) {
            faults.push(InventoryFault::Word { index, word: word.clone(), why });
        }
        let other = inventory.find(word).filter(|&other| Some(other) != replaced);
        let own = std::iter::once(id)
            .chain(names)
            .take(at)
            .any(|earlier| earlier == word)
            .then_some(index);
        if let Some(other) = other.or(own) {
            let other_id = if own.is_some() && other == index { id.clone() } else { id_of(other) };
            faults.push(InventoryFault::RepeatedWord {
                index,
                id: id.clone(),
                word: word.clone(),
                other,
                other_id,
            });
        }
    }
    for (at, &address) in addresses.iter().enumerate() {
        if is_no_host(address) {
            faults.push(InventoryFault::NoHostAddress {
                index,
                id: id.clone(),
                address: address.into(),
            });
        }
        let other = inventory.find_address(address).filter(|&other| Some(other) != replaced);
        let own = addresses.iter().take(at).any(|&earlier| earlier == address).then_some(index);
        if let Some(other) = other.or(own) {
            let other_id = if own.is_some() && other == index { id.clone() } else { id_of(other) };
            faults.push(InventoryFault::RepeatedAddress {
                index,
                id: id.clone(),
                address: address.into(),
                other,
                other_id,
            });
        }
    }
    for (key, value) in labels {
        let why = if key == HOST_KEY {
            Some("is taken: it stands for the host's id")
        } else if !is_key(key) {
            Some(
                "has a key that a policy cannot write: a letter or `_`, then letters, digits, `_`, `-`, `.` and `/`",
            )
        } else if value.is_empty()
            || value.len() > WORD_BYTES_MAX
            || value.contains(crate::lex::forbidden)
        {
            Some(
                "has a value that a policy cannot write: it is empty, too long or has control characters",
            )
        } else {
            None
        };
        if let Some(why) = why {
            faults.push(InventoryFault::Label { index, id: id.clone(), key: key.clone(), why });
        }
    }
    faults
}

fn bad_word(word: &str) -> Option<&'static str> {
    if word.is_empty() {
        Some("it is empty")
    } else if word.len() > WORD_BYTES_MAX {
        Some("it is too long")
    } else if word.contains(crate::lex::forbidden) {
        Some("it has control characters")
    } else if word.parse::<Addresses>().is_ok() {
        Some("it is an address")
    } else if crate::parse::RESERVED.contains(&word) {
        Some("it is a word of the policy language")
    } else {
        None
    }
}

/// Unspecified and multicast addresses belong to no host (RFC 4291, 2.5.2 and 2.7; RFC 5771), nor does the broadcast
/// address (RFC 919).
fn is_no_host(address: Address) -> bool {
    match address.as_v4() {
        Some(v4) => {
            let v4 = std::net::Ipv4Addr::from_bits(v4);
            v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()
        }
        None => {
            let v6 = std::net::Ipv6Addr::from_bits(address.bits());
            v6.is_unspecified() || v6.is_multicast()
        }
    }
}
