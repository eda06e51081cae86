//! Kubernetes NetworkPolicy (networking.k8s.io/v1) and ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2).
//!
//! A pod is a host here. Its labels are its host's; the name of its namespace is the label `namespace`, and a label `x` of
//! its namespace is the label `namespace/x`. Kubernetes judges the two ends of a connection by rules of their own, so
//! every rule names `me` at one end: it is then about that end only.
//!
//! NetworkPolicies allow, and isolate the pods that they select: what is not allowed to those is denied. That is a
//! default which denies, and one rule that allows everything to the pods that nothing isolates. ClusterNetworkPolicies
//! are read in order, so what an earlier rule decides is taken out of later ones, by selectors.

mod cluster;
mod group;
mod namespaced;
mod peer;

use serde::Deserialize;
use serde_json::Value;

use self::{cluster::Cluster, namespaced::Namespaced};
use super::{
    Gaps, ImportError, Imported,
    area::Services,
    comment, distinct,
    fields::Fields,
    spell::{all_of, any, any_of, end, except, me, rule},
    text_of,
};
use crate::syntax::{
    Answer, Default, Document, Effect, Line, Rule, Selector, Statement, Tier, Way,
};

/// Documents of one YAML stream, and objects in its lists.
const OBJECTS_MAX: usize = 65_536;

/// Imports the policies of a YAML stream or a JSON document, lists included.
///
/// # Errors
/// [`ImportError`] if there is no policy in `bytes`. What cannot be expressed is no error but a [`Gap`](super::Gap).
pub fn import_network_policies(bytes: &[u8]) -> Result<Imported, ImportError> {
    let documents = serde_norway::Deserializer::from_str(text_of(bytes)?)
        .map(Value::deserialize)
        .collect::<Result<Vec<Value>, _>>()
        .map_err(|error| ImportError::Yaml(error.to_string()))?;
    let mut gaps = Gaps::default();
    let mut objects: Vec<&Value> = Vec::new();
    for document in &documents {
        match document.get("items").and_then(Value::as_array) {
            Some(items) => objects.extend(items),
            None => objects.push(document),
        }
    }
    if objects.len() > OBJECTS_MAX {
        return Err(ImportError::Limit { what: "objects", limit: OBJECTS_MAX });
    }
    let mut namespaced = Vec::new();
    let mut cluster = Vec::new();
    for object in objects {
        if object.is_null() {
            continue;
        }
        let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
        match (text("apiVersion"), text("kind")) {
            ("networking.k8s.io/v1", "NetworkPolicy") => {
                namespaced.extend(Namespaced::read(object, &mut gaps));
            }
            (version, "ClusterNetworkPolicy")
                if version.starts_with("policy.networking.k8s.io/") =>
            {
                cluster.extend(Cluster::read(object, &mut gaps));
            }
            (version, kind) => gaps.push(
                &place_of(kind, object),
                format!("{kind} of {version}"),
                "not a policy that can be read; left out",
            ),
        }
    }
    if namespaced.is_empty() && cluster.is_empty() {
        return Err(ImportError::NoPolicy);
    }
    Ok(write(&namespaced, &cluster, gaps))
}

/// "NetworkPolicy shop/db"
fn place_of(kind: &str, object: &Value) -> String {
    let metadata = object.get("metadata");
    let text =
        |name: &str| metadata.and_then(|metadata| metadata.get(name)).and_then(Value::as_str);
    let name = text("name").unwrap_or("without a name");
    match text("namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// The fields of an object's `spec`, with the others looked at.
fn spec_of<'a>(object: &'a Value, place: &str, gaps: &mut Gaps) -> Option<Fields<'a>> {
    let mut fields = Fields::new(object, place, gaps)?;
    fields.ignore(&["apiVersion", "kind", "metadata", "status"]);
    let spec = fields.take("spec");
    fields.finish("not known; the policy is read without it", gaps);
    match spec {
        Some(spec) => Fields::new(spec, place, gaps),
        None => {
            gaps.push(place, "no spec", "the policy is left out");
            None
        }
    }
}

