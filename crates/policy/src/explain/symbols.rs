//! Users, groups, executables and units as symbols: equal if they are written alike. What is asked about a fleet is
//! answered without a look at any host's files.

use std::collections::BTreeMap;

use verdict::{Subject, limits::ANCESTORS_MAX};

use crate::{
    facts::Identities,
    policy::Policy,
    syntax::{Failsafe, Process, Statement, Word, is_bare},
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
}

impl Symbols {
    pub(crate) fn new<'a>(
        policies: &'a [Policy],
        asked: impl IntoIterator<Item = &'a Option<Process>>,
    ) -> Self {
        let mut symbols = Self::default();
        // Every system has them, by these numbers.
        symbols.users.insert("root".to_owned(), 0);
        symbols.groups.insert("root".to_owned(), 0);
        for process in policies.iter().flat_map(processes).chain(asked.into_iter().flatten()) {
            symbols.learn(process);
        }
        symbols
    }

    fn learn(&mut self, process: &Process) {
        let Process { user, group, exe, unit, span: _ } = process;
        for (names, known) in [(user, &mut self.users), (group, &mut self.groups)] {
            for name in names.iter().filter(|name| name.text.parse::<u32>().is_err()) {
                let next = NAMED_FROM + u32::try_from(known.len()).unwrap_or(0);
                known.entry(name.text.clone()).or_insert(next);
            }
        }
        for (names, known) in [(exe, &mut self.exes), (unit, &mut self.units)] {
            for name in names {
                let next = known.len() as u64 + 1;
                known.entry(name.text.clone()).or_insert(next);
            }
        }
    }

    /// A process that is described; of several possibilities the first. What is left out is like no process that a rule
    /// names.
    pub(crate) fn subject(&self, process: Option<&Process>) -> Subject {
        let mut subject = Self::STRANGER;
        let Some(Process { user, group, exe, unit, span: _ }) = process else { return subject };
        let number = |word: &Word, named: Option<u32>| word.text.parse::<u32>().ok().or(named);
        if let Some(uid) = user.first().and_then(|user| number(user, self.user(&user.text))) {
            subject.uid = uid;
        }
        if let Some(gid) = group.first().and_then(|group| number(group, self.group(&group.text))) {
            subject.gid = gid;
        }
        subject.exe = exe.first().and_then(|exe| self.exe(&exe.text)).unwrap_or(0);
        subject.cgroup = unit.first().and_then(|unit| self.unit(&unit.text)).unwrap_or(0);
        subject.above = self.path(subject.cgroup);
        subject
    }

    /// What a subject in this cgroup has above it: of the paths that are known those that its own begins with. A unit by
    /// name is nowhere in particular.
    pub(crate) fn path(&self, cgroup: u64) -> [u64; ANCESTORS_MAX] {
        let mut above = [0; ANCESTORS_MAX];
        for (to, from) in above.iter_mut().zip(self.above(cgroup)) {
            *to = from;
        }
        above
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
            ("unit", name(&self.units, &subject.cgroup)),
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

    fn above(&self, cgroup: u64) -> Vec<u64> {
        let named = self.units.iter().find(|(_, number)| **number == cgroup);
        let path = named.map(|(name, _)| name.as_str()).filter(|name| name.starts_with('/'));
        std::iter::successors(path, |path| path.rsplit_once('/').map(|(above, _)| above))
            .skip(1)
            .filter_map(|path| self.units.get(path).copied())
            .collect()
    }
}
