//! Pods, namespaces, blocks of addresses and ports, as both kinds of policies name them.

use serde_json::Value;
use verdict::Protocol;

use super::super::{
    Gaps,
    area::Services,
    fields::{Fields, short},
    spell::{all_of, any_of, except, label, selector, word},
};
use crate::syntax::{Addresses, Expression, LabelTest, PortRange, Selector, is_key};

/// The label that holds the name of a pod's namespace.
const NAMESPACE: &str = "namespace";
/// The label of namespaces that Kubernetes sets to their name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The namespace of this name.
pub(super) fn namespace(name: &str) -> Selector {
    label(NAMESPACE, LabelTest::Is(word(name)))
}

/// Pods by their own labels. `None`, with a gap, if that cannot be said.
pub(super) fn pods(value: &Value, place: &str, gaps: &mut Gaps) -> Option<Vec<Selector>> {
    tests(value, place, gaps, str::to_owned)
}

/// Pods by the labels of their namespace.
pub(super) fn namespaces(value: &Value, place: &str, gaps: &mut Gaps) -> Option<Vec<Selector>> {
    let key = |key: &str| match key {
        NAMESPACE_NAME => NAMESPACE.to_owned(),
        other => format!("{NAMESPACE}/{other}"),
    };
    let mut tests = tests(value, place, gaps, key)?;
    let about_name = |test: &Selector| matches!(&*test.expression, Expression::Label { key, test: LabelTest::Is(_) } if key.text == NAMESPACE);
    if !tests.iter().any(about_name) {
        // Only pods have a namespace.
        tests.insert(0, label(NAMESPACE, LabelTest::Present));
    }
    Some(tests)
}

/// A label selector (LabelSelector of meta/v1), its keys written as `key` says.
fn tests(
    value: &Value,
    place: &str,
    gaps: &mut Gaps,
    key: impl Fn(&str) -> String,
) -> Option<Vec<Selector>> {
    let mut fields = Fields::new(value, place, gaps)?;
    let mut found = Vec::new();
    let mut sound = true;
    let mut test = |name: &str, gaps: &mut Gaps, test: LabelTest| {
        let key = key(name);
        if is_key(&key) {
            found.push(label(&key, test));
        } else {
            gaps.push(place, format!("the label key {name}"), LEFT_OUT);
            sound = false;
        }
    };
    match fields.take("matchLabels") {
        None => {}
        Some(Value::Object(labels)) => {
            for (name, value) in labels {
                match value.as_str() {
                    Some(value) => test(name, gaps, LabelTest::Is(word(value))),
                    None => {
                        gaps.push(place, format!("{name}: {}", short(value)), LEFT_OUT);
                        return None;
                    }
                }
            }
        }
        Some(other) => {
            gaps.push(place, format!("matchLabels: {}", short(other)), LEFT_OUT);
            return None;
        }
    }
    let mut absent = Vec::new();
    for expression in fields.list("matchExpressions", gaps).unwrap_or_default() {
        let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
        let values = expression.get("values").and_then(Value::as_array);
        let words =
            values.into_iter().flatten().filter_map(Value::as_str).map(word).collect::<Vec<_>>();
        match (text("operator"), words.is_empty()) {
            ("In", false) => test(text("key"), gaps, LabelTest::In(words)),
            ("NotIn", false) => test(text("key"), gaps, LabelTest::NotIn(words)),
            ("Exists", _) => test(text("key"), gaps, LabelTest::Present),
            ("DoesNotExist", _) if is_key(&key(text("key"))) => {
                let present = label(&key(text("key")), LabelTest::Present);
                absent.push(selector(Expression::Not(present)));
            }
            _ => {
                gaps.push(place, short(expression), LEFT_OUT);
                return None;
            }
        }
    }
    found.extend(absent);
    let unknown = fields.finish(LEFT_OUT, gaps);
    (sound && !unknown).then_some(found)
}

/// What happens to what names something that cannot be said.
const LEFT_OUT: &str = "whatever names it is left out";

/// A block of addresses with exceptions (IPBlock of networking.k8s.io/v1).
pub(super) fn block(value: &Value, place: &str, gaps: &mut Gaps) -> Option<Selector> {
    let mut fields = Fields::new(value, place, gaps)?;
    let cidr = fields.take("cidr")?;
    let without = fields.list("except", gaps).unwrap_or_default();
    if fields.finish(LEFT_OUT, gaps) {
        return None;
    }
    let all = network(cidr, place, gaps)?;
    let mut unwanted = Vec::new();
    for one in without {
        unwanted.push(network(one, place, gaps)?);
    }
    Some(match any_of(unwanted) {
        Some(unwanted) => except(all, unwanted),
        None => all,
    })
}

/// A prefix. Kubernetes takes those with host bits and ignores the bits.
pub(super) fn network(value: &Value, place: &str, gaps: &mut Gaps) -> Option<Selector> {
    let parsed = match value.as_str().map(str::parse::<Addresses>) {
        Some(Err(crate::syntax::AddressError::HostBits { network, .. })) => network.parse().ok(),
        Some(parsed) => parsed.ok(),
        None => None,
    };
    if parsed.is_none() {
        gaps.push(place, format!("the block {}", short(value)), LEFT_OUT);
    }
    parsed.map(|addresses| selector(Expression::Addresses(addresses)))
}

/// Pods in namespaces: conditions on both.
pub(super) fn pods_in(namespaces: Vec<Selector>, pods: Vec<Selector>) -> Selector {
    let mut members = namespaces;
    members.extend(pods);
    all_of(members)
}

/// Ports of a protocol; all of them without `range`. `None`, with a gap, where ports are not looked at.
pub(super) fn ports(
    protocol: &str,
    range: Option<PortRange>,
    place: &str,
    gaps: &mut Gaps,
) -> Option<Services> {
    let number = match protocol.to_ascii_uppercase().as_str() {
        "TCP" => Protocol::TCP,
        "UDP" => Protocol::UDP,
        "SCTP" => Protocol::SCTP,
        _ => {
            gaps.push(place, format!("the protocol {protocol}"), LEFT_OUT);
            return None;
        }
    };
    match range {
        None => Some(Services::protocol(number)),
        Some(range) if number != Protocol::SCTP && range.first > 0 && range.first <= range.last => {
            Some(Services::ports(number, range))
        }
        Some(PortRange { first, last }) => {
            gaps.push(place, format!("the ports {first}-{last} of {protocol}"), LEFT_OUT);
            None
        }
    }
}

/// A port number.
pub(super) fn port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|port| u16::try_from(port).ok())
}
