//! ClusterNetworkPolicy: rules of the whole cluster, read in the order of their priorities; the first that matches decides.

use serde_json::Value;

use super::{
    super::{
        Gaps,
        area::{Area, PIECES_MAX, Services, without},
        fields::{Fields, short},
        spell::{any_of, me, word},
    },
    group::Group,
    one_sided,
    peer::{namespaces, network, pods, pods_in, port, ports},
    place_of, spec_of,
};
use crate::syntax::{Effect, PortRange, Rule, Selector, Tier, Way};

/// A policy as it was read.
pub(super) struct Cluster {
    tier: Tier,
    /// Smaller ones are looked at first.
    priority: i64,
    ingress: Vec<Judging>,
    egress: Vec<Judging>,
}

/// One rule.
struct Judging {
    place: String,
    action: Action,
    area: Area<Group>,
}

/// What a rule does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Accept,
    Deny,
    /// The next tier decides.
    Pass,
}

impl Cluster {
    /// `None`, with a gap, if it cannot be said whom it is about or when it is looked at.
    pub(super) fn read(object: &Value, gaps: &mut Gaps) -> Option<Self> {
        let place = place_of("ClusterNetworkPolicy", object);
        let mut spec = spec_of(object, &place, gaps)?;
        let tier = match spec.text("tier") {
            Some("Admin") => Some(Tier::Admin),
            Some("Baseline") => Some(Tier::Baseline),
            _ => None,
        };
        let priority = spec.take("priority").and_then(Value::as_i64);
        let subject = spec.take("subject").and_then(|value| whom(value, &place, gaps));
        let rules = [spec.list("ingress", gaps), spec.list("egress", gaps)];
        spec.finish("not known; the policy is read without it", gaps);
        let (Some(tier), Some(priority), Some(subject)) = (tier, priority, subject) else {
            gaps.push(
                &place,
                "a policy without a known tier, priority or subject",
                "the policy is left out",
            );
            return None;
        };
        let mut read = |way: Way, name: &str, rules: Option<&[Value]>| {
            let rules = (1..).zip(rules.unwrap_or_default());
            rules
                .filter_map(|(at, rule)| {
                    Judging::read(rule, way, &format!("{place} {name} rule {at}"), &subject, gaps)
                })
                .collect::<Vec<_>>()
        };
        let [ingress, egress] = rules;
        let ingress = read(Way::In, "ingress", ingress);
        let egress = read(Way::Out, "egress", egress);
        Some(Self { tier, priority, ingress, egress })
    }

    fn rules(&self, way: Way) -> &[Judging] {
        match way {
            Way::In => &self.ingress,
            Way::Out => &self.egress,
        }
    }
}

impl Judging {
    fn read(
        value: &Value,
        way: Way,
        place: &str,
        subject: &Selector,
        gaps: &mut Gaps,
    ) -> Option<Self> {
        let mut fields = Fields::new(value, place, gaps)?;
        fields.ignore(&["name"]);
        let action = match fields.text("action") {
            Some("Accept") => Action::Accept,
            Some("Deny") => Action::Deny,
            Some("Pass") => Action::Pass,
            other => {
                gaps.push(place, format!("the action {other:?}"), "the rule is left out");
                return None;
            }
        };
        let peers =
            fields.list(if way == Way::In { "from" } else { "to" }, gaps).unwrap_or_default();
        let protocols = fields.list("protocols", gaps);
        if fields.finish("the rule is left out", gaps) {
            return None;
        }
        let peers: Vec<Selector> = peers.iter().flat_map(|one| peer(one, place, gaps)).collect();
        let Some(far) = any_of(peers) else {
            gaps.push(place, "no peer that can be named", "the rule is left out");
            return None;
        };
        let services = match protocols {
            None | Some([]) => Services::any(),
            Some(list) => list
                .iter()
                .filter_map(|one| service(one, place, gaps))
                .reduce(|all, one| all.union(&one))?,
        };
        let area = Area { near: Group::of(subject.clone()), far: Group::of(far), services };
        Some(Self { place: place.to_owned(), action, area })
    }
}

