//! NetworkPolicy: what is allowed to and from the pods of one namespace, which are isolated by being selected.

use serde_json::Value;

use super::{
    super::{
        Gaps,
        area::Services,
        fields::{Fields, short},
        spell::{any, any_of, word},
    },
    me_among, one_sided,
    peer::{block, namespace, namespaces, pods, pods_in, port, ports},
    place_of, spec_of,
};
use crate::syntax::{Effect, PortRange, Rule, Selector, Way};

/// A policy as it was read.
pub(super) struct Namespaced {
    place: String,
    /// Whom it isolates.
    pub(super) pods: Selector,
    /// What is allowed in each direction that it isolates.
    ingress: Option<Vec<Allowed>>,
    egress: Option<Vec<Allowed>>,
}

/// Peers and services that are allowed.
struct Allowed {
    peers: Selector,
    services: Services,
}

impl Namespaced {
    /// `None`, with a gap, if it cannot be said whom it is about.
    pub(super) fn read(object: &Value, gaps: &mut Gaps) -> Option<Self> {
        let place = place_of("NetworkPolicy", object);
        let own = object.get("metadata").and_then(|metadata| metadata.get("namespace"));
        let own = namespace(own.and_then(Value::as_str).unwrap_or("default"));
        let mut spec = spec_of(object, &place, gaps)?;
        let selected = spec.take("podSelector").unwrap_or(&Value::Null);
        let Some(selected) = pods(selected, &format!("{place} podSelector"), gaps) else {
            gaps.push(&place, "a policy for pods that cannot be named", "the policy is left out");
            return None;
        };
        let types = spec.list("policyTypes", gaps);
        let ingress = spec.list("ingress", gaps);
        let egress = spec.list("egress", gaps);
        spec.finish("not known; the policy is read without it", gaps);
        let typed = |name: &str| types.is_some_and(|types| types.iter().any(|own| own == name));
        let untyped = types.is_none_or(<[Value]>::is_empty);
        let mut read = |name: &str, rules: Option<&[Value]>| {
            let rules = (1..).zip(rules.unwrap_or_default());
            rules
                .filter_map(|(at, rule)| {
                    Allowed::read(rule, name, &format!("{place} {name} rule {at}"), &own, gaps)
                })
                .collect::<Vec<_>>()
        };
        let ingress = (untyped || typed("Ingress")).then(|| read("ingress", ingress));
        let egress =
            ((untyped && egress.is_some()) || typed("Egress")).then(|| read("egress", egress));
        Some(Self { pods: pods_in(vec![own], selected), place, ingress, egress })
    }

    /// What is allowed in this direction; `None` if the policy does not isolate in it.
    pub(super) fn rules(&self, way: Way) -> Option<&[impl Sized]> {
        match way {
            Way::In => self.ingress.as_deref(),
            Way::Out => self.egress.as_deref(),
        }
    }

    /// As rules.
    pub(super) fn written(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (way, allowed) in [(Way::In, &self.ingress), (Way::Out, &self.egress)] {
            for Allowed { peers, services } in allowed.iter().flatten() {
                let near = me_among(&self.pods);
                let mut rule = one_sided(way, Effect::Allow, near, peers.clone(), services);
                rule.options.reason = Some(word(self.place.clone()));
                rules.push(rule);
            }
        }
        rules
    }
}

impl Allowed {
    /// `None`, with gaps, if nothing of it can be said. A list that is not there stands for everything; one of which
    /// nothing can be said does not.
    fn read(
        value: &Value,
        direction: &str,
        place: &str,
        own: &Selector,
        gaps: &mut Gaps,
    ) -> Option<Self> {
        let mut fields = Fields::new(value, place, gaps)?;
        let peers = fields.list(if direction == "ingress" { "from" } else { "to" }, gaps);
        let listed = fields.list("ports", gaps);
        if fields.finish("the rule is left out", gaps) {
            return None;
        }
        let peers = match peers {
            None | Some([]) => any(),
            Some(list) => {
                any_of(list.iter().filter_map(|one| peer(one, place, own, gaps)).collect())?
            }
        };
        let services = match listed {
            None | Some([]) => Services::any(),
            Some(list) => list
                .iter()
                .filter_map(|one| service(one, place, gaps))
                .reduce(|all, one| all.union(&one))?,
        };
        Some(Self { peers, services })
    }
}

/// One element of `from` or `to`.
fn peer(value: &Value, place: &str, own: &Selector, gaps: &mut Gaps) -> Option<Selector> {
    let mut fields = Fields::new(value, place, gaps)?;
    // Empty selectors mean something: all pods, all namespaces.
    let (pod, space) = (fields.take("podSelector"), fields.take("namespaceSelector"));
    let addresses = fields.take("ipBlock");
    if fields.finish("the peer is left out", gaps) {
        return None;
    }
    match (pod, space, addresses) {
        (None, None, Some(addresses)) => block(addresses, place, gaps),
        (Some(pod), None, None) => Some(pods_in(vec![own.clone()], pods(pod, place, gaps)?)),
        (None, Some(space), None) => Some(pods_in(namespaces(space, place, gaps)?, Vec::new())),
        (Some(pod), Some(space), None) => {
            Some(pods_in(namespaces(space, place, gaps)?, pods(pod, place, gaps)?))
        }
        (None, None, None) | (_, _, Some(_)) => {
            gaps.push(place, format!("the peer {}", short(value)), "the peer is left out");
            None
        }
    }
}

/// One element of `ports`.
fn service(value: &Value, place: &str, gaps: &mut Gaps) -> Option<Services> {
    let mut fields = Fields::new(value, place, gaps)?;
    let protocol = fields.text("protocol").unwrap_or("TCP");
    let (first, last) = (fields.take("port"), fields.take("endPort"));
    if fields.finish("the port is left out", gaps) {
        return None;
    }
    let range = match (first, last) {
        (None, None) => None,
        (Some(first), last) => {
            let range = port(first)
                .and_then(|first| Some(PortRange { first, last: last.map_or(Some(first), port)? }));
            if range.is_none() {
                let what = if first.is_string() { "a named port" } else { "the port" };
                gaps.push(place, format!("{what} {}", short(value)), "the port is left out");
                return None;
            }
            range
        }
        (None, Some(_)) => {
            gaps.push(place, format!("the port {}", short(value)), "the port is left out");
            return None;
        }
    };
    ports(protocol, range, place, gaps)
}
