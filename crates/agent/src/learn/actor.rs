//! Who does something, as a rule can name it: the unit where there is one that stays, else the executable, else the user.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use policy::Identities;
use verdict::limits::ANCESTORS_MAX;

use crate::flows::{Named, Process};

/// One of those that a rule can name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Actor {
    /// Nobody knows.
    Anyone,
    /// A service of systemd, or the cgroup of a container.
    Unit(String),
    /// An executable.
    Exe(String),
    /// A user.
    User(u32),
}

impl Actor {
    /// As the records that `named` knows tell units apart.
    pub(super) fn of(process: &Process, named: &Named<'_>) -> Self {
        if let Some(unit) = lasting_unit(process, named) {
            return Self::Unit(unit);
        }
        if let Some(exe) = process.exe.as_deref().filter(|exe| exe.starts_with('/') && sayable(exe))
        {
            return Self::Exe(exe.to_owned());
        }
        process.user.map_or(Self::Anyone, Self::User)
    }
}

/// Services come back under their name and containers last as long as their cgroup; sessions do neither. What is below a
/// service is the service's, as far down as rules about it hold.
fn lasting_unit(process: &Process, named: &Named<'_>) -> Option<String> {
    let cgroup = process.cgroup.as_deref().filter(|path| sayable(path))?;
    let is_service =
        process.unit().is_some_and(|unit| unit.ends_with(".service") && !unit.starts_with("user@"));
    if !is_service {
        return process.container().is_some().then(|| cgroup.to_owned());
    }
    let unit = process.unit()?;
    let below = cgroup.split('/').rev().take_while(|part| *part != unit).map(|part| part.len() + 1);
    let own = cgroup.get(..cgroup.len() - below.sum::<usize>())?;
    if own != cgroup && own.matches('/').count() > ANCESTORS_MAX {
        return Some(cgroup.to_owned());
    }
    // The name alone, where it means this unit and no other.
    let is_known = named.unit(&unit).is_some() && named.unit(&unit) == named.unit(own);
    Some(if is_known { unit } else { own.to_owned() })
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
                Actor::Exe(path) => (2, "exe", quoted(path)),
                Actor::User(number) => (3, "user", number.to_string()),
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
