//! Whom process qualifiers name, by name alone, where no host can be asked: each name is somebody of its own, but for
//! paths of cgroups, which are below one another as they say, and for the beginnings of a container's id.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    facts::Identities,
    policy::Policy,
    syntax::{Failsafe, Process, Qualifier, Statement, container_symbols, paths_above},
};

/// Numbers for every name that policies mention. Different names get different numbers, `root` is user and group 0, and
/// no name gets a number that is written as such. What the policies do not mention is not known.
///
/// Takes part in no verdict on a host: there the host's own names count, of which two can be one user.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    pub(crate) users: BTreeMap<String, u32>,
    pub(crate) groups: BTreeMap<String, u32>,
    pub(crate) exes: BTreeMap<String, u64>,
    pub(crate) units: BTreeMap<String, u64>,
    pub(crate) containers: BTreeMap<String, u64>,
    pub(crate) namespaces: BTreeMap<String, u64>,
}

/// Where the numbers of user and group names begin: above those that systems give out.
const FIRST: u32 = 0x4000_0000;

impl Symbols {
    /// Numbers the names of all `policies`, those of their tests left aside.
    pub fn new<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> Self {
        let statements = policies.into_iter().flat_map(|policy| policy.document.statements());
        let judging = statements.map(|(_, said)| said);
        Self::of(judging.filter(|said| !matches!(said, Statement::Test(_))).flat_map(processes))
    }

    /// Numbers the names of all `policies`, those of their tests too, and of the processes that are `asked` about. `root`
    /// is known whoever mentions it.
    pub(crate) fn asking<'a>(
        policies: &'a [Policy],
        asked: impl IntoIterator<Item = &'a Option<Process>>,
    ) -> Self {
        let statements = policies.iter().flat_map(|policy| policy.document.statements());
        let described = statements.flat_map(|(_, said)| processes(said));
        let mut symbols = Self::of(described.chain(asked.into_iter().flatten()));
        for known in [&mut symbols.users, &mut symbols.groups] {
            known.insert(ROOT.to_owned(), 0);
        }
        symbols
    }

    fn of<'a>(described: impl Iterator<Item = &'a Process>) -> Self {
        let described: Vec<&Process> = described.collect();
        let named = |of: Qualifier| -> BTreeSet<&str> {
            let words = described.iter().flat_map(|process| process.values(of));
            words.map(|word| word.text.as_str()).collect()
        };
        let long = |names: BTreeSet<&str>| {
            names.into_iter().map(str::to_owned).zip(1u64..).collect::<BTreeMap<String, u64>>()
        };
        Self {
            users: numbered(&named(Qualifier::User)),
            groups: numbered(&named(Qualifier::Group)),
            exes: long(named(Qualifier::Exe)),
            units: long(named(Qualifier::Unit)),
            containers: container_symbols(&named(Qualifier::Container)),
            namespaces: long(named(Qualifier::Netns)),
        }
    }
}

/// The user and the group that every system has by this number: 0.
const ROOT: &str = "root";

fn numbered(names: &BTreeSet<&str>) -> BTreeMap<String, u32> {
    let written: BTreeSet<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let mut free = (FIRST..).filter(|number| !written.contains(number));
    let named = names.iter().filter(|name| name.parse::<u32>().is_err());
    named
        .filter_map(|&name| {
            let number = if name == ROOT { Some(0) } else { free.next() };
            Some((name.to_owned(), number?))
        })
        .collect()
}

/// The qualifiers of both ends of a statement.
fn processes(said: &Statement) -> impl Iterator<Item = &Process> {
    let ends = match said {
        Statement::Rule(rule) => Some([&rule.from, &rule.to]),
        Statement::Test(test) => Some([&test.flows.from, &test.flows.to]),
        Statement::Failsafe(Failsafe::Flows(flows)) => Some([&flows.from, &flows.to]),
        Statement::Failsafe(Failsafe::None)
        | Statement::Tier(_)
        | Statement::Mode(_)
        | Statement::Name(_)
        | Statement::Default(_)
        | Statement::Inbound(_) => None,
    };
    ends.into_iter().flatten().filter_map(|end| end.process.as_ref())
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

    fn container(&self, name: &str) -> Option<u64> {
        self.containers.get(name).copied()
    }

    fn netns(&self, name: &str) -> Option<u64> {
        self.namespaces.get(name).copied()
    }

    fn above(&self, cgroup: u64) -> Vec<u64> {
        let named = self.units.iter().find(|(_, number)| **number == cgroup);
        let path = named.map(|(name, _)| name.as_str()).unwrap_or_default();
        paths_above(path).filter_map(|path| self.units.get(path).copied()).collect()
    }
}
