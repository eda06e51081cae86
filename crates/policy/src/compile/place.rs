//! What a written rule is at this host: nothing, a rule for connecting, a rule for accepting, or both.

use image::{AddressSet, Service, SubjectTest};
use verdict::{Direction, Verdict, layout};

use super::{Note, Origin, SetKey, tier};
use crate::{
    facts::{Facts, Here},
    inventory::Inventory,
    policy::{Policy, PolicyRule},
    resolve::{Eye, Near, NearNames, Part, ServiceNames, Who, is_any, is_any_process, who},
    syntax::{self, Effect, End, Existing, Failsafe, Inbound, Mode, Selector, Statement},
};

/// A rule at this host.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) origin: Origin,
    pub(crate) tier: u8,
    pub(crate) verdict: Verdict,
    pub(crate) mode: image::Mode,
    pub(crate) services: Vec<Service>,
    pub(crate) halves: Vec<Half>,
    /// As the image tells moments.
    pub(crate) until_ns: Option<u64>,
    pub(crate) notes: Vec<Note>,
}

/// One end of a rule at this host.
#[derive(Clone, Debug)]
pub(crate) struct Half {
    pub(crate) direction: Direction,
    /// The peers, a selector that is worked out once for all rules that have it; `None` is any.
    pub(crate) remote: Option<SetKey>,
    pub(crate) local: Option<AddressSet>,
    pub(crate) subject: SubjectTest,
    pub(crate) flags: u32,
}

/// The names of one policy as this host sees them.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) near: NearNames,
    pub(crate) services: ServiceNames,
}

impl Scene {
    pub(crate) fn new(policy: &Policy, inventory: &Inventory, here: &Here) -> Self {
        Self {
            near: Near::names(policy, Eye::here(inventory, here)),
            services: ServiceNames::new(policy),
        }
    }
}

/// From whom to whom, with the verdict: what rules and failsafe lines have in common.
struct Clause<'a> {
    policy: &'a Policy,
    from: &'a End,
    to: &'a End,
    verdict: Verdict,
    out_flags: u32,
    in_flags: u32,
}

/// Places one rule. `None` if it does not concern this host: it is a draft, it has ended, or neither end is here.
pub(crate) fn place_rule(
    policy: &Policy,
    written: PolicyRule<'_>,
    scene: &Scene,
    facts: &Facts<'_>,
    here: &Here,
) -> Option<Box<Placed>> {
    let PolicyRule { id, mode, rule } = written;
    let ends_at = rule.options.until.map(syntax::Until::ends_at);
    let mode = match mode {
        Mode::Draft => return None,
        Mode::Audit => image::Mode::Audit,
        Mode::Enforce => image::Mode::Enforce,
    };
    if ends_at.is_some_and(|end| end <= facts.now) {
        return None;
    }
    let mut both = 0;
    if rule.options.log {
        both |= layout::RULE_LOG;
    }
    if rule.options.existing == Some(Existing::Revoke) {
        both |= layout::RULE_REVOKE;
    }
    let verdict = match rule.effect {
        Effect::Allow => Verdict::Allow,
        Effect::Deny | Effect::Refuse => Verdict::Deny,
    };
    let refuse = if rule.effect == Effect::Refuse { layout::RULE_REFUSE } else { 0 };
    let clause = Clause {
        policy,
        from: &rule.from,
        to: &rule.to,
        verdict,
        out_flags: both | refuse,
        in_flags: both | drop_flag(policy, verdict),
    };
    let mut unknown = Vec::new();
    let halves = clause.halves(scene, facts, here, &mut unknown);
    if halves.is_empty() && unknown.is_empty() {
        return None;
    }
    Some(Box::new(Placed {
        origin: Origin::of_rule(id, rule, policy.source),
        tier: tier::of(policy.tier),
        verdict,
        mode,
        services: scene.services.of(&rule.services),
        halves,
        until_ns: ends_at.map(|end| facts.told(end)),
        notes: notes(id, unknown),
    }))
}

