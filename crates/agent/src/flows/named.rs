//! Numbers for the names of recorded flows, where the kernel's own are gone: the process has ended, the unit was started
//! again, or this is another machine.

use std::collections::BTreeMap;

use policy::{Identities, syntax::means_container};
use verdict::Subject;

use super::{Process, Record};
use crate::connections::place;

/// Knows the executables and cgroups of records by numbers of its own, and users and groups as somebody else does.
#[derive(Clone)]
pub struct Named<'a> {
    people: &'a dyn Identities,
    /// Paths of cgroups that the records name, and of all above them, by the name of their last component: the one
    /// nearest to the root, and of several there the first.
    units: BTreeMap<String, String>,
    /// Likewise those that are a container's own, by the container's id.
    containers: BTreeMap<String, String>,
}

impl<'a> Named<'a> {
    /// For these records; `people` knows users and groups.
    pub fn new<'r>(
        records: impl IntoIterator<Item = &'r Record>,
        people: &'a dyn Identities,
    ) -> Self {
        let (mut units, mut containers) = (BTreeMap::new(), BTreeMap::new());
        for path in records.into_iter().filter_map(|record| record.kind.process.cgroup.as_deref()) {
            for path in lineage(path) {
                let name = path.rsplit('/').next().unwrap_or_default();
                nearest(&mut units, name, path);
                if let Some(container) = place::container_at(path) {
                    nearest(&mut containers, &container.id, path);
                }
            }
        }
        Self { people, units, containers }
    }

    /// The process of a record, as rules compiled with these identities see it.
    pub fn subject(process: &Process) -> Subject {
        let Process { user, group, exe, cgroup, netns } = process;
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
            netns: netns.as_deref().map_or(unknown.netns, number),
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

    fn container(&self, name: &str) -> Option<u64> {
        let known = self.containers.iter().filter(|(id, _)| means_container(name, id));
        known.map(|(_, path)| path).min_by_key(|path| rank(path)).map(|path| number(path))
    }

    fn netns(&self, name: &str) -> Option<u64> {
        Some(number(name.strip_prefix(NAMED).unwrap_or(name)))
    }
}

/// Where network namespaces have names: a path there is the name.
const NAMED: &str = "/run/netns/";

/// Enters a path under a name, unless one nearer to the root, or before it there, is known.
fn nearest(known: &mut BTreeMap<String, String>, name: &str, path: &str) {
    if known.get(name).is_none_or(|known| rank(path) < rank(known)) {
        known.insert(name.to_owned(), path.to_owned());
    }
}

fn rank(path: &str) -> (usize, &str) {
    (path.matches('/').count(), path)
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
