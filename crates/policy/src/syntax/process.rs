//! Which processes: the qualifiers in brackets behind one end of a rule.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Word;
use crate::span::Span;

/// `[user=www-data exe=/usr/sbin/nginx]`: each list that is not empty must match, by any of its elements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Process {
    /// User names or numbers, as the enforcing host knows them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user: Vec<Word>,
    /// Group names or numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<Word>,
    /// Absolute paths of executables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exe: Vec<Word>,
    /// systemd units (`nginx.service`) or absolute paths of cgroups (`/system.slice/nginx.service`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unit: Vec<Word>,
    /// Ids of containers, or their first 12 hexadecimal digits and more; names of LXC containers and of machines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub container: Vec<Word>,
    /// Network namespaces: names as `ip netns` knows them, absolute paths, or `host`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub netns: Vec<Word>,
    /// Where it stands, brackets included.
    #[serde(skip)]
    pub span: Span,
}

/// What a process can be asked about; each is a field of [`Process`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qualifier {
    /// `user=`
    User,
    /// `group=`
    Group,
    /// `exe=`
    Exe,
    /// `unit=`
    Unit,
    /// `container=`
    Container,
    /// `netns=`
    Netns,
}

/// How many there are.
pub(crate) const QUALIFIERS: usize = 6;

impl Qualifier {
    /// In the order in which they are written.
    pub(crate) const ALL: [Self; QUALIFIERS] =
        [Self::User, Self::Group, Self::Exe, Self::Unit, Self::Container, Self::Netns];

    /// As it is written.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
            Self::Exe => "exe",
            Self::Unit => "unit",
            Self::Container => "container",
            Self::Netns => "netns",
        }
    }
}

impl Process {
    /// The values that one qualifier gives.
    pub(crate) fn values(&self, of: Qualifier) -> &[Word] {
        let Self { user, group, exe, unit, container, netns, span: _ } = self;
        match of {
            Qualifier::User => user,
            Qualifier::Group => group,
            Qualifier::Exe => exe,
            Qualifier::Unit => unit,
            Qualifier::Container => container,
            Qualifier::Netns => netns,
        }
    }

    /// The same, to be filled in.
    pub(crate) fn values_mut(&mut self, of: Qualifier) -> &mut Vec<Word> {
        let Self { user, group, exe, unit, container, netns, span: _ } = self;
        match of {
            Qualifier::User => user,
            Qualifier::Group => group,
            Qualifier::Exe => exe,
            Qualifier::Unit => unit,
            Qualifier::Container => container,
            Qualifier::Netns => netns,
        }
    }

    /// Whether it leaves out no process.
    pub(crate) fn is_any(&self) -> bool {
        Qualifier::ALL.into_iter().all(|of| self.values(of).is_empty())
    }
}

/// Digits that the id of a container is known by at least: as many as engines show.
pub(crate) const CONTAINER_DIGITS_MIN: usize = 12;
/// Digits of a whole one.
pub(crate) const CONTAINER_DIGITS_MAX: usize = 64;

/// Whether `text` is the id of a container or its beginning, and not a name.
pub(crate) fn is_container_id(text: &str) -> bool {
    (CONTAINER_DIGITS_MIN..=CONTAINER_DIGITS_MAX).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether the container that is called `named` is meant by `written`: the name itself, or the beginning of the id.
pub fn means_container(written: &str, named: &str) -> bool {
    written == named || is_container_id(written) && named.starts_with(written)
}

/// The paths above a path of a cgroup, the deepest first, without the root's.
pub(crate) fn paths_above(path: &str) -> impl Iterator<Item = &str> {
    let path = path.starts_with('/').then_some(path);
    std::iter::successors(path, |path| path.rsplit_once('/').map(|(above, _)| above))
        .skip(1)
        .filter(|path| !path.is_empty())
}

/// Where the symbols of containers begin, which stand for cgroups as those of units do: no two are the same number.
const CONTAINERS_FROM: u64 = 1 << 32;

/// A number for each container that is named; an id and the beginnings of it that are named, too, are one container.
pub(crate) fn container_symbols(names: &BTreeSet<&str>) -> BTreeMap<String, u64> {
    let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
    // A beginning comes before what it is the beginning of, so the shortest one is who they all are.
    let mut shortest = "";
    for (&name, next) in names.iter().zip(CONTAINERS_FROM..) {
        let same = numbers.get(shortest).filter(|_| means_container(shortest, name)).copied();
        if same.is_none() {
            shortest = name;
        }
        numbers.insert(name.to_owned(), same.unwrap_or(next));
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_and_its_beginnings_are_one_container() {
        let id = "4c01db0b339c6ee2d20d4d1b1ea6d8f2e7b0a8f0b8e4c0e1a9f3b2c1d0e9f8a7";
        let names = BTreeSet::from(["web", "web-2", id, &id[..12], &id[..20], "4c01db0b339d"]);
        let numbers = container_symbols(&names);
        assert_eq!(numbers[id], numbers[&id[..12]]);
        assert_eq!(numbers[id], numbers[&id[..20]]);
        let distinct: BTreeSet<u64> = numbers.values().copied().collect();
        assert_eq!(distinct.len(), 4, "{numbers:?}");
    }

    #[test]
    fn a_name_means_no_longer_one() {
        let id = "4c01db0b339c6ee2d20d4d1b1ea6d8f2e7b0a8f0b8e4c0e1a9f3b2c1d0e9f8a7";
        assert!(means_container(&id[..12], id) && means_container("web", "web"));
        assert!(!means_container(&id[..11], id) && !means_container("web", "web-2"));
    }
}
