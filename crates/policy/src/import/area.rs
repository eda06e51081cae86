//! What a rule is about, as a product of three sets, and the difference of two such products: how an earlier rule is
//! taken out of a later one.

use image::AddressSet;
use verdict::{Address, Protocol};

use crate::syntax::PortRange;

/// A set of hosts or addresses.
pub(super) trait Region: Clone + PartialEq {
    /// What is in both.
    fn meet(&self, other: &Self) -> Self;
    /// What is in this one only.
    fn minus(&self, other: &Self) -> Self;
    /// Whether nothing is in it, as far as it can be told.
    fn is_empty(&self) -> bool;
}

impl Region for AddressSet {
    fn meet(&self, other: &Self) -> Self {
        self.intersection(other)
    }

    fn minus(&self, other: &Self) -> Self {
        self.difference(other)
    }

    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

/// Services as a set: a point is protocol x 65536 + port, and the algebra is that of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Services(AddressSet);

const PORTS: u32 = 1 << 16;

impl Services {
    /// Every protocol and port.
    pub(super) fn any() -> Self {
        Self::points([(0, 256 * PORTS - 1)])
    }

    /// No service.
    pub(super) fn none() -> Self {
        Self(AddressSet::new())
    }

    /// All ports of a protocol.
    pub(super) fn protocol(protocol: Protocol) -> Self {
        Self::ports(protocol, PortRange::ALL)
    }

    /// Some ports of a protocol.
    pub(super) fn ports(protocol: Protocol, ports: PortRange) -> Self {
        let base = u32::from(protocol.0) * PORTS;
        Self::points([(base + u32::from(ports.first), base + u32::from(ports.last))])
    }

    fn points(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let point = |number: u32| Address::from_bits(u128::from(number));
        Self(AddressSet::from_ranges(
            ranges.into_iter().map(|(first, last)| (point(first), point(last))),
        ))
    }

    pub(super) fn meet(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0))
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0))
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Protocols with their ranges of ports, ascending.
    pub(super) fn ranges(&self) -> Vec<(Protocol, PortRange)> {
        let mut found = Vec::new();
        for (first, last) in self.0.ranges() {
            let number = |address: Address| {
                u32::try_from(address.bits()).expect("points are made of 24 bits")
            };
            let (mut first, last) = (number(first), number(last));
            while first <= last {
                let end = (first | (PORTS - 1)).min(last);
                let low = |point: u32| {
                    u16::try_from(point % PORTS).expect("a remainder of 65536 fits in 16 bits")
                };
                let protocol = u8::try_from(first / PORTS).expect("points are made of 24 bits");
                found.push((Protocol(protocol), PortRange { first: low(first), last: low(end) }));
                first = end + 1;
            }
        }
        found
    }

    /// Of each protocol, all ports or none: those of which all are here.
    pub(super) fn whole_protocols(&self) -> Self {
        let whole = self.ranges().into_iter().filter(|&(_, ports)| ports == PortRange::ALL);
        whole.fold(Self::none(), |all, (protocol, _)| all.union(&Self::protocol(protocol)))
    }
}

/// What a rule is about.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Area<R> {
    /// This end.
    pub(super) near: R,
    /// The peer.
    pub(super) far: R,
    /// Which services.
    pub(super) services: Services,
}

impl<R: Region> Area<R> {
    pub(super) fn is_empty(&self) -> bool {
        self.near.is_empty() || self.far.is_empty() || self.services.is_empty()
    }

    pub(super) fn meet(&self, other: &Self) -> Self {
        Self {
            near: self.near.meet(&other.near),
            far: self.far.meet(&other.far),
            services: self.services.meet(&other.services),
        }
    }

    /// This area without `other`, as areas that do not overlap.
    fn minus(self, other: &Self) -> Vec<Self> {
        let common = self.meet(other);
        if common.is_empty() {
            return vec![self];
        }
        let pieces = [
            Self { far: self.far.minus(&other.far), ..self.clone() },
            Self { far: common.far.clone(), near: self.near.minus(&other.near), ..self.clone() },
            Self { services: self.services.minus(&other.services), ..common },
        ];
        pieces.into_iter().filter(|piece| !piece.is_empty()).collect()
    }
}

/// Pieces that one rule may come to: more make a policy that nobody can read.
pub(super) const PIECES_MAX: usize = 4_096;

/// `area` without any of `others`; `None` if that takes more than [`PIECES_MAX`] pieces.
pub(super) fn without<'a, R: Region + 'a>(
    area: Area<R>,
    others: impl IntoIterator<Item = &'a Area<R>>,
) -> Option<Vec<Area<R>>> {
    let mut pieces = vec![area];
    for other in others {
        pieces = pieces.into_iter().flat_map(|piece| piece.minus(other)).collect();
        if pieces.len() > PIECES_MAX {
            return None;
        }
    }
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_go_to_ranges_and_back() {
        let tcp = |first, last| Services::ports(Protocol::TCP, PortRange { first, last });
        let rest = Services::protocol(Protocol::TCP).minus(&tcp(22, 22));
        let ports: Vec<_> =
            rest.ranges().iter().map(|(_, range)| (range.first, range.last)).collect();
        assert_eq!(ports, [(0, 21), (23, u16::MAX)]);
        assert_eq!(Services::any().ranges().len(), 256);
        assert_eq!(rest.union(&tcp(22, 22)), Services::protocol(Protocol::TCP));
        assert!(rest.whole_protocols().is_empty());
        assert_eq!(Services::any().minus(&tcp(1, 2)).whole_protocols().ranges().len(), 255);
    }

    #[test]
    fn pieces_of_a_difference_are_exactly_what_is_left() {
        let set = |first: u32, last: u32| {
            AddressSet::from_ranges([(Address::v4(first), Address::v4(last))])
        };
        let area = |near: (u32, u32), far: (u32, u32), ports: (u16, u16)| Area {
            near: set(near.0, near.1),
            far: set(far.0, far.1),
            services: Services::ports(Protocol::TCP, PortRange { first: ports.0, last: ports.1 }),
        };
        let holds = |area: &Area<AddressSet>, near, far, port| {
            let point = Services::ports(Protocol::TCP, PortRange { first: port, last: port });
            area.near.contains(Address::v4(near))
                && area.far.contains(Address::v4(far))
                && !area.services.meet(&point).is_empty()
        };
        let whole = area((0, 4), (0, 4), (0, 4));
        let holes = [area((1, 2), (1, 3), (2, 9)), area((0, 9), (3, 4), (0, 1))];
        let pieces = without(whole, &holes).unwrap();
        for near in 0..6 {
            for far in 0..6 {
                for port in 0..6 {
                    let expected = near < 5
                        && far < 5
                        && port < 5
                        && !holes.iter().any(|hole| holds(hole, near, far, port));
                    let count = pieces.iter().filter(|piece| holds(piece, near, far, port)).count();
                    assert_eq!(count, usize::from(expected), "{near} {far} {port}");
                }
            }
        }
    }
}
