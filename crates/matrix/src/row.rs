//! The rows: every door, by each family of addresses that it can name, and what is tried besides.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use doors::{Door, Extent, Side};
use verdict::Direction;

use crate::line::Situation;
use crate::odd::Odd;

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Row {
    /// A way in or out, and this host as the row names it.
    Door(&'static Door, IpAddr),
    /// Something else.
    Odd(Odd),
}

impl Row {
    /// Every row, the ways out first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let families = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let each = doors::ALL.iter().flat_map(move |door| families.map(|ip| (door, ip)));
        let doors = each.filter(|(door, ip)| door.reaches(SocketAddr::new(*ip, 0)));
        doors.map(|(door, ip)| Self::Door(door, ip)).chain(Odd::all().map(Self::Odd))
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Door(door, ip) => {
                format!("{}/{}", door.name, if ip.is_ipv4() { 4 } else { 6 })
            }
            Self::Odd(odd) => odd.detour.name.to_owned(),
        }
    }

    /// How far it is open where `hooks` are in place at the root of the cgroup tree.
    pub(crate) fn extent(&self, hooks: &[&str], release: (u32, u32)) -> Extent {
        match self {
            Self::Odd(odd) => odd.detour.extent(hooks),
            Self::Door(door, _) => door.extent(hooks, release),
        }
    }

    /// Whether this hook is one of few that close it: nothing else judges there, or refuses the socket.
    pub(crate) fn is_closed_by(&self, hook: &str) -> bool {
        match self {
            Self::Odd(odd) => odd.detour.judged_by.first() == Some(&hook),
            Self::Door(door, _) => door.judged_by == [hook] || door.refused_by.contains(&hook),
        }
    }

    /// Whether its hooks see it only where the firewall is attached to the root of the cgroup tree.
    pub(crate) fn is_at_root(&self) -> bool {
        matches!(self, Self::Odd(odd) if odd.detour.at_root)
    }

    /// Whether it is played in that situation.
    pub(crate) fn is_of(&self, situation: Situation, direction: Option<Direction>) -> bool {
        let only = match self {
            Self::Odd(odd) => odd.only,
            Self::Door(..) => None,
        };
        direction.is_none_or(|it| it == self.direction())
            && only.is_none_or(|only| only == situation)
    }

    /// The name of its door or detour.
    pub(crate) fn door(&self) -> &'static str {
        match self {
            Self::Odd(odd) => odd.detour.name,
            Self::Door(door, _) => door.name,
        }
    }

    /// Whether it is a detour.
    pub(crate) fn is_detour(&self) -> bool {
        matches!(self, Self::Odd(_))
    }

    /// Whether something comes in.
    pub(crate) fn is_inward(&self) -> bool {
        self.direction() == Direction::In
    }

    /// Which way it leads, and what happens there.
    pub(crate) fn told(&self) -> (Side, &'static str) {
        match self {
            Self::Odd(odd) => (odd.detour.side, odd.detour.note),
            Self::Door(door, _) => (door.side(), door.note),
        }
    }

    /// The direction in which it is judged.
    pub(crate) fn direction(&self) -> Direction {
        let side = match self {
            Self::Odd(odd) => odd.detour.side,
            Self::Door(door, _) => door.side(),
        };
        match side {
            Side::Out => Direction::Out,
            Side::In => Direction::In,
        }
    }
}
