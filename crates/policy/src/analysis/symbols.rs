//! Users, groups, executables and units by name alone, where no host can be asked: each name is somebody of its own.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    facts::Identities,
    policy::Policy,
    syntax::{End, Failsafe, Process, Statement, Word},
};

/// Numbers for every name that policies mention. Different names get different numbers, `root` is user and group 0, and
/// no name gets a number that is written as such. What the policies do not mention is not known.
///
/// Takes part in no verdict on a host: there the host's own names count, of which two can be one user.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
    exes: BTreeMap<String, u64>,
    units: BTreeMap<String, u64>,
}

/// Where the numbers of user and group names begin: above those that systems give out.
const FIRST: u32 = 0x4000_0000;

impl Symbols {
    /// Numbers the names of all `policies`.
    pub fn new<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> Self {
        let mut words: [BTreeSet<&str>; 4] = Default::default();
        let ends = policies.into_iter().flat_map(|policy| policy.document.statements());
        for process in ends.flat_map(|(_, said)| processes(said)) {
            let Process { user, group, exe, unit, span: _ } = process;
            for (into, of) in words.iter_mut().zip([user, group, exe, unit]) {
                into.extend(of.iter().map(|word: &Word| word.text.as_str()));
            }
        }
        let [users, groups, exes, units] = words;
        let long = |names: BTreeSet<&str>| {
            names.into_iter().map(str::to_owned).zip(1u64..).collect::<BTreeMap<String, u64>>()
        };
        Self {
            users: numbered(&users),
            groups: numbered(&groups),
            exes: long(exes),
            units: long(units),
        }
    }
}

fn numbered(names: &BTreeSet<&str>) -> BTreeMap<String, u32> {
    let written: BTreeSet<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let mut free = (FIRST..).filter(|number| !written.contains(number));
    let named = names.iter().filter(|name| name.parse::<u32>().is_err());
    named
        .filter_map(|&name| {
            let number = if name == "root" { Some(0) } else { free.next() };
            Some((name.to_owned(), number?))
        })
        .collect()
}

/// The qualifiers of a statement that takes part in verdicts.
fn processes(said: &Statement) -> Vec<&Process> {
    let ends: [&End; 2] = match said {
        Statement::Rule(rule) => [&rule.from, &rule.to],
        Statement::Failsafe(Failsafe::Flows(flows)) => [&flows.from, &flows.to],
        Statement::Failsafe(Failsafe::None)
        | Statement::Tier(_)
        | Statement::Mode(_)
        | Statement::Name(_)
        | Statement::Default(_)
        | Statement::Inbound(_)
        | Statement::Test(_) => return Vec::new(),
    };
    ends.into_iter().filter_map(|end| end.process.as_ref()).collect()
}

impl Identities for Symbols {
    fn user(&self, name: &str) -> Option<u32> {
        self.users.get(name).copied()
    }

    fn group(&self, name: &str) -> Option<u32> {
        self.groups.get(name).copied()
    }

    fn exe(&self, path: &str) -> Option<u64> {
        self.exes.get(path).copied()
    }

    fn unit(&self, name: &str) -> Option<u64> {
        self.units.get(name).copied()
    }
}

impl Symbols {
    /// The names of a number of each kind, as a qualifier writes them; a user or group without a name by its number.
    pub(super) fn names(&self, facet: Facet, number: u64) -> String {
        let short = |map: &BTreeMap<String, u32>| {
            map.iter().find(|(_, at)| u64::from(**at) == number).map(|(name, _)| name.clone())
        };
        let long = |map: &BTreeMap<String, u64>| {
            map.iter().find(|(_, at)| **at == number).map(|(name, _)| name.clone())
        };
        let name = match facet {
            Facet::User => short(&self.users),
            Facet::Group => short(&self.groups),
            Facet::Exe => long(&self.exes),
            Facet::Unit => long(&self.units),
        };
        name.unwrap_or_else(|| number.to_string())
    }
}

/// What a process can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Facet {
    User,
    Group,
    Exe,
    Unit,
}

impl Facet {
    pub(super) const ALL: [Self; 4] = [Self::User, Self::Group, Self::Exe, Self::Unit];

    /// The word of a qualifier.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
            Self::Exe => "exe",
            Self::Unit => "unit",
        }
    }
}
