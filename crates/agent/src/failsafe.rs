//! What a change takes from the failsafe set: by what its rules mean on this host, and not by how they are written.

use image::{AddressSet, Mode, Rule, RuleSet, Service, SetIndex, SubjectTest};
use verdict::Direction;

use crate::lockdown::is_failsafe;

/// Pieces of one rule that are looked at. What falls apart into more counts as taken away.
const PIECES_MAX: usize = 4_096;

/// What of a rule is no longer allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// Some of its flows.
    Part,
    /// All of them.
    Whole,
}

/// The rules of the failsafe set of `old`, by number, of which that of `new` does not allow every flow.
pub fn dropped(old: &RuleSet, new: &RuleSet) -> Vec<(usize, Dropped)> {
    let of = |rule: &&Rule| is_failsafe(rule) && rule.mode == Mode::Enforce;
    let allowing: Vec<&Rule> = new.rules.iter().filter(of).collect();
    let rules = old.rules.iter().enumerate().filter(|(_, rule)| of(rule));
    rules.filter_map(|(number, rule)| Some((number, left(rule, old, &allowing, new)?))).collect()
}

/// Flows: every combination of the three. Services are boxes of protocols and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    remote: AddressSet,
    local: AddressSet,
    services: Vec<Span>,
}

/// Protocols and ports, each from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    protocols: (u8, u8),
    ports: (u16, u16),
}

impl Piece {
    fn of(rule: &Rule, rules: &RuleSet) -> Self {
        let set = |index: Option<SetIndex>| match index {
            Some(index) => rules.sets.get(index as usize).cloned().unwrap_or_default(),
            None => AddressSet::all(),
        };
        let local = if rule.direction == Direction::In { rule.local } else { None };
        let services = rule.services.iter().map(Span::of).collect();
        Self { remote: set(rule.remote), local: set(local), services }
    }

    fn is_empty(&self) -> bool {
        self.remote.is_empty() || self.local.is_empty() || self.services.is_empty()
    }

    /// What is left without `other`: what differs in the first place, then in the second, then in the third.
    fn without(&self, other: &Self) -> Vec<Self> {
        let remote = self.remote.intersection(&other.remote);
        let local = self.local.intersection(&other.local);
        let services = other.services.iter().fold(self.services.clone(), |left, taken| {
            left.iter().flat_map(|span| span.without(*taken)).collect()
        });
        if remote.is_empty() || local.is_empty() || services == self.services {
            return vec![self.clone()];
        }
        let elsewhere = self.remote.difference(&other.remote);
        let at_others = self.local.difference(&other.local);
        let parts = [
            Self { remote: elsewhere, ..self.clone() },
            Self { remote: remote.clone(), local: at_others, services: self.services.clone() },
            Self { remote, local, services },
        ];
        parts.into_iter().filter(|part| !part.is_empty()).collect()
    }
}

impl Span {
    fn of(service: &Service) -> Self {
        let protocols = service.protocol.map_or((0, u8::MAX), |own| (own.0, own.0));
        Self { protocols, ports: (service.ports.first, service.ports.last) }
    }

    fn without(self, other: Self) -> Vec<Self> {
        let protocols = outside(
            self.protocols,
            other.protocols,
            |it| it.checked_sub(1),
            |it| it.checked_add(1),
        );
        let ports =
            outside(self.ports, other.ports, |it| it.checked_sub(1), |it| it.checked_add(1));
        let apart = |own: (u16, u16), other: (u16, u16)| own.1 < other.0 || other.1 < own.0;
        if apart(self.ports, other.ports) {
            return vec![self];
        }
        let both =
            (self.protocols.0.max(other.protocols.0), self.protocols.1.min(other.protocols.1));
        let elsewhere = protocols.into_iter().map(|protocols| Self { protocols, ..self });
        let beside = ports.into_iter().map(|ports| Self { protocols: both, ports });
        let beside = beside.filter(|_| both.0 <= both.1);
        elsewhere.chain(beside).collect()
    }
}

/// The parts of a span that are outside of another.
fn outside<T: Ord + Copy>(
    own: (T, T),
    other: (T, T),
    below: impl Fn(T) -> Option<T>,
    above: impl Fn(T) -> Option<T>,
) -> Vec<(T, T)> {
    let before = below(other.0).map(|last| (own.0, own.1.min(last)));
    let after = above(other.1).map(|first| (own.0.max(first), own.1));
    before.into_iter().chain(after).filter(|(first, last)| first <= last).collect()
}

