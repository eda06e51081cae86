//! An nftables ruleset, as `nft -j list ruleset` prints it (libnftables-json(5)), as the policy of one host.
//!
//! Read are the filter chains of the hooks input and output; what a packet must not have decided for it elsewhere
//! (forwarding, address translation, bridges) is named. The chain's order is worked out: see `chain`.

mod chain;
mod rule;
mod value;

use std::collections::BTreeMap;

use image::AddressSet;
use serde_json::Value;

use self::{
    chain::{Chain, Hook, chains_of},
    rule::{Step, steps},
};
use super::{
    Gaps, ImportError, Imported, comment, distinct,
    fields::{Fields, short},
    text_of,
};
use crate::syntax::{Document, Inbound, Line, Name, Rule, Statement, Tier};

/// Rules, after jumps were followed, that one ruleset may come to.
const STEPS_MAX: usize = 65_536;
/// Chains that jump to each other, as the kernel limits them (NFT_JUMP_STACK_SIZE, include/net/netfilter/nf_tables.h).
const JUMPS_MAX: usize = 16;

/// A ruleset as it was read.
struct Ruleset<'a> {
    chains: Vec<Listed<'a>>,
    /// By family, table and name.
    sets: BTreeMap<(&'a str, &'a str, &'a str), &'a Value>,
}

/// A chain as it is listed.
struct Listed<'a> {
    family: &'a str,
    table: &'a str,
    name: &'a str,
    base: Option<Base<'a>>,
    rules: Vec<(String, &'a Value)>,
}

/// What makes a chain a base chain.
#[derive(Clone, Copy)]
struct Base<'a> {
    kind: &'a str,
    hook: &'a str,
    drops: bool,
}

/// Imports what `nft -j list ruleset` printed.
///
/// # Errors
/// [`ImportError`] if `bytes` is no such thing. What cannot be expressed is no error but a [`Gap`](super::Gap).
pub fn import_nftables(bytes: &[u8]) -> Result<Imported, ImportError> {
    let value: Value = serde_json::from_str(text_of(bytes)?).map_err(ImportError::Json)?;
    let objects = value.get("nftables").and_then(Value::as_array).ok_or(ImportError::NoRuleset)?;
    let mut gaps = Gaps::default();
    let ruleset = Ruleset::read(objects, &mut gaps);
    let mut hooks = BTreeMap::<Hook, Vec<Chain>>::new();
    for listed in &ruleset.chains {
        let Some(base) = listed.base else { continue };
        let Some(hook) = ruleset.judged(listed, base, &mut gaps) else { continue };
        let mut found = Vec::new();
        ruleset.follow(listed, hook, 0, &mut found, &mut gaps)?;
        let family = family_of(listed.family);
        let chain = Chain::new(listed.place(), family, base.drops, found, &mut gaps);
        hooks.entry(hook).or_default().push(chain);
    }
    let mut lines = vec![comment("Imported from an nftables ruleset."), Line::default()];
    let mut statements = Statements::default();
    for (hook, chains) in hooks {
        chains_of(hook, chains, &mut statements, &mut gaps);
    }
    lines.extend(gaps.lines());
    if !gaps.0.is_empty() {
        lines.push(Line::default());
    }
    lines.extend(statements.lines());
    Ok(Imported { documents: vec![(Tier::Team, Document { lines })], gaps: gaps.0 })
}

/// What the document says, each thing once.
#[derive(Default)]
struct Statements {
    names: Vec<Name>,
    rules: Vec<Rule>,
    defaults: Vec<Statement>,
}

impl Statements {
    fn lines(self) -> Vec<Line> {
        let mut lines = Vec::new();
        let names = self.names.into_iter().map(Statement::Name).collect();
        let rules = distinct(self.rules).into_iter().map(Statement::Rule).collect();
        let groups: [Vec<Statement>; 3] = [names, rules, self.defaults];
        for group in groups {
            if !lines.is_empty() && !group.is_empty() {
                lines.push(Line::default());
            }
            lines.extend(
                group
                    .into_iter()
                    .map(|statement| Line { statement: Some(statement), ..Line::default() }),
            );
        }
        lines
    }

    fn inbound(&mut self, inbound: Inbound) {
        self.defaults.push(Statement::Inbound(inbound));
    }
}

/// Which addresses a table of this family sees; `None` if it does not see connections as such.
fn family_of(family: &str) -> AddressSet {
    match family {
        "ip" => AddressSet::all_v4(),
        "ip6" => AddressSet::all().difference(&AddressSet::all_v4()),
        _ => AddressSet::all(),
    }
}

impl Listed<'_> {
    fn place(&self) -> String {
        format!("chain {} {} {}", self.family, self.table, self.name)
    }
}