/// Places the failsafe lines of a policy. They hold in audit, too: what is only counted elsewhere must not lock anybody
/// out meanwhile. Those of a draft do not.
pub(crate) fn place_failsafe(
    policy: &Policy,
    scene: &Scene,
    facts: &Facts<'_>,
    here: &Here,
) -> Vec<Placed> {
    if policy.mode == Mode::Draft {
        return Vec::new();
    }
    let lines = policy.document.statements().filter_map(|(line, said)| match said {
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
    let placed = lines.enumerate().filter_map(|(at, (line, said, flows))| {
        let clause = Clause {
            policy,
            from: &flows.from,
            to: &flows.to,
            verdict: Verdict::Allow,
            out_flags: 0,
            in_flags: 0,
        };
        let id = failsafe_id(policy, at);
        let mut unknown = Vec::new();
        let halves = clause.halves(scene, facts, here, &mut unknown);
        (!halves.is_empty() || !unknown.is_empty()).then(|| Placed {
            notes: notes(&id, unknown),
            origin: Origin::of_statement(id, said, policy.source, line.span),
            tier: tier::FAILSAFE,
            verdict: Verdict::Allow,
            mode: image::Mode::Enforce,
            services: scene.services.of(&flows.services),
            halves,
            until_ns: None,
        })
    });
    placed.collect()
}

/// `failsafe:0.1`: the second failsafe line of the first document. A colon is in no rule's id.
pub(crate) fn failsafe_id(policy: &Policy, at: usize) -> String {
    format!("failsafe:{}.{at}", policy.source)
}

/// How a denied peer of this policy is answered.
pub(super) fn drop_flag(policy: &Policy, verdict: Verdict) -> u32 {
    match (policy.inbound, verdict) {
        (Inbound::Drop, Verdict::Deny) => layout::RULE_DROP,
        (Inbound::Reject, _) | (Inbound::Drop, Verdict::Allow) => 0,
    }
}

fn notes(rule: &str, unknown: Vec<(&'static str, String)>) -> Vec<Note> {
    let note = |(kind, name)| Note::UnknownProcess { rule: rule.to_owned(), kind, name };
    unknown.into_iter().map(note).collect()
}

type Unknown = Vec<(&'static str, String)>;

impl Clause<'_> {
    fn halves(
        &self,
        scene: &Scene,
        facts: &Facts<'_>,
        here: &Here,
        unknown: &mut Unknown,
    ) -> Vec<Half> {
        let eye = Eye::here(facts.inventory, here);
        let near = |end: &End| Near::of(&end.selector, &scene.near, eye);
        let out = self.out(&near(self.from), facts, here, unknown);
        let accepting = self.accepting(near(self.to), facts, here, unknown);
        out.into_iter().chain(accepting).collect()
    }

    /// The end that connects. Its address is not chosen yet when it is judged, so what counts is which addresses the
    /// host has; from a loopback address only loopback is reached, and loopback from no other.
    fn out(
        &self,
        near: &Near,
        facts: &Facts<'_>,
        here: &Here,
        unknown: &mut Unknown,
    ) -> Option<Half> {
        let part = match (near.means_outside(here), near.means_loopback()) {
            (true, true) => Part::Whole,
            (true, false) => Part::Outside,
            (false, true) => Part::Loopback,
            (false, false) => return None,
        };
        if self.verdict == Verdict::Deny && !is_any_process(self.to.process.as_ref()) {
            return None;
        }
        let Who::These(subject) = who(self.from.process.as_ref(), facts.identities, unknown) else {
            return None;
        };
        let remote = self.peers(&self.to.selector, part);
        Some(Half {
            direction: Direction::Out,
            remote,
            local: None,
            subject,
            flags: self.out_flags,
        })
    }

    /// The end that accepts.
    fn accepting(
        &self,
        near: Near,
        facts: &Facts<'_>,
        here: &Here,
        unknown: &mut Unknown,
    ) -> Option<Half> {
        if !near.may_be_local(here) {
            return None;
        }
        if self.verdict == Verdict::Deny && !is_any_process(self.from.process.as_ref()) {
            return None;
        }
        let Who::These(subject) = who(self.to.process.as_ref(), facts.identities, unknown) else {
            return None;
        };
        let local = match near {
            Near::At(set) => Some(set),
            Near::Always | Near::Never => None,
        };
        let remote = self.peers(&self.from.selector, Part::Whole);
        Some(Half { direction: Direction::In, remote, local, subject, flags: self.in_flags })
    }

    fn peers(&self, selector: &Selector, part: Part) -> Option<SetKey> {
        if part == Part::Whole && is_any(selector, self.policy) {
            return None;
        }
        Some(SetKey::new(self.policy, selector, part))
    }
}
