//! Numbers for the names of recorded flows, where the kernel's own are gone: the process has ended, the unit was started
//! again, or this is another machine.

use std::collections::BTreeMap;

use policy::Identities;
use verdict::Subject;

use super::{Process, Record};

/// Knows the executables and cgroups of records by numbers of its own, and users and groups as somebody else does.
#[derive(Clone)]
pub struct Named<'a> {
    people: &'a dyn Identities,
    /// Paths of cgroups that the records name, and of all above them, by the name of their last component: the one
    /// nearest to the root, and of several there the first.
    units: BTreeMap<String, String>,
}

impl<'a> Named<'a> {
    /// For these records; `people` knows users and groups.
    pub fn new<'r>(
        records: impl IntoIterator<Item = &'r Record>,
        people: &'a dyn Identities,
    ) -> Self {
        let mut units: BTreeMap<String, String> = BTreeMap::new();
        for path in records.into_iter().filter_map(|record| record.kind.process.cgroup.as_deref()) {
            for path in lineage(path) {
                let name = path.rsplit('/').next().unwrap_or_default();
                let depth = |path: &str| path.matches('/').count();
                let nearer = units
                    .get(name)
                    .is_none_or(|known| (depth(path), path) < (depth(known), known.as_str()));
                if nearer {
                    units.insert(name.to_owned(), path.to_owned());
                }
            }
        }
        Self { people, units }
    }

    /// The process of a record, as rules compiled with these identities see it.
    pub fn subject(process: &Process) -> Subject {
        let Process { user, group, exe, cgroup } = process;
        let unknown = Subject::UNKNOWN;
        let mut above = unknown.above;
        // The kernel tells the levels nearest to the root, of which there may be more than it has room for.
        let levels: Vec<&str> = cgroup.as_deref().into_iter().flat_map(lineage).collect();
        let told = levels.len().saturating_sub(above.len());
        for (to, path) in above.iter_mut().zip(levels.iter().skip(told)) {
            *to = number(path);
        }
        Subject {
            uid: user.unwrap_or(unknown.uid),
            gid: group.unwrap_or(unknown.gid),
            exe: exe.as_deref().map_or(unknown.exe, number),
            cgroup: cgroup.as_deref().map_or(unknown.cgroup, number),
            above,
            netns: unknown.netns,
        }
    }
}

impl Identities for Named<'_> {
    fn user(&self, name: &str) -> Option<u32> {
        self.people.user(name)
    }

    fn group(&self, name: &str) -> Option<u32> {
        self.people.group(name)
    }

    fn exe(&self, path: &str) -> Option<u64> {
        Some(number(path))
    }

    fn unit(&self, name: &str) -> Option<u64> {
        if name.starts_with('/') {
            return Some(number(name));
        }
        self.units.get(name).map(|path| number(path))
    }
}

/// The path and those above it, the deepest first, without the root: `/a/b`, `/a`.
fn lineage(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(above, _)| above))
        .filter(|path| !path.is_empty() && *path != "/")
}

/// Never 0, which is no executable and no cgroup.
fn number(name: &str) -> u64 {
    let digest = blake3::hash(name.as_bytes());
    let first = digest.as_bytes().first_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(first).max(1)
}
