//! What every rule, failsafe line and default says, in the order in which it has its say.
//!
//! Clauses are sorted by tier, in a tier by deny before allow, and then as written: of the clauses that match a flow the
//! first one decides.

use std::collections::BTreeMap;

use image::{Service, SubjectTest};
use jiff::Timestamp;
use verdict::{Direction, Verdict};

use super::answer::{AnalysisError, Basis, Decider};
use super::limits::CLAUSES_MAX;
use crate::{
    compile::{Stated, WAYS, tier},
    facts::Identities,
    format::{selector_text, statement},
    policy::Policy,
    resolve::{ServiceNames, Who, is_any_process, who},
    syntax::{Answer, Effect, End, Failsafe, Mode, Selector, Statement, Until, Way},
};

/// Number of a selector in [`Clauses::selectors`].
pub(super) type SelectorNumber = usize;

/// Whom one end of a clause means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// Everybody.
    Any,
    /// Loopback.
    Loopback,
    /// Whoever a selector means.
    These(SelectorNumber),
}

/// What one statement says of flows.
#[derive(Clone, Debug)]
pub(super) struct Clause {
    pub(super) tier: u8,
    pub(super) verdict: Verdict,
    pub(super) from: Whom,
    pub(super) to: Whom,
    pub(super) services: Vec<Service>,
    pub(super) from_processes: SubjectTest,
    pub(super) to_processes: SubjectTest,
    /// Whether it speaks where the flow starts, and where it ends.
    pub(super) speaks: [bool; 2],
    /// Whether it is a rule: what people can remove.
    pub(super) is_rule: bool,
    pub(super) decider: Decider,
}

impl Clause {
    pub(super) fn speaks(&self, direction: Direction) -> bool {
        self.speaks[direction as usize]
    }
}

/// The clauses of policies that were checked together, and the selectors that they name.
#[derive(Debug)]
pub(super) struct Clauses<'a> {
    pub(super) policies: &'a [Policy],
    pub(super) clauses: Vec<Clause>,
    /// Place of the policy among `policies`, and the selector.
    pub(super) selectors: Vec<(usize, &'a Selector)>,
}

/// Clauses being collected.
struct Collection<'a, 'i> {
    all: Clauses<'a>,
    numbers: BTreeMap<(usize, String), SelectorNumber>,
    services: Vec<ServiceNames>,
    identities: &'i dyn Identities,
}

impl<'a> Clauses<'a> {
    pub(super) fn new(
        policies: &'a [Policy],
        identities: &dyn Identities,
        now: Timestamp,
        basis: Basis,
    ) -> Result<Self, AnalysisError> {
        let mut collection = Collection {
            all: Self { policies, clauses: Vec::new(), selectors: Vec::new() },
            numbers: BTreeMap::new(),
            services: policies.iter().map(ServiceNames::new).collect(),
            identities,
        };
        let counts = |mode: Mode| match basis {
            Basis::Enforced => mode == Mode::Enforce,
            Basis::Would => mode != Mode::Draft,
        };
        for (at, policy) in policies.iter().enumerate() {
            if policy.mode != Mode::Draft {
                collection.failsafe(at, policy);
            }
        }
        for (at, policy) in policies.iter().enumerate() {
            collection.rules(at, policy, now, counts);
        }
        collection.built_in(counts);
        let mut clauses = collection.all;
        AnalysisError::limit("clauses", clauses.clauses.len(), CLAUSES_MAX)?;
        clauses.clauses.sort_by_key(|clause| (clause.tier, clause.verdict == Verdict::Allow));
        Ok(clauses)
    }
}