/// Pods, by themselves or by their namespaces.
fn whom(value: &Value, place: &str, gaps: &mut Gaps) -> Option<Selector> {
    let mut fields = Fields::new(value, place, gaps)?;
    let (spaces, chosen) = (fields.take("namespaces"), fields.take("pods"));
    if fields.finish("whatever names it is left out", gaps) {
        return None;
    }
    match (spaces, chosen) {
        (Some(spaces), None) => Some(pods_in(namespaces(spaces, place, gaps)?, Vec::new())),
        (None, Some(chosen)) => {
            let mut fields = Fields::new(chosen, place, gaps)?;
            let space = fields.take("namespaceSelector").unwrap_or(&Value::Null);
            let pod = fields.take("podSelector").unwrap_or(&Value::Null);
            if fields.finish("whatever names it is left out", gaps) {
                return None;
            }
            Some(pods_in(namespaces(space, place, gaps)?, pods(pod, place, gaps)?))
        }
        (None, None) | (Some(_), Some(_)) => {
            gaps.push(place, short(value), "whatever names it is left out");
            None
        }
    }
}

/// One element of `from` or `to`: several selectors, or none with a gap.
fn peer(value: &Value, place: &str, gaps: &mut Gaps) -> Vec<Selector> {
    match value.get("networks").and_then(Value::as_array) {
        Some(networks) if value.as_object().is_some_and(|fields| fields.len() == 1) => {
            networks.iter().filter_map(|one| network(one, place, gaps)).collect()
        }
        Some(_) | None => whom(value, place, gaps).into_iter().collect(),
    }
}

/// One element of `protocols`.
fn service(value: &Value, place: &str, gaps: &mut Gaps) -> Option<Services> {
    let mut left_out = || {
        gaps.push(place, format!("the protocol {}", short(value)), "the protocol is left out");
        None
    };
    let object = value.as_object().filter(|object| object.len() == 1);
    let Some((protocol, inner)) = object.and_then(|object| object.iter().next()) else {
        return left_out();
    };
    let fields = inner.as_object().map_or(0, serde_json::Map::len);
    let range = match inner.get("destinationPort") {
        None if fields == 0 && (inner.is_object() || inner.is_null()) => None,
        Some(destination) if fields == 1 => {
            let part = |name: &str| destination.get("range").and_then(|range| range.get(name));
            let number = destination.get("number");
            let ends = (number.or(part("start")), number.or(part("end")));
            let known = destination.as_object().is_some_and(|object| object.len() == 1);
            match (ends.0.and_then(port), ends.1.and_then(port)) {
                (Some(first), Some(last)) if known => Some(PortRange { first, last }),
                _ => return left_out(),
            }
        }
        Some(_) | None => return left_out(),
    };
    ports(protocol, range, place, gaps)
}

/// The rules of one tier and direction, without those at this end who were `judged` already.
pub(super) fn written(
    policies: &[Cluster],
    tier: Tier,
    way: Way,
    judged: &[Selector],
    gaps: &mut Gaps,
) -> Vec<Rule> {
    let mut policies: Vec<&Cluster> =
        policies.iter().filter(|policy| policy.tier == tier).collect();
    policies.sort_by_key(|policy| policy.priority);
    let ordered: Vec<&Judging> = policies.iter().flat_map(|policy| policy.rules(way)).collect();
    let mut rules = Vec::new();
    for (at, judging) in ordered.iter().enumerate() {
        let effect = match judging.action {
            Action::Accept => Effect::Allow,
            Action::Deny => Effect::Deny,
            Action::Pass => continue,
        };
        // An earlier rule that denies wins anyway.
        let decides = |earlier: &&&Judging| {
            earlier.action == Action::Pass
                || (earlier.action == Action::Accept && effect == Effect::Deny)
        };
        let earlier = ordered.iter().take(at).filter(decides).map(|earlier| &earlier.area);
        let Some(pieces) = without(judging.area.clone(), earlier) else {
            gaps.push(
                &judging.place,
                format!("more than {PIECES_MAX} pieces without what earlier rules decide"),
                "the rule is left out",
            );
            continue;
        };
        for piece in pieces {
            let near = piece.near.but(judged).selector(Some(me()));
            let far = piece.far.selector(None);
            let mut rule = one_sided(way, effect, near, far, &piece.services);
            rule.options.reason = Some(word(judging.place.clone()));
            rules.push(rule);
        }
    }
    rules
}
