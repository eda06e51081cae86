//! What may stand in a delegated document, and whether it does: exact containment.
//!
//! A scope is a product: who connects, who accepts, which services, which effects, which tiers, until when. A rule lies in
//! it if there is no flow, in any inventory, on any host, at any time, that the rule speaks of and the scope does not. The
//! question is decided by what selectors mean (module `meaning`) and not by how they are written, so that
//! `::ffff:10.0.0.0/104` is `10.0.0.0/8`, and it needs no inventory: what is contained today is so whatever label
//! changes. Qualifiers of processes narrow a rule and are left out of account.

mod escape;
mod form;
mod meaning;
mod names;
mod services;

use std::rc::Rc;

use jiff::Timestamp;
use policy::{
    Diagnostics, Document, LineIndex, Rule, Severity, Source, Tier, Way,
    syntax::{Effect, Expression, Selector, Statement, Until},
};
use serde::{Deserialize, Serialize};

pub use escape::{Escape, Why};
use form::Form;
use meaning::Comparison;
use names::Names;
use services::Served;

/// Steps that comparing one document with one scope may take: what needs more is refused by name. A selector of ten
/// labels takes some hundred.
pub const STEPS_MAX: u64 = 1 << 24;

/// What may stand in a delegated document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// `FROM -> TO : SERVICES`, as in a rule: every rule's ends and services lie within.
    pub flows: String,
    /// `in`: only what a host accepts itself, so that TO lies within `me`; `out`: the same of FROM. Both without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Way>,
    /// What rules may do.
    pub effects: Vec<Effect>,
    /// Tiers the document may be in; `team` where nothing is said.
    #[serde(default = "team", skip_serializing_if = "is_team")]
    pub tiers: Vec<Tier>,
    /// Every rule ends by then; without it rules need no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// How many rules there may be, those that are handed on included.
    pub rules: u32,
    /// How many times it may be handed on.
    #[serde(default)]
    pub depth: u8,
}

fn team() -> Vec<Tier> {
    vec![Tier::Team]
}

fn is_team(tiers: &[Tier]) -> bool {
    tiers == [Tier::Team]
}

impl Scope {
    /// Whether it makes sense.
    ///
    /// # Errors
    /// What does not, in one sentence.
    pub fn sound(&self) -> Result<(), String> {
        if self.effects.is_empty() || self.tiers.is_empty() {
            return Err(
                "no effect or no tier is allowed in it, so that no rule would be".to_owned()
            );
        }
        let flows = Flows::read(&self.flows)?;
        flows.names().map_err(|why| why.to_string())?;
        Ok(())
    }

    /// Counts the rules of a document, all of which lie in this scope.
    ///
    /// # Errors
    /// The first statement that does not, with the reason.
    pub fn covers(&self, policy: &str) -> Result<u64, Escape> {
        self.covers_read(&Reading::of(policy)?)
    }

    /// The same of a document that is held against one scope after the other.
    ///
    /// # Errors
    /// As [`Scope::covers`].
    pub fn covers_read(&self, reading: &Reading) -> Result<u64, Escape> {
        let whole = |why| Escape { rule: None, why };
        let Reading { text, document } = reading;
        let flows = Flows::read(&self.flows).map_err(|error| whole(Why::Scope(error)))?;
        let lines = LineIndex::new(text);
        let escape = |span: policy::Span, why| {
            let line = lines.position(span.start, text).line;
            let said = text.get(span.range()).unwrap_or_default().trim();
            Escape { rule: Some((line, said.chars().take(200).collect())), why }
        };
        self.tier(document).map_err(whole)?;
        let me = Selector::new(Expression::Me, policy::Span::default());
        let mut comparing = Comparing {
            scope: self,
            outer: Outer::of(self, &flows, &me).map_err(whole)?,
            inner: Names::of(document).map_err(whole)?,
            steps: STEPS_MAX,
        };
        let mut rules = 0;
        for (line, statement) in document.statements() {
            match statement {
                Statement::Rule(rule) => {
                    comparing.rule(rule).map_err(|why| escape(rule.span, why))?;
                    rules += 1;
                }
                Statement::Default(_) => return Err(escape(line.span, Why::Default)),
                Statement::Failsafe(_) => return Err(escape(line.span, Why::Failsafe)),
                // These say something of the document's own rules, or nothing of any flow.
                Statement::Tier(_)
                | Statement::Mode(_)
                | Statement::Name(_)
                | Statement::Inbound(_)
                | Statement::Test(_) => {}
            }
        }
        Ok(rules)
    }

    fn tier(&self, document: &Document) -> Result<(), Why> {
        let mut said = false;
        for (_, statement) in document.statements() {
            if let Statement::Tier(tier) = statement {
                said = true;
                if !self.tiers.contains(tier) {
                    return Err(Why::Tier(*tier));
                }
            }
        }
        if said || self.tiers.contains(&Tier::Team) { Ok(()) } else { Err(Why::Tier(Tier::Team)) }
    }
}

/// The flows of a scope, read as the policy language reads a test of them.
struct Flows {
    document: Document,
}

