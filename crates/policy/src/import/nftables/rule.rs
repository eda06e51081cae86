//! One rule of a chain as steps: what it is about, and what it does.

use image::AddressSet;
use serde_json::Value;
use verdict::Protocol;

use super::{
    super::{
        Gaps,
        area::{Area, Region, Services},
        fields::{Fields, short},
        spell::word,
    },
    chain::Hook,
    value::{Sets, addresses, ports, protocols, words},
};
use crate::syntax::Process;

/// What a rule does with what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Accept,
    Drop,
    Reject,
}

/// Which interface a rule is about: only loopback can be told apart here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Loopback {
    #[default]
    Either,
    Only,
    Not,
}

/// Which packets of a connection a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct States {
    /// The first one, which is where connections are judged.
    pub(super) new: bool,
    /// Those that follow.
    pub(super) established: bool,
}

/// A verdict and what it is about.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) place: String,
    pub(super) area: Area<AddressSet>,
    pub(super) loopback: Loopback,
    pub(super) states: States,
    pub(super) process: Option<Process>,
    pub(super) act: Act,
    /// The chain to go on in; then `act` means nothing.
    pub(super) jump: Option<String>,
    pub(super) log: bool,
    pub(super) reason: Option<String>,
    /// The named set that the peers are, if they are nothing else.
    pub(super) far_name: Option<String>,
}

/// What is different where a rule is left out.
fn left_out(act: Option<Act>) -> &'static str {
    match act {
        Some(Act::Accept) => "the rule is left out: what it accepts is not allowed by it here",
        Some(Act::Drop | Act::Reject) => {
            "the rule is left out: what it drops is not denied by it here"
        }
        None => "the rule is left out",
    }
}

/// The steps of a rule: none if it cannot be expressed, several if it maps values to verdicts.
pub(super) fn steps<'a>(
    mut fields: Fields<'a>,
    hook: Hook,
    family: &AddressSet,
    sets: Sets<'a, '_>,
    gaps: &mut Gaps,
) -> Vec<Step> {
    fields.ignore(&["family", "table", "chain", "handle", "index"]);
    let reason = fields.text("comment").map(str::to_owned);
    let expressions = fields.list("expr", gaps).unwrap_or_default();
    fields.finish("not known; the rule is read without it", gaps);
    let place = fields.place().to_owned();
    let start = Step {
        place: place.clone(),
        area: Area { near: family.clone(), far: family.clone(), services: Services::any() },
        loopback: Loopback::Either,
        states: States { new: true, established: true },
        process: None,
        act: Act::Accept,
        jump: None,
        log: false,
        reason,
        far_name: None,
    };
    let ending = expressions.iter().find_map(act_of);
    let reading = Reading { hook, sets, step: start, done: Vec::new(), gaps: &mut *gaps };
    match reading.all(expressions) {
        Ok(steps) => steps,
        Err(construct) => {
            gaps.push(&place, construct, left_out(ending));
            Vec::new()
        }
    }
}

fn act_of(expression: &Value) -> Option<Act> {
    let object = expression.as_object()?;
    match object.keys().next()?.as_str() {
        "accept" => Some(Act::Accept),
        "drop" => Some(Act::Drop),
        "reject" => Some(Act::Reject),
        _ => None,
    }
}

/// A rule while its expressions are read one after the other.
struct Reading<'a, 's, 'g> {
    hook: Hook,
    sets: Sets<'a, 's>,
    step: Step,
    done: Vec<Step>,
    gaps: &'g mut Gaps,
}

/// The construct that cannot be expressed.
type Reason = String;

impl<'a> Reading<'a, '_, '_> {
    fn all(mut self, expressions: &'a [Value]) -> Result<Vec<Step>, Reason> {
        let mut ended = false;
        for expression in expressions {
            ended |= self.one(expression)?;
        }
        if !ended && self.done.is_empty() {
            return Err("a rule without a verdict".to_owned());
        }
        let place = &self.step.place;
        for step in &self.done {
            if step.area.is_empty() {
                self.gaps.push(
                    place,
                    "a rule whose matches exclude each other",
                    "it matches nothing; left out",
                );
            }
        }
        self.done.retain(|step| !step.area.is_empty());
        Ok(self.done)
    }

