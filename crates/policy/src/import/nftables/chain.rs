//! The chains of a hook as rules whose order does not matter.
//!
//! A chain is read from its first rule on: what is denied is taken without everything that was accepted before, because
//! deny wins here; what is accepted needs no such care. A chain that drops what no rule matches becomes the default of
//! its direction, if it is the first that does; another one then becomes rules that deny.

use image::AddressSet;

use super::{
    super::{
        Gaps,
        area::{Area, PIECES_MAX, Services, without},
        spell::{addresses_of, all_of, end, except, me, rule, selector, word},
    },
    Statements,
    rule::{Act, Loopback, Step},
};
use crate::{
    parse::RESERVED,
    syntax::{
        Answer, Default, Effect, Expression, Inbound, Meaning, Name, Process, Selector, Statement,
        Way, is_name, is_protocol,
    },
};

/// Where a chain judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hook {
    Input,
    Output,
}

/// A base chain.
#[derive(Debug)]
pub(super) struct Chain {
    place: String,
    family: AddressSet,
    steps: Vec<Step>,
    /// What happens to what no step matches.
    last: Act,
    /// Whether packets of connections that go on are accepted, and from which step on.
    established_at: Option<usize>,
    /// From which step on loopback is accepted.
    loopback_at: Option<usize>,
}

impl Chain {
    pub(super) fn new(
        place: String,
        family: AddressSet,
        drops: bool,
        steps: Vec<Step>,
        gaps: &mut Gaps,
    ) -> Self {
        let whole = |step: &Step| {
            step.area.far == family
                && step.area.near == family
                && step.area.services == Services::any()
                && step.process.is_none()
        };
        let every = |step: &Step| whole(step) && step.loopback == Loopback::Either;
        let mut last = if drops { Act::Drop } else { Act::Accept };
        let mut chain = Self {
            place,
            family: family.clone(),
            steps: Vec::new(),
            last,
            established_at: None,
            loopback_at: None,
        };
        for step in steps {
            let at = chain.steps.len();
            let accepts = step.act == Act::Accept;
            if !step.states.new {
                // `ct state related accept` alone opens what belongs to a connection: nothing that is judged here.
                if !(accepts && every(&step)) {
                    chain.steps.push(step);
                } else if step.states.established {
                    chain.established_at.get_or_insert(at);
                }
            } else if accepts && whole(&step) && step.loopback == Loopback::Only {
                chain.loopback_at.get_or_insert(at);
            } else if every(&step) {
                if accepts && step.states.established {
                    chain.established_at.get_or_insert(at);
                }
                if step.log {
                    gaps.push(
                        &step.place,
                        "log of what no rule before matches",
                        "a default is not logged here",
                    );
                }
                // Nothing comes further than this.
                last = step.act;
                break;
            } else {
                chain.steps.push(step);
            }
        }
        chain.last = last;
        chain
    }
}

/// Writes the chains of one hook.
pub(super) fn chains_of(hook: Hook, chains: Vec<Chain>, to: &mut Statements, gaps: &mut Gaps) {
    let way = match hook {
        Hook::Input => Way::In,
        Hook::Output => Way::Out,
    };
    let mut writing = Writing { hook, to, gaps, dropped: false, rejected: false };
    // The addresses for which some chain has become the default.
    let mut defaulted = AddressSet::new();
    let mut answer = None;
    for mut chain in chains {
        let becomes_default =
            chain.last != Act::Accept && defaulted.intersection(&chain.family).is_empty();
        if becomes_default {
            defaulted = defaulted.union(&chain.family);
            answer.get_or_insert(chain.last);
        } else if chain.last != Act::Accept {
            let whole = chain.whole();
            chain.steps.push(whole);
            chain.last = Act::Accept;
        }
        writing.chain(&chain, becomes_default);
    }
    let Some(answer) = answer else {
        writing.inbound(None);
        return;
    };
    let others = defaulted.complement();
    if !others.is_empty() {
        // A table of one family says nothing about the other.
        let area = Area { near: others.clone(), far: others, services: Services::any() };
        writing.emit(Effect::Allow, &area, &Emission::default());
    }
    writing.inbound(Some(answer));
    let default = Default { answer: Answer::Deny, way };
    writing.to.defaults.push(Statement::Default(default));
}

impl Chain {
    /// Everything that no step matched, denied.
    fn whole(&self) -> Step {
        Step {
            place: format!("{} policy", self.place),
            area: Area {
                near: self.family.clone(),
                far: self.family.clone(),
                services: Services::any(),
            },
            loopback: Loopback::Either,
            states: super::rule::States { new: true, established: true },
            process: None,
            act: self.last,
            jump: None,
            log: false,
            reason: None,
            far_name: None,
        }
    }
}