/// Both ends and the services.
type Parts<'a> = (&'a Selector, &'a Selector, &'a [policy::syntax::Service]);

impl Flows {
    fn read(flows: &str) -> Result<Self, String> {
        let text = format!("test allow {flows}");
        let mut report = Diagnostics::default();
        let parsed = policy::parse(text.as_bytes(), 0, &mut report);
        if let Some(first) = error(&report) {
            return Err(format!("`{flows}` is not `FROM -> TO : SERVICES`: {first}"));
        }
        let read = Self { document: parsed.document };
        read.parts().map(|_parts| ()).map_err(|error| format!("`{flows}`: {error}"))?;
        Ok(read)
    }

    fn parts(&self) -> Result<Parts<'_>, String> {
        let [line] = self.document.lines.as_slice() else {
            return Err("a scope has one line".to_owned());
        };
        let Some(Statement::Test(test)) = &line.statement else {
            return Err("a scope is `FROM -> TO : SERVICES`".to_owned());
        };
        let flows = &test.flows;
        if flows.from.process.is_some() || flows.to.process.is_some() {
            return Err("a scope names no processes".to_owned());
        }
        Ok((&flows.from.selector, &flows.to.selector, &flows.services))
    }

    /// Whether selectors and services can be understood at all.
    fn names(&self) -> Result<(), Why> {
        let (from, to, services) = self.parts().map_err(Why::Scope)?;
        let names = Names::of(&self.document)?;
        names.form(from)?;
        names.form(to)?;
        Served::of(services, &names)?;
        Ok(())
    }
}

/// The first error of a report.
fn error(report: &Diagnostics) -> Option<String> {
    let first = report.reported().iter().find(|it| it.severity() == Severity::Error);
    first.map(|it| it.message.clone())
}

/// A document as it was read.
#[derive(Clone, Debug)]
pub struct Reading {
    text: String,
    document: Document,
}

impl Reading {
    /// Reads it.
    ///
    /// # Errors
    /// [`Why::Unreadable`], of the document as a whole.
    pub fn of(policy: &str) -> Result<Self, Escape> {
        let mut report = Diagnostics::default();
        let source = Source { name: "", bytes: policy.as_bytes() };
        let (text, parsed) = policy::read(source, 0, &mut report);
        if report.has_errors() || parsed.damaged > 0 {
            let why = Why::Unreadable(error(&report).unwrap_or_default());
            return Err(Escape { rule: None, why });
        }
        Ok(Self { text, document: parsed.document })
    }
}

/// What a scope says, worked out once for all rules that are held against it.
struct Outer<'a> {
    from: Rc<Form<'a>>,
    to: Rc<Form<'a>>,
    services: Served,
}

impl<'a> Outer<'a> {
    /// Of a scope whose line is `flows`; `me` is the selector of that name.
    fn of(scope: &Scope, flows: &'a Flows, me: &'a Selector) -> Result<Self, Why> {
        let (from, to, services) = flows.parts().map_err(Why::Scope)?;
        let names = Names::of(&flows.document)?;
        let end = |selector: &'a Selector, way| {
            let form = names.form(selector)?;
            Ok::<_, Why>(match scope.direction == Some(way) {
                true => Form::all(vec![form, names.form(me)?]),
                false => form,
            })
        };
        Ok(Self {
            from: end(from, Way::Out)?,
            to: end(to, Way::In)?,
            services: Served::of(services, &names)?,
        })
    }
}

/// A document and the scope it is held against.
struct Comparing<'a> {
    scope: &'a Scope,
    outer: Outer<'a>,
    inner: Names<'a>,
    /// Steps that are left.
    steps: u64,
}

impl Comparing<'_> {
    fn rule(&mut self, rule: &Rule) -> Result<(), Why> {
        if !self.scope.effects.contains(&rule.effect) {
            return Err(Why::Effect(rule.effect));
        }
        self.ends_in_time(rule)?;
        if let Some(service) =
            Served::of(&rule.services, &self.inner)?.outside(&self.outer.services)
        {
            return Err(Why::Service(service));
        }
        let Self { outer, inner, steps, scope: _ } = self;
        end(&rule.from.selector, &outer.from, inner, steps).map_err(|why| why.at("FROM"))?;
        end(&rule.to.selector, &outer.to, inner, steps).map_err(|why| why.at("TO"))
    }

    fn ends_in_time(&self, rule: &Rule) -> Result<(), Why> {
        let Some(limit) = self.scope.until else { return Ok(()) };
        let end = rule.options.until.map(Until::ends_at);
        if end.is_some_and(|end: Timestamp| end <= limit.ends_at()) {
            return Ok(());
        }
        Err(Why::Until { limit, end: rule.options.until })
    }
}

/// Whether one end of a rule lies within that end of the scope.
fn end(inner: &Selector, outer: &Form<'_>, names: &Names<'_>, steps: &mut u64) -> Result<(), Why> {
    let inner = names.form(inner)?;
    match Comparison::new(&inner, outer).outside(steps)? {
        None => Ok(()),
        Some(witness) => Err(Why::Outside { end: "", witness }),
    }
}
