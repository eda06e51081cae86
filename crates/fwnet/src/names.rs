//! Names of process qualifiers as this machine knows them: users and groups from /etc/passwd and /etc/group,
//! executables by their file, units, containers and cgroup paths by the id of their cgroup, network namespaces by their
//! cookie.
//!
//! Files are read once, when they are first needed; everything else is looked up when it is asked for.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use agent::connections::place::container_at;
use kernel::{CgroupTree, Netns};
use policy::{Identities, syntax::means_container};
use rustix::fs::{Mode, OFlags, open};

use crate::{
    cgroups::{self, Home, Patience},
    report::host_name,
};

/// What rules call the network namespace of process 1, or our own where that may not be looked at (ptrace(2), "Ptrace
/// access mode checking").
const HOST: &str = "host";
const HOSTS: [&str; 2] = ["/proc/1/ns/net", "/proc/self/ns/net"];

/// What this machine knows. What cannot be read knows no names, so that rules which name one match nobody.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    users: OnceLock<BTreeMap<String, u32>>,
    groups: OnceLock<BTreeMap<String, u32>>,
    /// Where the cgroup2 hierarchy is mounted, if it is.
    mount: OnceLock<Option<PathBuf>>,
    patience: Patience,
}

impl Names {
    /// Of this machine, now.
    pub(crate) fn here() -> Self {
        Self::default()
    }

    /// Of this machine, for somebody who asks again and again: cgroups that are found by name are those of some seconds
    /// ago at most.
    pub(crate) fn lately() -> Self {
        Self { patience: Patience::Lately, ..Self::default() }
    }

    fn users(&self) -> &BTreeMap<String, u32> {
        self.users.get_or_init(|| numbers_in("/etc/passwd"))
    }

    fn groups(&self) -> &BTreeMap<String, u32> {
        self.groups.get_or_init(|| numbers_in("/etc/group"))
    }

    fn mount(&self) -> Option<&Path> {
        let found = || CgroupTree::mounted().ok().map(|tree| tree.mount().to_owned());
        self.mount.get_or_init(found).as_deref()
    }

    /// The cgroup of a unit or of an absolute cgroup path.
    pub(crate) fn unit_home(&self, name: &str) -> Option<Home> {
        let mount = self.mount()?;
        if name.starts_with('/') {
            return cgroups::at(mount, name);
        }
        let own = |path: &str| path.rsplit('/').next() == Some(name);
        cgroups::find(mount, own, self.patience)
    }

    /// The cgroup of a container.
    pub(crate) fn container_home(&self, name: &str) -> Option<Home> {
        let own = |path: &str| {
            container_at(path).is_some_and(|container| means_container(name, &container.id))
        };
        cgroups::find(self.mount()?, own, self.patience)
    }
}

impl Identities for Names {
    fn user(&self, name: &str) -> Option<u32> {
        self.users().get(name).copied()
    }

    fn group(&self, name: &str) -> Option<u32> {
        self.groups().get(name).copied()
    }

    fn exe(&self, path: &str) -> Option<u64> {
        exe_of(Path::new(path))
    }

    fn unit(&self, name: &str) -> Option<u64> {
        self.unit_home(name).map(|home| home.id)
    }

    fn container(&self, name: &str) -> Option<u64> {
        self.container_home(name).map(|home| home.id)
    }

    fn netns(&self, name: &str) -> Option<u64> {
        let cookie = |name: &str| Some(Netns::open(name).ok()?.cookie());
        if name == HOST { HOSTS.into_iter().find_map(cookie) } else { cookie(name) }
    }

    fn above(&self, cgroup: u64) -> Vec<u64> {
        let path = || CgroupTree::mounted().ok()?.path_of(cgroup);
        let home = path().and_then(|path| cgroups::at(self.mount()?, &path));
        home.map_or_else(Vec::new, |home| home.above)
    }
}

impl Names {
    /// The user of this number; of several the first by name.
    pub(crate) fn user_of(&self, uid: u32) -> Option<&str> {
        self.users().iter().find(|&(_, &number)| number == uid).map(|(name, _)| name.as_str())
    }
}

/// The number of the executable at `path`; `None` where there is none.
pub(crate) fn exe_of(path: &Path) -> Option<u64> {
    // Without blocking, because it may be a FIFO.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::File::from(open(path, flags, Mode::empty()).ok()?);
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return None;
    }
    kernel::exe_number(&file).ok()
}

