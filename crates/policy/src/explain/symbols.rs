//! Whom process qualifiers name, as symbols: equal if they are written alike. What is asked about a fleet is
//! answered without a look at any host's files.

use std::collections::{BTreeMap, BTreeSet};

use verdict::Subject;

use crate::{
    facts::Identities,
    policy::Policy,
    resolve::placed,
    syntax::{
        Failsafe, Process, Qualifier, Statement, Word, container_symbols, is_bare, paths_above,
    },
};

/// Where the numbers of named users and groups begin; below, numbers are what they say. The largest one is no user's.
const NAMED_FROM: u32 = 0xf000_0000;

/// A number for every name that policies and a question use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Symbols {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
    exes: BTreeMap<String, u64>,
    units: BTreeMap<String, u64>,
    containers: BTreeMap<String, u64>,
    namespaces: BTreeMap<String, u64>,
}

impl Symbols {
    pub(crate) fn new<'a>(
        policies: &'a [Policy],
        asked: impl IntoIterator<Item = &'a Option<Process>>,
    ) -> Self {
        let described: Vec<&Process> =
            policies.iter().flat_map(processes).chain(asked.into_iter().flatten()).collect();
        let named = |of: Qualifier| -> BTreeSet<&str> {
            let words = described.iter().flat_map(|process| process.values(of));
            words.map(|word| word.text.as_str()).collect()
        };
        let short = |of: Qualifier| {
            let names = named(of).into_iter();
            let names = names.filter(|name| *name != "root" && name.parse::<u32>().is_err());
            // Every system has the first, by this number.
            let root = std::iter::once(("root".to_owned(), 0));
            root.chain(names.map(str::to_owned).zip(NAMED_FROM..)).collect()
        };
        let long = |of: Qualifier| named(of).into_iter().map(str::to_owned).zip(1..).collect();
        Self {
            users: short(Qualifier::User),
            groups: short(Qualifier::Group),
            exes: long(Qualifier::Exe),
            units: long(Qualifier::Unit),
            containers: container_symbols(&named(Qualifier::Container)),
            namespaces: long(Qualifier::Netns),
        }
    }

    /// A process that is described; of several possibilities the first. What is left out is like no process that a rule
    /// names.
    pub(crate) fn subject(&self, process: Option<&Process>) -> Subject {
        let mut subject = Self::STRANGER;
        let Some(Process { user, group, exe, unit, container, netns, span: _ }) = process else {
            return subject;
        };
        let number = |word: &Word, named: Option<u32>| word.text.parse::<u32>().ok().or(named);
        if let Some(uid) = user.first().and_then(|user| number(user, self.user(&user.text))) {
            subject.uid = uid;
        }
        if let Some(gid) = group.first().and_then(|group| number(group, self.group(&group.text))) {
            subject.gid = gid;
        }
        subject.exe = exe.first().and_then(|exe| self.exe(&exe.text)).unwrap_or(0);
        let unit = unit.first().and_then(|unit| self.unit(&unit.text));
        let container = container.first().and_then(|container| self.container(&container.text));
        subject.netns = netns.first().and_then(|netns| self.netns(&netns.text)).unwrap_or(0);
        self.within(unit.unwrap_or(0), container.unwrap_or(0), subject)
    }

    /// The subject in a unit and in a container; 0 is none. Of the paths that are known those that the unit's begins with
    /// are above it; a unit by name is nowhere in particular.
    pub(crate) fn within(&self, unit: u64, container: u64, subject: Subject) -> Subject {
        placed(unit, &self.above(unit), container, subject)
    }

    /// The cgroups that are known below one of these, and these.
    pub(crate) fn below(&self, cgroups: &[u64]) -> Vec<u64> {
        let within = |cgroup: &u64| {
            cgroups.contains(cgroup) || self.above(*cgroup).iter().any(|of| cgroups.contains(of))
        };
        self.units.values().copied().filter(within).collect()
    }

    /// A process as a policy writes it, brackets included; nothing for a process that no rule names.
    pub(crate) fn spell(&self, subject: &Subject) -> String {
        fn name<T: PartialEq>(known: &BTreeMap<String, T>, value: &T) -> Option<String> {
            known.iter().find(|(_, own)| *own == value).map(|(name, _)| quoted(name))
        }
        let number = |number: u32, known: &BTreeMap<String, u32>| {
            (number != u32::MAX).then(|| name(known, &number).unwrap_or_else(|| number.to_string()))
        };
        let said: Vec<String> = [
            ("user", number(subject.uid, &self.users)),
            ("group", number(subject.gid, &self.groups)),
            ("exe", name(&self.exes, &subject.exe)),
            ("unit", subject.cgroups().find_map(|cgroup| name(&self.units, &cgroup))),
            ("container", subject.cgroups().find_map(|cgroup| name(&self.containers, &cgroup))),
            ("netns", name(&self.namespaces, &subject.netns)),
        ]
        .into_iter()
        .filter_map(|(key, value)| value.map(|value| format!("{key}={value}")))
        .collect();
        if said.is_empty() { String::new() } else { format!("[{}]", said.join(" ")) }
    }

    /// A process that no rule names.
    pub(crate) const STRANGER: Subject = Subject::UNKNOWN;
}

/// A word as a policy writes it.
fn quoted(word: &str) -> String {
    if is_bare(word) {
        return word.to_owned();
    }
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

fn processes(policy: &Policy) -> impl Iterator<Item = &Process> {
    let ends = policy.document.statements().filter_map(|(_, said)| match said {
        Statement::Rule(rule) => Some([&rule.from, &rule.to]),
        Statement::Test(test) => Some([&test.flows.from, &test.flows.to]),
        Statement::Failsafe(Failsafe::Flows(flows)) => Some([&flows.from, &flows.to]),
        Statement::Failsafe(Failsafe::None)
        | Statement::Tier(_)
        | Statement::Mode(_)
        | Statement::Name(_)
        | Statement::Default(_)
        | Statement::Inbound(_) => None,
    });
    ends.flatten().filter_map(|end| end.process.as_ref())
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