    /// Reads one expression; whether the rule ends with it.
    fn one(&mut self, expression: &'a Value) -> Result<bool, Reason> {
        let object = expression.as_object().filter(|object| object.len() == 1);
        let Some((kind, inner)) = object.and_then(|object| object.iter().next()) else {
            return Err(short(expression));
        };
        match kind.as_str() {
            "match" => self.matching(inner).map(|()| false),
            // Every rule counts.
            "counter" => Ok(false),
            "log" => {
                self.step.log = true;
                if inner.as_object().is_some_and(|options| !options.is_empty()) {
                    let construct = format!("log {}", short(inner));
                    self.gaps.push(
                        &self.step.place,
                        construct,
                        "the rule is logged, without these options",
                    );
                }
                Ok(false)
            }
            "accept" => self.end(Act::Accept),
            "drop" => self.end(Act::Drop),
            "reject" => self.end(Act::Reject),
            "jump" => {
                let target = inner.get("target").and_then(Value::as_str);
                self.step.jump = Some(target.ok_or_else(|| short(expression))?.to_owned());
                self.end(Act::Accept)
            }
            "vmap" => self.map(inner),
            _ => Err(short(expression)),
        }
    }

    fn end(&mut self, act: Act) -> Result<bool, Reason> {
        self.step.act = act;
        self.done.push(self.step.clone());
        Ok(true)
    }

    /// A map from values to verdicts is one step for each element.
    fn map(&mut self, inner: &'a Value) -> Result<bool, Reason> {
        let (key, data) = (inner.get("key"), inner.get("data"));
        let list = data.and_then(|data| data.get("set")).and_then(Value::as_array);
        let (Some(key), Some(list)) = (key, list) else {
            return Err(format!("vmap {}", short(inner)));
        };
        let before = self.step.clone();
        for element in list {
            let pair = element.as_array().map(Vec::as_slice);
            let Some([value, verdict]) = pair else {
                return Err(format!("vmap element {}", short(element)));
            };
            self.step = before.clone();
            let matched = self.compare(key, "==", value);
            if let Err(construct) = matched.and_then(|()| self.one(verdict).map(|_| ())) {
                let construct = format!("vmap element {}: {construct}", short(element));
                self.gaps.push(&before.place, construct, left_out(act_of(verdict)));
            }
        }
        self.step = before;
        Ok(true)
    }

    fn matching(&mut self, inner: &'a Value) -> Result<(), Reason> {
        let (left, right) = (inner.get("left"), inner.get("right"));
        let op = inner.get("op").and_then(Value::as_str).unwrap_or("==");
        match (left, right) {
            (Some(left), Some(right)) => self.compare(left, op, right),
            (Some(_), None) | (None, _) => Err(short(inner)),
        }
    }

    fn compare(&mut self, left: &'a Value, op: &str, right: &'a Value) -> Result<(), Reason> {
        let text = |outer: &str, inner: &str| {
            left.get(outer).and_then(|found| found.get(inner)).and_then(Value::as_str)
        };
        let unknown = || format!("match {} {op} {}", short(left), short(right));
        let negated = match op {
            "==" | "in" => false,
            "!=" => true,
            _ => return Err(unknown()),
        };
        let named = |error: String| format!("{}: {error}", unknown());
        if let (Some(protocol), Some(field)) =
            (text("payload", "protocol"), text("payload", "field"))
        {
            return self
                .payload(protocol, field, negated, right)
                .map_err(|why| why.map_or_else(unknown, named));
        }
        if let Some(key) = text("meta", "key") {
            return self.meta(key, negated, right).map_err(|why| why.map_or_else(unknown, named));
        }
        if text("ct", "key") == Some("state") {
            let states = words(right, self.sets).map_err(named)?;
            let holds = |state: &str| states.iter().any(|known| known == state) != negated;
            self.step.states.new &= holds("new");
            self.step.states.established &= holds("established");
            // What belongs to no connection is a matter of packets.
            return if holds("new") || holds("established") || holds("related") {
                Ok(())
            } else {
                Err(format!("ct state {}: packets outside of connections", states.join(",")))
            };
        }
        Err(unknown())
    }

    /// A field of a header. `Err(None)`: not one that can be expressed; `Err(Some)`: the values are not.
    fn payload(
        &mut self,
        protocol: &str,
        field: &str,
        negated: bool,
        right: &'a Value,
    ) -> Result<(), Option<Reason>> {
        let v4 = AddressSet::all_v4();
        let family = match protocol {
            "ip" => v4,
            "ip6" => AddressSet::all().difference(&v4),
            _ => AddressSet::all(),
        };
        let (near, far) = match self.hook {
            Hook::Input => ("daddr", "saddr"),
            Hook::Output => ("saddr", "daddr"),
        };
        match (protocol, field) {
            ("ip" | "ip6", _) if field == far || (field == near && self.hook == Hook::Input) => {
                let set = addresses(right, self.sets).map_err(Some)?;
                let set = if negated { family.difference(&set) } else { family.intersection(&set) };
                let area = &mut self.step.area;
                if field == far {
                    let whole =
                        area.far.difference(&family).is_empty() || area.far == AddressSet::all();
                    let name = right.as_str().and_then(|text| text.strip_prefix('@'));
                    self.step.far_name = name.filter(|_| whole && !negated).map(str::to_owned);
                    area.far = area.far.meet(&set);
                } else {
                    area.near = area.near.meet(&set);
                    area.far = area.far.meet(&family);
                }
                Ok(())
            }
            ("ip", "protocol") | ("ip6", "nexthdr") => {
                self.step.area.far = self.step.area.far.meet(&family);
                self.services(
                    &protocols(right, self.sets).map_err(Some)?,
                    &Services::any(),
                    negated,
                );
                Ok(())
            }
            ("tcp", "dport") => self.ports(&[Protocol::TCP], negated, right),
            ("udp", "dport") => self.ports(&[Protocol::UDP], negated, right),
            ("th", "dport") => {
                let both = [Protocol::TCP, Protocol::UDP];
                let looked_at = both.into_iter().map(Services::protocol);
                let looked_at = looked_at.fold(Services::none(), |all, one| all.union(&one));
                if !self.step.area.services.minus(&looked_at).is_empty() {
                    return Err(Some("ports of tcp and udp only are looked at".to_owned()));
                }
                self.ports(&both, negated, right)
            }
            _ => Err(None),
        }
    }