fn left(rule: &Rule, old: &RuleSet, allowing: &[&Rule], new: &RuleSet) -> Option<Dropped> {
    let whole = Piece::of(rule, old);
    let mut pieces: Vec<Piece> =
        Some(whole.clone()).into_iter().filter(|it| !it.is_empty()).collect();
    let others = allowing.iter().filter(|other| {
        other.direction == rule.direction && is_wider(&other.subject, &rule.subject)
    });
    for other in others {
        let other = Piece::of(other, new);
        pieces = pieces.iter().flat_map(|piece| piece.without(&other)).collect();
        if pieces.is_empty() {
            return None;
        }
        if pieces.len() > PIECES_MAX {
            break;
        }
    }
    match &*pieces {
        [] => None,
        [only] if *only == whole => Some(Dropped::Whole),
        _ => Some(Dropped::Part),
    }
}

/// Whether every process that passes `test` passes `other`, as far as the lists show it.
fn is_wider(other: &SubjectTest, test: &SubjectTest) -> bool {
    fn list<T: PartialEq>(other: &[T], test: &[T]) -> bool {
        other.is_empty() || (!test.is_empty() && test.iter().all(|value| other.contains(value)))
    }
    let SubjectTest { users, groups, exes, units, containers, namespaces } = other;
    list(users, &test.users)
        && list(groups, &test.groups)
        && list(exes, &test.exes)
        && list(units, &test.units)
        && list(containers, &test.containers)
        && list(namespaces, &test.namespaces)
}

#[cfg(test)]
mod tests {
    use verdict::{Address, Protocol, Verdict};

    use super::*;

    const SSH: u32 = 22;

    /// An IPv4 prefix, and ports of TCP.
    type Line<'a> = (u32, u8, &'a [(u16, u16)]);

    /// Rules of the failsafe set.
    fn rules(of: &[Line<'_>]) -> RuleSet {
        let mut rules = RuleSet::default();
        for (number, &(address, bits, services)) in of.iter().enumerate() {
            rules.sets.push(AddressSet::from_prefixes([(Address::v4(address), 96 + bits)]));
            rules.rules.push(Rule {
                remote: Some(u32::try_from(number).unwrap()),
                services: services
                    .iter()
                    .map(|&(first, last)| Service::tcp(first..=last))
                    .collect(),
                flags: 0,
                ..Rule::default(Direction::In, Verdict::Allow, 0)
            });
        }
        rules
    }

    const NET: u32 = 0xc000_0200;

    #[test]
    fn what_means_the_same_in_other_words_drops_nothing() {
        let one = rules(&[(NET, 24, &[(22, 22), (80, 81)])]);
        let halves = rules(&[
            (NET, 25, &[(22, 22)]),
            (NET + 128, 25, &[(0, 40)]),
            (NET, 24, &[(80, 80)]),
            (NET, 23, &[(81, 90)]),
        ]);
        assert_eq!(dropped(&one, &halves), []);
        let mut any = rules(&[(0, 0, &[])]);
        any.rules[0].services = vec![Service::ANY];
        assert_eq!(dropped(&halves, &any), []);
        assert_eq!(dropped(&RuleSet::default(), &one), []);
    }

    #[test]
    fn what_means_less_in_the_same_words_is_found() {
        let before = rules(&[(NET, 24, &[(22, 22)])]);
        assert_eq!(dropped(&before, &RuleSet::default()), [(0, Dropped::Whole)]);
        let narrower = rules(&[(NET, 25, &[(22, 22)])]);
        assert_eq!(dropped(&before, &narrower), [(0, Dropped::Part)]);
        let other = rules(&[(NET, 24, &[(23, 23)])]);
        assert_eq!(dropped(&before, &other), [(0, Dropped::Whole)]);
        let mut outward = before.clone();
        outward.rules[0].direction = Direction::Out;
        assert_eq!(dropped(&before, &outward), [(0, Dropped::Whole)]);
        let mut audit = before.clone();
        audit.rules[0].mode = Mode::Audit;
        assert_eq!(dropped(&before, &audit), [(0, Dropped::Whole)]);
        let mut of_root = before.clone();
        of_root.rules[0].subject.users = vec![0];
        assert_eq!(dropped(&before, &of_root), [(0, Dropped::Whole)]);
        assert_eq!(dropped(&of_root, &before), []);
        let mut here = before.clone();
        here.sets.push(AddressSet::from_address(Address::v4(SSH)));
        here.rules[0].local = Some(1);
        assert_eq!(dropped(&before, &here), [(0, Dropped::Part)]);
        let mut udp = before.clone();
        udp.rules[0].services = vec![Service::protocol(Protocol::UDP)];
        assert_eq!(dropped(&before, &udp), [(0, Dropped::Whole)]);
    }
}