impl<'a> Collection<'a, '_> {
    fn failsafe(&mut self, at: usize, policy: &'a Policy) {
        let flows = policy.document.statements().filter_map(|(line, said)| match said {
            Statement::Failsafe(Failsafe::Flows(flows)) => Some((line, said, flows)),
            Statement::Failsafe(Failsafe::None)
            | Statement::Tier(_)
            | Statement::Mode(_)
            | Statement::Name(_)
            | Statement::Rule(_)
            | Statement::Default(_)
            | Statement::Inbound(_)
            | Statement::Test(_) => None,
        });
        for (nth, (line, said, flows)) in flows.enumerate() {
            let decider = Decider {
                id: format!("failsafe:{}.{nth}", policy.source),
                text: statement(said),
                stated: Some(Stated { source: policy.source, span: line.span }),
            };
            let services = self.services.get(at).map(|names| names.of(&flows.services));
            let ends = (&flows.from, &flows.to);
            self.add(at, tier::FAILSAFE, Verdict::Allow, ends, services, false, decider);
        }
    }

    fn rules(
        &mut self,
        at: usize,
        policy: &'a Policy,
        now: Timestamp,
        counts: impl Fn(Mode) -> bool,
    ) {
        for written in policy.rules() {
            let rule = written.rule;
            let ended = rule.options.until.map(Until::ends_at).is_some_and(|end| end <= now);
            if ended || !counts(written.mode) {
                continue;
            }
            let verdict = match rule.effect {
                Effect::Allow => Verdict::Allow,
                Effect::Deny | Effect::Refuse => Verdict::Deny,
            };
            let decider = Decider {
                id: written.id.to_owned(),
                text: statement(&Statement::Rule(rule.clone())),
                stated: Some(Stated { source: policy.source, span: rule.span }),
            };
            let services = self.services.get(at).map(|names| names.of(&rule.services));
            let ends = (&rule.from, &rule.to);
            self.add(at, tier::of(policy.tier), verdict, ends, services, true, decider);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a clause is, from two kinds of lines")]
    fn add(
        &mut self,
        at: usize,
        tier: u8,
        verdict: Verdict,
        (from, to): (&'a End, &'a End),
        services: Option<Vec<Service>>,
        is_rule: bool,
        decider: Decider,
    ) {
        let who = |end: &End| who(end.process.as_ref(), self.identities, &mut Vec::new());
        let (from_who, to_who) = (who(from), who(to));
        let test = |who: &Who| match who {
            Who::These(test) => test.clone(),
            Who::Nobody => SubjectTest::default(),
        };
        let speaks = |own: &Who, far: &End| {
            *own != Who::Nobody
                && (verdict == Verdict::Allow || is_any_process(far.process.as_ref()))
        };
        let clause = Clause {
            tier,
            verdict,
            from_processes: test(&from_who),
            to_processes: test(&to_who),
            speaks: [speaks(&from_who, to), speaks(&to_who, from)],
            from: self.whom(at, &from.selector),
            to: self.whom(at, &to.selector),
            services: services.unwrap_or_default(),
            is_rule,
            decider,
        };
        self.all.clauses.push(clause);
    }

    fn whom(&mut self, at: usize, selector: &'a Selector) -> Whom {
        let next = self.all.selectors.len();
        let number = *self.numbers.entry((at, selector_text(selector))).or_insert(next);
        if number == next {
            self.all.selectors.push((at, selector));
        }
        Whom::These(number)
    }

    /// Loopback, and the defaults. A default in audit is heard beside the built-in one.
    fn built_in(&mut self, counts: impl Fn(Mode) -> bool) {
        let any = |tier, verdict, speaks, id: &str, text: String, stated| Clause {
            tier,
            verdict,
            from: Whom::Any,
            to: Whom::Any,
            services: vec![Service::ANY],
            from_processes: SubjectTest::default(),
            to_processes: SubjectTest::default(),
            speaks,
            is_rule: false,
            decider: Decider { id: id.to_owned(), text, stated },
        };
        let text = "loopback to loopback is allowed (built in)".to_owned();
        self.all.clauses.push(Clause {
            from: Whom::Loopback,
            to: Whom::Loopback,
            ..any(tier::LOOPBACK, Verdict::Allow, [true, true], "loopback", text, None)
        });
        for way in WAYS {
            let (id, speaks) = match way {
                Way::Out => ("default-out", [true, false]),
                Way::In => ("default-in", [false, true]),
            };
            let mut enforced = false;
            for policy in self.all.policies {
                for (line, said) in policy.document.statements() {
                    let Statement::Default(default) = said else { continue };
                    if default.way != way || !counts(policy.mode) {
                        continue;
                    }
                    enforced |= policy.mode == Mode::Enforce;
                    let verdict = match default.answer {
                        Answer::Allow => Verdict::Allow,
                        Answer::Deny => Verdict::Deny,
                    };
                    let stated = Some(Stated { source: policy.source, span: line.span });
                    let clause = any(tier::DEFAULT, verdict, speaks, id, statement(said), stated);
                    self.all.clauses.push(clause);
                }
            }
            if !enforced {
                let text = "what no rule matches is allowed (built in)".to_owned();
                self.all.clauses.push(any(tier::DEFAULT, Verdict::Allow, speaks, id, text, None));
            }
        }
    }
}
