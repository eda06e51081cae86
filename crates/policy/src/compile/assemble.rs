//! Placed rules, in the order of the tiers, to a rule set and its image.

use std::collections::{BTreeMap, BTreeSet};

use image::{AddressSet, Image, Mode, Rule, RuleSet, Service, SetIndex};
use verdict::{Direction, Protocol, Verdict};

use super::{
    CompileError, Compiled, Note, Origin, Placed, PlacedPolicy, SetKey, Sets, WAYS, place, tier,
};
use crate::{
    facts::{Facts, Here, Identities},
    policy::Policy,
    syntax::{self, Answer, Statement, Way},
};

/// What concerns a host, not yet an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gathered {
    pub(crate) rules: RuleSet,
    pub(crate) origins: Vec<Origin>,
    pub(crate) notes: Vec<Note>,
    pub(crate) now_ns: u64,
}

impl Gathered {
    /// With its image.
    pub(crate) fn compile(self) -> Result<Compiled, CompileError> {
        let image = image::compile(&self.rules)?;
        Ok(self.with(image))
    }

    /// With an image that was made from the same rules.
    pub(crate) fn with(self, image: Image) -> Compiled {
        let Self { rules, origins, notes, now_ns } = self;
        let answers_needed = rules.rules.iter().any(may_deny_datagrams);
        Compiled { rules, image, origins, notes, now_ns, answers_needed }
    }
}

/// Puts together what concerns the host. `sets` knows every key of `placed`, which has one element for each policy.
pub(crate) fn gather(
    policies: &[Policy],
    placed: &[PlacedPolicy],
    sets: &Sets,
    facts: &Facts<'_>,
    here: &Here,
) -> Gathered {
    let mut assembly = Assembly {
        known: sets,
        rules: RuleSet::default(),
        origins: Vec::new(),
        indices: BTreeMap::new(),
        locals: BTreeMap::new(),
    };
    assembly.rules.version = facts.version;
    let mut notes = notes(facts, here);
    let failsafe = placed.iter().flat_map(|placed| &placed.failsafe);
    failsafe.clone().for_each(|placed| assembly.add(placed));
    if failsafe.clone().all(|placed| placed.halves.is_empty()) {
        notes.push(Note::NoFailsafe);
    }
    let mut order: Vec<(&Policy, &PlacedPolicy)> = policies.iter().zip(placed).collect();
    order.sort_by_key(|(policy, _)| tier::of(policy.tier));
    for placed in order.iter().flat_map(|(_, placed)| placed.rules.iter().flatten()) {
        assembly.add(placed);
    }
    assembly.loopback();
    for way in WAYS {
        if let Some(note) = assembly.default(policies, way) {
            notes.push(note);
        }
    }
    assembly.rules.cgroups = above(&assembly.rules.rules, facts.identities);
    notes.extend(
        placed.iter().flat_map(PlacedPolicy::all).flat_map(|placed| placed.notes.iter().cloned()),
    );
    notes.sort_unstable();
    notes.dedup();
    let Assembly { rules, origins, .. } = assembly;
    Gathered { rules, origins, notes, now_ns: facts.told(facts.now) }
}

fn notes(facts: &Facts<'_>, here: &Here) -> Vec<Note> {
    let mut notes = Vec::new();
    if here.index.is_none() {
        notes.push(Note::UnknownHost { host: facts.host.to_owned() });
    }
    if here.own.is_empty() {
        notes.push(Note::NoAddresses);
    }
    for &address in &here.disputed {
        let owner =
            facts.inventory.find_address(address).and_then(|index| facts.inventory.host(index));
        notes.extend(owner.map(|owner| Note::disputed(address, &owner.id)));
    }
    notes
}

fn may_deny_datagrams(rule: &Rule) -> bool {
    let datagrams = |service: &Service| service.protocol.is_none_or(|own| own == Protocol::UDP);
    rule.direction == Direction::In
        && rule.verdict == Verdict::Deny
        && rule.services.iter().any(datagrams)
}

/// A rule set being put together. Sets are numbered as they are first named.
struct Assembly<'a> {
    known: &'a Sets,
    rules: RuleSet,
    origins: Vec<Origin>,
    indices: BTreeMap<&'a SetKey, SetIndex>,
    locals: BTreeMap<AddressSet, SetIndex>,
}