    fn ports(
        &mut self,
        of: &[Protocol],
        negated: bool,
        right: &'a Value,
    ) -> Result<(), Option<Reason>> {
        let all = of.iter().map(|&protocol| Services::protocol(protocol));
        let all = all.fold(Services::none(), |all, one| all.union(&one));
        let ports = ports(right, of, self.sets).map_err(Some)?;
        self.services(&ports, &all, negated);
        Ok(())
    }

    /// Narrows to `services`, or to what else is in `all`.
    fn services(&mut self, services: &Services, all: &Services, negated: bool) {
        let wanted = if negated { all.minus(services) } else { all.meet(services) };
        self.step.area.services = self.step.area.services.meet(&wanted);
    }

    /// What is known about a packet besides its headers.
    fn meta(&mut self, key: &str, negated: bool, right: &'a Value) -> Result<(), Option<Reason>> {
        let interface = match self.hook {
            Hook::Input => ["iif", "iifname"],
            Hook::Output => ["oif", "oifname"],
        };
        match key {
            "l4proto" => {
                self.services(
                    &protocols(right, self.sets).map_err(Some)?,
                    &Services::any(),
                    negated,
                );
                Ok(())
            }
            "nfproto" | "protocol" => {
                let names = words(right, self.sets).map_err(Some)?;
                let v4 = AddressSet::all_v4();
                let v6 = AddressSet::all().difference(&v4);
                let family = match names.as_slice() {
                    [name] if name == "ipv4" || name == "ip" => v4,
                    [name] if name == "ipv6" || name == "ip6" => v6,
                    _ => return Err(None),
                };
                let family = if negated { family.complement() } else { family };
                self.step.area.far = self.step.area.far.meet(&family);
                Ok(())
            }
            _ if interface.contains(&key) => {
                let names = words(right, self.sets).map_err(Some)?;
                if names != ["lo"] {
                    return Err(Some("interfaces other than lo are not looked at".to_owned()));
                }
                let wanted = if negated { Loopback::Not } else { Loopback::Only };
                if self.step.loopback != Loopback::Either && self.step.loopback != wanted {
                    return Err(None);
                }
                self.step.loopback = wanted;
                Ok(())
            }
            "skuid" | "skgid" if self.hook == Hook::Output && !negated => {
                let names = words(right, self.sets).map_err(Some)?;
                let process = self.step.process.get_or_insert_default();
                let list = if key == "skuid" { &mut process.user } else { &mut process.group };
                if !list.is_empty() || names.is_empty() {
                    return Err(None);
                }
                *list = names.into_iter().map(word).collect();
                Ok(())
            }
            _ => Err(None),
        }
    }
}

impl Step {
    /// This step of a chain that `jump` jumps to, for what `jump` is about. `None` if nothing is left, or with a gap.
    pub(super) fn within(mut self, jump: &Self, gaps: &mut Gaps) -> Option<Self> {
        self.area = self.area.meet(&jump.area);
        self.states.new &= jump.states.new;
        self.states.established &= jump.states.established;
        let clash = match (self.loopback, jump.loopback) {
            (own, Loopback::Either) => {
                self.loopback = own;
                false
            }
            (Loopback::Either, outer) => {
                self.loopback = outer;
                false
            }
            (own, outer) => own != outer,
        };
        match (&self.process, &jump.process) {
            (_, None) => {}
            (None, Some(outer)) => self.process = Some(outer.clone()),
            (Some(own), Some(outer)) if own == outer => {}
            (Some(_), Some(_)) => {
                gaps.push(&self.place, "two matches of users on one way", left_out(Some(self.act)));
                return None;
            }
        }
        if self.far_name != jump.far_name && jump.area.far != AddressSet::all() {
            self.far_name = None;
        }
        (!clash && !self.area.is_empty()).then_some(self)
    }
}