/// What a rule carries besides what it is about.
#[derive(Clone, Debug, std::default::Default)]
struct Emission {
    process: Option<Process>,
    log: bool,
    reason: Option<String>,
    name: Option<String>,
    /// Not about this host's connections to itself.
    except_me: bool,
}

/// The chains of a hook while they are written.
struct Writing<'a> {
    hook: Hook,
    to: &'a mut Statements,
    gaps: &'a mut Gaps,
    dropped: bool,
    rejected: bool,
}

impl Writing<'_> {
    fn chain(&mut self, chain: &Chain, is_default: bool) {
        self.loopback(chain, is_default);
        self.established(chain, is_default);
        for (at, step) in chain.steps.iter().enumerate() {
            match (step.act, step.loopback) {
                _ if !step.states.new => self.gaps.push(
                    &step.place,
                    "a rule about packets of connections that go on",
                    "connections are judged when they are made; left out",
                ),
                (_, Loopback::Only) => self.gaps.push(
                    &step.place,
                    "a rule about some of what goes over loopback",
                    "what a host says to itself is not told apart by interface; left out",
                ),
                (Act::Accept, Loopback::Either | Loopback::Not) => {
                    if is_default {
                        self.emit(
                            Effect::Allow,
                            &step.area,
                            &emission(step, step.loopback == Loopback::Not),
                        );
                    } else if step.log {
                        self.gaps.push(
                            &step.place,
                            "log of what is accepted",
                            "accepted, and not logged",
                        );
                    }
                }
                (Act::Drop | Act::Reject, _) => self.deny(chain, at, step, is_default),
            }
        }
    }

    /// What a host says to itself.
    fn loopback(&mut self, chain: &Chain, is_default: bool) {
        if chain.last == Act::Accept {
            return;
        }
        if chain.loopback_at.is_none() {
            self.gaps.push(
                &chain.place,
                "no rule accepts loopback",
                "loopback is allowed here unless a rule denies it",
            );
        } else if is_default {
            let both = end(me(), None);
            let own = rule(Effect::Allow, both.clone(), both, &Services::any());
            self.to.rules.push(own);
        }
    }

    /// Packets of connections that go on are not looked at here.
    fn established(&mut self, chain: &Chain, is_default: bool) {
        if is_default && chain.established_at.is_none() {
            self.gaps.push(
                &chain.place,
                "no rule accepts packets of established connections",
                "connections that were allowed go on here",
            );
        }
    }

    fn deny(&mut self, chain: &Chain, at: usize, step: &Step, is_default: bool) {
        match step.act {
            Act::Drop => self.dropped = true,
            Act::Reject => self.rejected = true,
            Act::Accept => {}
        }
        let effect = match (self.hook, step.act) {
            (Hook::Output, Act::Reject) => Effect::Refuse,
            (Hook::Input | Hook::Output, _) => Effect::Deny,
        };
        let except_me =
            step.loopback == Loopback::Not || chain.loopback_at.is_some_and(|lo| lo <= at);
        let emission = emission(step, except_me);
        for piece in self.pieces(chain, at, step, is_default) {
            self.emit(effect, &piece, &emission);
        }
        self.answers(chain, at, step, &emission);
    }

    /// What a step denies, without what was accepted before it.
    fn pieces(
        &mut self,
        chain: &Chain,
        at: usize,
        step: &Step,
        is_default: bool,
    ) -> Vec<Area<AddressSet>> {
        let accepted = |step: &&Step| {
            step.act == Act::Accept && step.states.new && step.loopback != Loopback::Only
        };
        let (before, after) = chain.steps.split_at(at);
        let overlapping = |other: &&Step| !other.area.meet(&step.area).is_empty();
        let before: Vec<&Step> = before.iter().filter(accepted).filter(overlapping).collect();
        for other in &before {
            if other.process.is_some() && other.process != step.process {
                self.gaps.push(
                    &step.place,
                    format!("{} accepts some of it for certain users only", other.place),
                    "denied here for those users, too",
                );
            }
        }
        let holes: Vec<&Area<AddressSet>> = before
            .iter()
            .filter(|other| other.process.is_none() || other.process == step.process)
            .map(|other| &other.area)
            .collect();
        if holes.is_empty() {
            return vec![step.area.clone()];
        }
        // Where the default denies the rest anyway, only what a later rule would allow has to be denied.
        let wanted = if is_default {
            let later = after.iter().filter(accepted).filter(overlapping);
            later.map(|other| other.area.meet(&step.area)).collect()
        } else {
            vec![step.area.clone()]
        };
        let mut pieces = Vec::new();
        for area in wanted {
            match without(area, holes.iter().copied()) {
                Some(found) => pieces.extend(found),
                None => self.gaps.push(
                    &step.place,
                    format!("more than {PIECES_MAX} pieces without what was accepted before"),
                    "the rule is left out: what it drops is not denied by it here",
                ),
            }
        }
        pieces
    }

    /// A rule that drops every packet from a peer drops the answers, too, if nothing accepted them before: then this
    /// host cannot connect to the peer, either.
    fn answers(&mut self, chain: &Chain, at: usize, step: &Step, emission: &Emission) {
        let answered = chain.established_at.is_some_and(|accepted| accepted <= at);
        if answered || !step.states.established || step.process.is_some() {
            return;
        }
        let whole = step.area.services.whole_protocols();
        if !step
            .area
            .services
            .minus(&whole)
            .ranges()
            .iter()
            .all(|(_, ports)| ports.last < EPHEMERAL)
        {
            self.gaps.push(
                &step.place,
                "a rule about ports that answers go to",
                "answers to connections that were allowed are not dropped here",
            );
        }
        if !whole.is_empty() {
            let area = Area { services: whole, ..step.area.clone() };
            let other = match self.hook {
                Hook::Input => Hook::Output,
                Hook::Output => Hook::Input,
            };
            let mut mirrored = Writing {
                hook: other,
                to: &mut *self.to,
                gaps: &mut *self.gaps,
                dropped: false,
                rejected: false,
            };
            mirrored.emit(Effect::Deny, &area, emission);
        }
    }

    fn emit(&mut self, effect: Effect, area: &Area<AddressSet>, emission: &Emission) {
        let far = self.far(area, emission);
        let far = if emission.except_me { except(far, me()) } else { far };
        let near_is_whole =
            [AddressSet::all(), AddressSet::all_v4(), AddressSet::all_v4().complement()]
                .contains(&area.near);
        let near = if near_is_whole { me() } else { all_of(vec![me(), addresses_of(&area.near)]) };
        let near = end(near, emission.process.clone());
        let far = end(far, None);
        let (from, to) = match self.hook {
            Hook::Input => (far, near),
            Hook::Output => (near, far),
        };
        let mut written = rule(effect, from, to, &area.services);
        if written.services.is_empty() {
            // Port 0 alone: nothing connects to it.
            return;
        }
        written.options.log = emission.log;
        written.options.reason = emission.reason.clone().map(word);
        self.to.rules.push(written);
    }

    /// The peers: by the name of their set if they are one.
    fn far(&mut self, area: &Area<AddressSet>, emission: &Emission) -> Selector {
        // What has an address of this family here has a peer of this family.
        let near_v4 = area.near.difference(&AddressSet::all_v4()).is_empty();
        let narrow = area.near != AddressSet::all_v4() && near_v4;
        if narrow && area.far == AddressSet::all_v4() {
            return selector(Expression::Any);
        }
        let written = addresses_of(&area.far);
        let usable = |name: &String| {
            is_name(name) && !RESERVED.contains(&name.as_str()) && !is_protocol(name)
        };
        let Some(name) = emission.name.clone().filter(usable) else { return written };
        let definition =
            Name { name: word(name.as_str()), means: Meaning::Selector(written.clone()) };
        let same_name = self.to.names.iter().find(|known| known.name.text == name);
        match same_name {
            Some(known) if *known != definition => return written,
            Some(_) => {}
            None => self.to.names.push(definition),
        }
        selector(Expression::Named(name))
    }

    /// How denied peers are answered: one way for all.
    fn inbound(&mut self, default: Option<Act>) {
        if self.hook == Hook::Output {
            return;
        }
        match default {
            Some(Act::Drop) => self.dropped = true,
            Some(Act::Reject) => self.rejected = true,
            Some(Act::Accept) | None => {}
        }
        let inbound = match (default, self.dropped, self.rejected) {
            (Some(Act::Reject), ..) | (_, false, true) => Inbound::Reject,
            (_, true, _) => Inbound::Drop,
            (_, false, false) => return,
        };
        if self.dropped && self.rejected {
            let (one, other) = match inbound {
                Inbound::Reject => ("reject", "drop"),
                Inbound::Drop => ("drop", "reject"),
            };
            self.gaps.push(
                "hook input",
                format!("some rules {one} and some {other}"),
                format!("all denied peers are answered by {one} here"),
            );
        }
        self.to.inbound(inbound);
    }
}

/// Ports from which Linux chooses those of clients (net.ipv4.ip_local_port_range begins here by default).
const EPHEMERAL: u16 = 32_768;

fn emission(step: &Step, except_me: bool) -> Emission {
    Emission {
        process: step.process.clone(),
        log: step.log,
        reason: step.reason.clone(),
        name: step.far_name.clone(),
        except_me,
    }
}
