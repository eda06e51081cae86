//! Processes as they are described, and as a policy spells them.

use std::collections::BTreeMap;

use verdict::Subject;

use crate::{
    facts::Identities,
    resolve::placed,
    symbols::Symbols,
    syntax::{Process, Word, is_bare},
};

impl Symbols {
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