impl<'a> Ruleset<'a> {
    fn read(objects: &'a [Value], gaps: &mut Gaps) -> Self {
        let mut ruleset = Self { chains: Vec::new(), sets: BTreeMap::new() };
        for object in objects {
            let Some((kind, inner)) = object.as_object().and_then(|object| object.iter().next())
            else {
                gaps.push("the ruleset", short(object), "not known; left out");
                continue;
            };
            let text = |name: &str| inner.get(name).and_then(Value::as_str).unwrap_or_default();
            match kind.as_str() {
                "metainfo" => {}
                "table" => {
                    let flags = inner.get("flags").filter(|flags| !flags.is_null());
                    if let Some(flags) = flags {
                        let place = format!("table {} {}", text("family"), text("name"));
                        gaps.push(&place, format!("flags {flags}"), "read as an ordinary table");
                    }
                }
                "chain" => ruleset.chains.push(Listed {
                    family: text("family"),
                    table: text("table"),
                    name: text("name"),
                    base: inner.get("hook").and_then(Value::as_str).map(|hook| Base {
                        kind: text("type"),
                        hook,
                        drops: text("policy") == "drop",
                    }),
                    rules: Vec::new(),
                }),
                "set" | "map" => {
                    // A map that is used is named where it is used.
                    let key = (text("family"), text("table"), text("name"));
                    ruleset.sets.insert(key, inner);
                }
                "rule" => {
                    let chain = ruleset.chains.iter_mut().find(|chain| {
                        (chain.family, chain.table, chain.name)
                            == (text("family"), text("table"), text("chain"))
                    });
                    match chain {
                        Some(chain) => {
                            let number = chain.rules.len() + 1;
                            let place = format!("{} rule {number}", chain.place());
                            chain.rules.push((place, inner));
                        }
                        None => gaps.push(
                            "the ruleset",
                            short(object),
                            "its chain is not listed; left out",
                        ),
                    }
                }
                other => gaps.push("the ruleset", format!("{other} {}", short(inner)), "left out"),
            }
        }
        ruleset
    }

    /// The hook of a base chain that judges what this host sends or receives. Others that do anything are gaps.
    fn judged(&self, listed: &Listed<'_>, base: Base<'_>, gaps: &mut Gaps) -> Option<Hook> {
        let hook = match (base.kind, listed.family, base.hook) {
            ("filter", "inet" | "ip" | "ip6", "input") => Hook::Input,
            ("filter", "inet" | "ip" | "ip6", "output") => Hook::Output,
            _ if listed.rules.is_empty() && !base.drops => return None,
            _ => {
                let construct = format!(
                    "a chain of type {} at hook {} with {} rules and policy {}",
                    base.kind,
                    base.hook,
                    listed.rules.len(),
                    if base.drops { "drop" } else { "accept" }
                );
                gaps.push(
                    &listed.place(),
                    construct,
                    "only connections that this host makes or accepts are judged; the chain is left out",
                );
                return None;
            }
        };
        Some(hook)
    }

    /// The steps of a chain, those of the chains it jumps to in their place.
    fn follow(
        &self,
        listed: &Listed<'_>,
        hook: Hook,
        depth: usize,
        found: &mut Vec<Step>,
        gaps: &mut Gaps,
    ) -> Result<(), ImportError> {
        let family = family_of(listed.family);
        for (place, rule) in &listed.rules {
            let Some(fields) = Fields::new(rule, place.as_str(), gaps) else { continue };
            let sets = |name: &str| self.sets.get(&(listed.family, listed.table, name)).copied();
            for step in steps(fields, hook, &family, &sets, gaps) {
                let Some(target) = &step.jump else {
                    found.push(step);
                    continue;
                };
                let chain = self.chains.iter().find(|chain| {
                    (chain.family, chain.table, chain.name)
                        == (listed.family, listed.table, target.as_str())
                });
                match chain {
                    Some(chain) if depth < JUMPS_MAX => {
                        let mut inner = Vec::new();
                        self.follow(chain, hook, depth + 1, &mut inner, gaps)?;
                        found.extend(
                            inner.into_iter().filter_map(|inner| inner.within(&step, gaps)),
                        );
                    }
                    Some(_) => {
                        return Err(ImportError::Limit {
                            what: "chains that jump to chains",
                            limit: JUMPS_MAX,
                        });
                    }
                    None => gaps.push(
                        place,
                        format!("jump {target}"),
                        "there is no such chain; left out",
                    ),
                }
            }
            if found.len() > STEPS_MAX {
                return Err(ImportError::Limit { what: "rules", limit: STEPS_MAX });
            }
        }
        Ok(())
    }
}
