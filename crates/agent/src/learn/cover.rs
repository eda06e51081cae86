//! Few words for many peers: single addresses while they are few, then their networks, then any.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Addresses of one network that stand for the network.
const NEIGHBOURS: usize = 4;
/// Words of one list.
const WORDS_MAX: usize = 32;

/// A list of networks; empty for any address.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Peers(Vec<(IpAddr, u8)>);

impl fmt::Display for Peers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return formatter.write_str("any");
        }
        for (index, (address, bits)) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(formatter, "{comma}{address}")?;
            if *bits < width(*address) {
                write!(formatter, "/{bits}")?;
            }
        }
        Ok(())
    }
}

/// Covers `addresses`. None are covered by any, which covers everything.
pub(super) fn cover(addresses: &BTreeSet<IpAddr>) -> Peers {
    let single: Vec<(IpAddr, u8)> =
        addresses.iter().map(|&address| (address, width(address))).collect();
    if single.len() < NEIGHBOURS {
        return Peers(single);
    }
    let near = gather(single, |address| if address.is_ipv4() { 24 } else { 64 }, NEIGHBOURS);
    if near.len() <= WORDS_MAX {
        return Peers(near);
    }
    let far = gather(near, |address| if address.is_ipv4() { 16 } else { 48 }, 2);
    Peers(if far.len() <= WORDS_MAX { far } else { Vec::new() })
}

/// Replaces the members of a network by the network where there are at least `least` of them.
fn gather(
    members: Vec<(IpAddr, u8)>,
    bits: impl Fn(IpAddr) -> u8,
    least: usize,
) -> Vec<(IpAddr, u8)> {
    let mut networks: BTreeMap<(IpAddr, u8), Vec<(IpAddr, u8)>> = BTreeMap::new();
    for (address, own) in members {
        let bits = bits(address).min(own);
        networks.entry((masked(address, bits), bits)).or_default().push((address, own));
    }
    let mut gathered: Vec<_> = networks
        .into_iter()
        .flat_map(|(network, own)| if own.len() >= least { vec![network] } else { own })
        .collect();
    gathered.sort_unstable();
    gathered
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// With the bits beyond the first `bits` cleared.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(addresses: impl IntoIterator<Item = String>) -> String {
        cover(&addresses.into_iter().map(|text| text.parse().unwrap()).collect()).to_string()
    }

    #[test]
    fn few_peers_are_named_and_many_are_gathered() {
        assert_eq!(of((1..=3).map(|n| format!("10.0.0.{n}"))), "10.0.0.1, 10.0.0.2, 10.0.0.3");
        assert_eq!(of((1..=4).map(|n| format!("10.0.0.{n}"))), "10.0.0.0/24");
        assert_eq!(
            of((1..=4).map(|n| format!("10.0.{n}.1"))),
            "10.0.1.1, 10.0.2.1, 10.0.3.1, 10.0.4.1"
        );
        assert_eq!(of((1..=40).map(|n| format!("10.0.{n}.1"))), "10.0.0.0/16");
        assert_eq!(of((1..=40).map(|n| format!("{n}.0.0.1"))), "any");
        assert_eq!(of((1..=4).map(|n| format!("fd00::{n}"))), "fd00::/64");
        assert_eq!(of((1..=40).map(|n| format!("fd00:0:0:{n}::1"))), "fd00::/48");
    }
}