/// What a rule calls the network namespace with this cookie: `host`, its name, or the path that a container engine made for
/// it. `None` where it has none.
pub(crate) fn netns_name(cookie: u64) -> Option<String> {
    let is = |name: &str| Netns::open(name).is_ok_and(|namespace| namespace.cookie() == cookie);
    if Names::default().netns(HOST) == Some(cookie) {
        return Some(HOST.to_owned());
    }
    Netns::named().into_iter().find(|name| is(name))
}

/// What another machine is taken to know: every name, each as a number of its own. For questions about hosts that are
/// not this one, whose users and units nobody here can look up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Assumed;

impl Identities for Assumed {
    fn user(&self, name: &str) -> Option<u32> {
        Some(assumed_id(name))
    }

    fn group(&self, name: &str) -> Option<u32> {
        Some(assumed_id(name))
    }

    fn exe(&self, path: &str) -> Option<u64> {
        Some(assumed_number(path))
    }

    fn unit(&self, name: &str) -> Option<u64> {
        Some(assumed_number(name))
    }

    fn container(&self, name: &str) -> Option<u64> {
        // An id and its beginnings are one container, and none is a unit.
        let id = name.get(..12).filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        Some(assumed_number(&format!("container {}", id.unwrap_or(name))))
    }

    fn netns(&self, name: &str) -> Option<u64> {
        Some(assumed_number(name))
    }
}

/// What knows the names of the host `id`: this machine if it is called so, else [`Assumed`].
pub(crate) fn known_at(id: &str, inventory: &policy::Inventory) -> Box<dyn Identities> {
    let own = host_name();
    let is_here =
        *id == *own || inventory.find(&own).is_some_and(|at| inventory.find(id) == Some(at));
    if is_here { Box::new(Names::here()) } else { Box::new(Assumed) }
}

/// FNV-1a, never 0: the same name has the same number whatever machine asks.
fn assumed_number(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.max(1)
}

/// In the upper half of the 32 bits, where no ordinary user is, and never -1, which is no user at all.
fn assumed_id(name: &str) -> u32 {
    let low = u32::try_from(assumed_number(name) & 0x7fff_ffff).unwrap_or_default();
    (low | 0x8000_0000).min(u32::MAX - 1)
}

fn numbers_in(path: &str) -> BTreeMap<String, u32> {
    numbers(&fs::read_to_string(path).unwrap_or_default())
}

/// Name to number, from lines `name:password:number:...` (passwd(5), group(5)). Of two lines of one name the first
/// holds, as for getpwnam(3).
fn numbers(text: &str) -> BTreeMap<String, u32> {
    let mut numbers = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(_), Some(Ok(number))) =
            (fields.next(), fields.next(), fields.next().map(str::parse))
            && !name.is_empty()
        {
            numbers.entry(name.to_owned()).or_insert(number);
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_name_holds_and_nonsense_is_skipped() {
        let users =
            numbers("root:x:0:0::/root:/bin/sh\nbad\nweb:x:33:33\nweb:x:34:34\n:x:1:1\nn:x:y:1\n");
        assert_eq!(users, BTreeMap::from([("root".to_owned(), 0), ("web".to_owned(), 33)]));
    }

    #[test]
    fn executables_differ_by_inode_and_device_and_never_are_unknown() {
        let of = |path: &str| Names::here().exe(path);
        assert!(of("/bin/sh").is_some_and(|id| id != 0));
        assert_ne!(of("/bin/sh"), of("/bin/ls"));
        assert_eq!(of("/bin"), None, "a directory is not an executable");
    }

    #[test]
    fn a_unit_is_found_by_name_and_by_path() {
        let Ok(tree) = CgroupTree::mounted() else { panic!("cgroup2 is not mounted") };
        let group = testbed::Cgroup::new();
        let names = Names::here();
        let id = kernel::Cgroup::open(group.path()).unwrap().id();
        let below = group.path().strip_prefix(tree.mount()).unwrap();
        assert_eq!(names.unit(&format!("/{}", below.display())), Some(id));
        let name = group.path().file_name().unwrap().to_str().unwrap();
        assert_eq!(names.unit(name), Some(id));
        assert_eq!(names.unit("no-such-unit.service"), None);
    }
}