impl<'a> Assembly<'a> {
    fn add(&mut self, placed: &'a Placed) {
        for half in &placed.halves {
            let remote = half.remote.as_ref().map(|key| self.remote(key));
            let local = half.local.as_ref().map(|set| self.local(set));
            self.push(
                Rule {
                    id: placed.origin.id.clone(),
                    tier: placed.tier,
                    verdict: placed.verdict,
                    mode: placed.mode,
                    direction: half.direction,
                    remote,
                    local,
                    services: placed.services.clone(),
                    subject: half.subject.clone(),
                    until_ns: placed.until_ns,
                    flags: half.flags,
                },
                placed.origin.clone(),
            );
        }
    }

    fn push(&mut self, rule: Rule, origin: Origin) {
        self.rules.rules.push(rule);
        self.origins.push(origin);
    }

    fn remote(&mut self, key: &'a SetKey) -> SetIndex {
        if let Some(&index) = self.indices.get(key) {
            return index;
        }
        let set = self.known.get(key).expect("every placed rule's selector was worked out");
        let index = self.set(set.clone());
        self.indices.insert(key, index);
        index
    }

    fn local(&mut self, set: &AddressSet) -> SetIndex {
        if let Some(&index) = self.locals.get(set) {
            return index;
        }
        let index = self.set(set.clone());
        self.locals.insert(set.clone(), index);
        index
    }

    fn set(&mut self, set: AddressSet) -> SetIndex {
        self.rules.sets.push(set);
        SetIndex::try_from(self.rules.sets.len() - 1)
            .expect("fewer sets than rules' ends, which fit in 32 bits")
    }

    /// Loopback to loopback is allowed where no rule of any tier says otherwise. Who has a loopback address at one end
    /// has one at the other, so the peer's is enough to look at.
    fn loopback(&mut self) {
        let remote = self.local(AddressSet::loopback());
        for direction in [Direction::Out, Direction::In] {
            let rule = Rule {
                id: "loopback".to_owned(),
                remote: Some(remote),
                ..Rule::default(direction, Verdict::Allow, tier::LOOPBACK)
            };
            self.push(
                rule,
                Origin::built_in("loopback", "loopback to loopback is allowed (built in)"),
            );
        }
    }

    /// The default of one direction. Where only a policy in audit has one, it is counted and everything is allowed.
    fn default(&mut self, policies: &'a [Policy], way: Way) -> Option<Note> {
        let direction = match way {
            Way::In => Direction::In,
            Way::Out => Direction::Out,
        };
        let stated = policies.iter().filter(|policy| policy.mode != syntax::Mode::Draft).find_map(|policy| {
            let is_it = |said: &Statement| matches!(said, Statement::Default(default) if default.way == way);
            let (line, said) = policy.document.statements().find(|(_, said)| is_it(said))?;
            Some((policy, line, said))
        });
        let everything = |verdict: Verdict| Rule::default(direction, verdict, tier::DEFAULT);
        let Some((policy, line, said)) = stated else {
            let rule = everything(Verdict::Allow);
            let origin = Origin::built_in(&rule.id, "no default is stated: allowed (built in)");
            self.push(rule, origin);
            return Some(Note::NoDefault { way });
        };
        let verdict = match policy.default_answer(way) {
            Some(Answer::Deny) => Verdict::Deny,
            Some(Answer::Allow) | None => Verdict::Allow,
        };
        let mut rule = everything(verdict);
        if direction == Direction::In {
            rule.flags |= place::drop_flag(policy, verdict);
        }
        let origin = Origin::of_statement(rule.id.clone(), said, policy.source, line.span);
        if policy.mode == syntax::Mode::Enforce {
            self.push(rule, origin);
            return None;
        }
        rule.mode = Mode::Audit;
        self.push(rule, origin);
        let rule = everything(Verdict::Allow);
        let origin =
            Origin::built_in(&rule.id, "the stated default is in audit: allowed (built in)");
        self.push(rule, origin);
        Some(Note::NoDefault { way })
    }
}

/// Which of the cgroups that rules name are above which.
fn above(rules: &[Rule], identities: &dyn Identities) -> BTreeMap<u64, BTreeSet<u64>> {
    let named: BTreeSet<u64> = rules
        .iter()
        .flat_map(|rule| rule.subject.units.iter().chain(&rule.subject.containers))
        .copied()
        .collect();
    let known = named.iter().map(|&cgroup| {
        let above = identities.above(cgroup).into_iter();
        (cgroup, above.filter(|of| *of != cgroup && named.contains(of)).collect::<BTreeSet<u64>>())
    });
    known.filter(|(_, above)| !above.is_empty()).collect()
}
