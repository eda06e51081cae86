//! Who does something, as a rule can name it: the unit or the container where there is one that lasts, else the executable,
//! else the user.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use policy::Identities;
use verdict::limits::ANCESTORS_MAX;

use crate::{
    connections::place,
    flows::{Named, Process},
};

/// Digits of the id of a container, and how many of them engines show.
const ID_DIGITS: usize = 64;
const ID_DIGITS_SHOWN: usize = 12;

/// One of those that a rule can name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Actor {
    /// Nobody knows.
    Anyone,
    /// A service of systemd, or a cgroup by its path.
    Unit(String),
    /// A container.
    Container(String),
    /// An executable.
    Exe(String),
    /// A user.
    User(u32),
}

impl Actor {
    /// As the records that `named` knows tell units apart.
    pub(super) fn of(process: &Process, named: &Named<'_>) -> Self {
        if let Some(lasting) = lasting(process, named) {
            return lasting;
        }
        if let Some(exe) = process.exe.as_deref().filter(|exe| exe.starts_with('/') && sayable(exe))
        {
            return Self::Exe(exe.to_owned());
        }
        process.user.map_or(Self::Anyone, Self::User)
    }
}

/// Whoever comes back, or lasts as long as its cgroup: the service, or the container, whichever is further in. What is below
/// is theirs, as far down as rules about them hold; sessions do not last.
fn lasting(process: &Process, named: &Named<'_>) -> Option<Actor> {
    let cgroup = process.cgroup.as_deref().filter(|path| sayable(path))?;
    let container = place::container_around(cgroup);
    let service = service_around(cgroup);
    let around = |own: &str| own == cgroup || own.matches('/').count() <= ANCESTORS_MAX;
    match (container, service) {
        (Some((container, own)), service) if service.is_none_or(|unit| unit.len() < own.len()) => {
            if !around(own) {
                return Some(Actor::Unit(cgroup.to_owned()));
            }
            let name = short(&container.id);
            let home = named.unit(own);
            // The id alone, where the language takes it and it means this one and no other.
            let is_known = home.is_some() && named.container(name) == home && is_word(name);
            Some(match is_known {
                true => Actor::Container(name.to_owned()),
                false => Actor::Unit(own.to_owned()),
            })
        }
        (_, Some(own)) if !around(own) => Some(Actor::Unit(cgroup.to_owned())),
        (_, Some(own)) => {
            let unit = own.rsplit('/').next().unwrap_or(own);
            // The name alone, where it means this unit and no other.
            let is_known = named.unit(unit).is_some() && named.unit(unit) == named.unit(own);
            Some(Actor::Unit(if is_known { unit } else { own }.to_owned()))
        }
        (_, None) => None,
    }
}

/// The path of the service that owns a cgroup.
fn service_around(cgroup: &str) -> Option<&str> {
    let unit = place::unit(cgroup)?;
    if !unit.ends_with(".service") || unit.starts_with("user@") {
        return None;
    }
    let below = cgroup.split('/').rev().take_while(|part| *part != unit).map(|part| part.len() + 1);
    cgroup.get(..cgroup.len() - below.sum::<usize>())
}

/// As many digits of an id as engines show.
fn short(id: &str) -> &str {
    let is_id = id.len() == ID_DIGITS && is_hexadecimal(id);
    id.get(..ID_DIGITS_SHOWN).filter(|_| is_id).unwrap_or(id)
}

/// Whether a rule can say it of a container: the language takes short words of hexadecimal digits for mistyped ids.
fn is_word(name: &str) -> bool {
    let is_id = (ID_DIGITS_SHOWN..=ID_DIGITS).contains(&name.len())
        && !name.bytes().any(|byte| byte.is_ascii_uppercase());
    is_id || !is_hexadecimal(name)
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a value of the language can say it.
fn sayable(text: &str) -> bool {
    !text.chars().any(char::is_control) && text.is_ascii()
}

/// Those who do the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Actors(BTreeMap<Actor, (BTreeSet<String>, u64)>);

/// Those of them that one rule can name.
pub(super) struct Part {
    /// The qualifier with its brackets; empty for anyone.
    pub(super) process: Qualifier,
    /// What their threads are called.
    pub(super) names: BTreeSet<String>,
    /// Their flows.
    pub(super) count: u64,
}

/// `[unit in (a, b)]`, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Qualifier(Option<(&'static str, Vec<String>)>);

impl Actors {
    pub(super) fn add(&mut self, actor: Actor, names: BTreeSet<String>, count: u64) {
        let (own, sum) = self.0.entry(actor).or_default();
        own.extend(names);
        *sum = sum.saturating_add(count);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.values().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// One for all where anyone may, else one for each kind of actor.
    pub(super) fn parts(&self) -> Vec<Part> {
        let anyone = self.0.contains_key(&Actor::Anyone);
        let mut parts: BTreeMap<u8, Part> = BTreeMap::new();
        for (actor, (names, count)) in &self.0 {
            let (rank, key, value) = match actor {
                _ if anyone => (0, "", String::new()),
                Actor::Anyone => (0, "", String::new()),
                Actor::Unit(path) => (1, "unit", quoted(path)),
                Actor::Container(id) => (2, "container", quoted(id)),
                Actor::Exe(path) => (3, "exe", quoted(path)),
                Actor::User(number) => (4, "user", number.to_string()),
            };
            let part = parts.entry(rank).or_insert_with(|| Part {
                process: Qualifier::default(),
                names: BTreeSet::new(),
                count: 0,
            });
            if rank > 0 {
                part.process.0.get_or_insert((key, Vec::new())).1.push(value);
            }
            part.names.extend(names.iter().cloned());
            part.count = part.count.saturating_add(*count);
        }
        parts.into_values().collect()
    }
}

impl fmt::Display for Qualifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => Ok(()),
            Some((key, values)) => match values.as_slice() {
                [only] => write!(formatter, "[{key}={only}]"),
                several => write!(formatter, "[{key} in ({})]", several.join(", ")),
            },
        }
    }
}

/// As a value of the language; `policy::format` takes quotes away that are not needed.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
