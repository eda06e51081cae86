//! Sets as people write them: prefixes where they fit, ranges elsewhere; services one by one.

use image::AddressSet;
use verdict::{Address, Protocol};

use super::area::Services;
use crate::{
    span::Span,
    syntax::{
        Addresses, Effect, End, Expression, LabelTest, Options, PortRange, Process, Rule, Selector,
        Service, ServiceKind, Word,
    },
};

pub(super) fn word(text: impl Into<String>) -> Word {
    Word { text: text.into(), span: Span::default() }
}

pub(super) fn selector(expression: Expression) -> Selector {
    Selector::new(expression, Span::default())
}

pub(super) fn any() -> Selector {
    selector(Expression::Any)
}

pub(super) fn me() -> Selector {
    selector(Expression::Me)
}

pub(super) fn label(key: &str, test: LabelTest) -> Selector {
    selector(Expression::Label { key: word(key), test })
}

/// `members` joined by `&`; the one itself if there is one, `any` if there is none.
pub(super) fn all_of(mut members: Vec<Selector>) -> Selector {
    members.dedup();
    match members.len() {
        0 => any(),
        1 => members.remove(0),
        _ => selector(Expression::AllOf(members)),
    }
}

/// `members` joined by commas; `None` if there is none.
pub(super) fn any_of(mut members: Vec<Selector>) -> Option<Selector> {
    members.dedup();
    match members.len() {
        0 => None,
        1 => Some(members.remove(0)),
        _ => Some(selector(Expression::AnyOf(members))),
    }
}

pub(super) fn except(from: Selector, without: Selector) -> Selector {
    selector(Expression::Except(from, without))
}

pub(super) fn end(selector: Selector, process: Option<Process>) -> End {
    End { selector, process, span: Span::default() }
}

pub(super) fn rule(effect: Effect, from: End, to: End, services: &Services) -> Rule {
    Rule {
        mode: None,
        effect,
        from,
        to,
        services: services_of(services),
        options: Options::default(),
        span: Span::default(),
    }
}

/// Services of a set that is not empty.
pub(super) fn services_of(services: &Services) -> Vec<Service> {
    let service = |kind| Service { kind, span: Span::default() };
    if *services == Services::any() {
        return vec![service(ServiceKind::Any)];
    }
    let mut found: Vec<Service> = Vec::new();
    for (protocol, PortRange { first, last }) in services.ranges() {
        // Port 0 is never connected to, and cannot be written but as a part of all ports.
        let ports = match (first, last) {
            (0, u16::MAX) => PortRange::ALL,
            (0, 0) => continue,
            (0, _) => PortRange { first: 1, last },
            (_, _) => PortRange { first, last },
        };
        found.push(service(ServiceKind::Ports(protocol, ports)));
    }
    // What people read first: TCP and UDP.
    found.sort_by_key(|service| match service.kind {
        ServiceKind::Ports(Protocol::TCP, _) => 0,
        ServiceKind::Ports(Protocol::UDP, _) => 1,
        ServiceKind::Any | ServiceKind::Ports(..) | ServiceKind::Named(_) => 2,
    });
    found
}

/// A selector for a set that is not empty.
pub(super) fn addresses_of(set: &AddressSet) -> Selector {
    if *set == AddressSet::all() {
        return any();
    }
    let written = spans(set).into_iter().map(|(first, last)| {
        selector(Expression::Addresses(spell_range(
            Address::from_bits(first),
            Address::from_bits(last),
        )))
    });
    // All IPv6 addresses are two ranges, around IPv4, with one spelling.
    let v6 = AddressSet::all().difference(&AddressSet::all_v4());
    let holds_v6 = v6.difference(set).is_empty();
    if holds_v6 {
        let all_v6 = parse("::/0");
        let rest = set.difference(&v6);
        let mut members = vec![selector(Expression::Addresses(all_v6))];
        if !rest.is_empty() {
            members.insert(0, addresses_of(&rest));
        }
        return any_of(members).unwrap_or_else(any);
    }
    any_of(written.collect()).unwrap_or_else(any)
}

/// The ranges, cut where IPv4 begins and ends.
fn spans(set: &AddressSet) -> Vec<(u128, u128)> {
    let v4 = AddressSet::all_v4();
    let parts = [set.intersection(&v4), set.difference(&v4)];
    let mut spans: Vec<(u128, u128)> = parts
        .iter()
        .flat_map(AddressSet::ranges)
        .map(|(first, last)| (first.bits(), last.bits()))
        .collect();
    spans.sort_unstable();
    spans
}

/// A prefix if the range is one.
fn spell_range(first: Address, last: Address) -> Addresses {
    if first == last {
        return first.into();
    }
    let (low, high) = (Addresses::from(first).to_string(), Addresses::from(last).to_string());
    let rest = first.bits() ^ last.bits();
    let is_prefix = rest.wrapping_add(1) & rest == 0 && first.bits() & rest == 0;
    if is_prefix {
        let host_bits = rest.trailing_ones();
        let length = if first.is_v4() { 32 } else { 128 } - host_bits;
        return parse(&format!("{low}/{length}"));
    }
    parse(&format!("{low}-{high}"))
}

fn parse(text: &str) -> Addresses {
    text.parse().expect("what is spelled here is of one family, in order and without host bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::{Document, Line, Statement};

    fn written(texts: &[&str]) -> String {
        let ranges = texts.iter().flat_map(|text| text.parse::<Addresses>().unwrap().ranges());
        let set = AddressSet::from_ranges(
            ranges.map(|(first, last)| (Address::from_bits(first), Address::from_bits(last))),
        );
        let rule =
            rule(Effect::Deny, end(addresses_of(&set), None), end(me(), None), &Services::any());
        let line = Line { statement: Some(Statement::Rule(rule)), ..Line::default() };
        crate::format(&Document { lines: vec![line] })
    }

    #[test]
    fn sets_are_spelled_as_people_do() {
        assert_eq!(written(&["10.0.0.0/9", "10.128.0.0/9"]), "deny 10.0.0.0/8 -> me : any\n");
        assert_eq!(
            written(&["10.0.0.1", "10.0.0.2", "2001:db8::/32"]),
            "deny 10.0.0.1-10.0.0.2, 2001:db8::/32 -> me : any\n"
        );
        assert_eq!(written(&["::/0"]), "deny ::/0 -> me : any\n");
        assert_eq!(written(&["0.0.0.0/0"]), "deny 0.0.0.0/0 -> me : any\n");
        assert_eq!(written(&["0.0.0.0/0", "::/0"]), "deny any -> me : any\n");
        assert_eq!(written(&["::/0", "10.0.0.1"]), "deny 10.0.0.1, ::/0 -> me : any\n");
    }
}