/// Both directions, with the names that Kubernetes gives them.
const WAYS: [(Way, &str); 2] = [(Way::In, "ingress"), (Way::Out, "egress")];

/// The documents: admin and baseline from cluster policies, team from namespaced ones.
fn write(namespaced: &[Namespaced], cluster: &[Cluster], mut gaps: Gaps) -> Imported {
    let isolated = |way: Way| -> Vec<Selector> {
        let mut pods: Vec<Selector> = Vec::new();
        for policy in namespaced.iter().filter(|policy| policy.rules(way).is_some()) {
            if !pods.contains(&policy.pods) {
                pods.push(policy.pods.clone());
            }
        }
        pods
    };
    let mut tiers: Vec<(Tier, Vec<Rule>, Vec<Statement>)> = Vec::new();
    for tier in [Tier::Admin, Tier::Team, Tier::Baseline] {
        let mut rules = Vec::new();
        match tier {
            Tier::Team => rules.extend(namespaced.iter().flat_map(Namespaced::written)),
            Tier::Admin | Tier::Baseline => {
                for (way, _) in WAYS {
                    // Who is isolated has been judged by then.
                    let judged = if tier == Tier::Baseline { isolated(way) } else { Vec::new() };
                    rules.extend(cluster::written(cluster, tier, way, &judged, &mut gaps));
                }
            }
        }
        if !rules.is_empty() {
            tiers.push((tier, rules, Vec::new()));
        }
    }
    let lowest = match tiers.last() {
        Some((Tier::Team | Tier::Baseline, ..)) => tiers.len() - 1,
        _ => {
            tiers.push((Tier::Team, Vec::new(), Vec::new()));
            tiers.len() - 1
        }
    };
    if let Some((_, rules, defaults)) = tiers.get_mut(lowest) {
        for (way, _) in WAYS {
            let Some(judged) = any_of(isolated(way)) else { continue };
            if defaults.is_empty() {
                // A pod cannot be kept from itself.
                rules.push(rule(Effect::Allow, end(me(), None), end(me(), None), &Services::any()));
            }
            rules.push(one_sided(
                way,
                Effect::Allow,
                except(me(), judged),
                any(),
                &Services::any(),
            ));
            defaults.push(Statement::Default(Default { answer: Answer::Deny, way }));
        }
    }
    tiers.retain(|(_, rules, defaults)| !(rules.is_empty() && defaults.is_empty()));
    if tiers.is_empty() {
        // Every policy was one that says nothing, or could not be expressed.
        tiers.push((Tier::Team, Vec::new(), Vec::new()));
    }
    let mut documents = Vec::new();
    for (at, (tier, rules, defaults)) in tiers.into_iter().enumerate() {
        let mut lines = vec![
            comment(
                "Imported from Kubernetes. A pod is a host with the pod's labels; its namespace is the label",
            ),
            comment(
                "`namespace`, and a label of its namespace begins with `namespace/`. Kubernetes always lets a pod's",
            ),
            comment("own node reach it: name the nodes here if something has to."),
            Line::default(),
        ];
        if at == 0 && !gaps.0.is_empty() {
            lines.extend(gaps.lines());
            lines.push(Line::default());
        }
        let statements = distinct(rules).into_iter().map(Statement::Rule);
        let statements = std::iter::once(Statement::Tier(tier)).chain(statements).chain(defaults);
        lines.extend(
            statements.map(|statement| Line { statement: Some(statement), ..Line::default() }),
        );
        documents.push((tier, Document { lines }));
    }
    Imported { documents, gaps: gaps.0 }
}

/// A rule about one end, which is `near`: a selector that speaks of `me`.
fn one_sided(way: Way, effect: Effect, near: Selector, far: Selector, services: &Services) -> Rule {
    let (near, far) = (end(near, None), end(far, None));
    match way {
        Way::In => rule(effect, far, near, services),
        Way::Out => rule(effect, near, far, services),
    }
}

/// `me & ...`
fn me_among(pods: &Selector) -> Selector {
    let mut members = vec![me()];
    members.extend(group::members(pods));
    all_of(members)
}
