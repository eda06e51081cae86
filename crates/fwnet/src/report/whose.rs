//! Names for what the kernel numbers: the path of a cgroup and of an executable, the name of a network namespace.
//!
//! A process may be gone when its event is told. Executables of the directories that programs are installed in are then
//! known by their number all the same.

use std::{
    collections::BTreeMap,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use kernel::CgroupTree;
use policy::Identities;

use crate::names::{Names, netns_name};

/// Names remembered before starting over: cgroups and executables come and go on a busy machine.
const NAMES_MAX: usize = 4_096;
/// Where programs are installed (hier(7)).
const INSTALLED: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
/// Files of such a directory that are looked at.
const FILES_MAX: usize = 16_384;
/// How often those directories are read anew at most.
const READ_AGAIN: Duration = Duration::from_secs(600);

/// What is known by now.
pub(crate) struct Whose {
    tree: Option<CgroupTree>,
    names: Names,
    cgroups: BTreeMap<u64, Option<Arc<str>>>,
    exes: BTreeMap<u64, Arc<str>>,
    namespaces: BTreeMap<u64, Option<Arc<str>>>,
    installed: Vec<(u64, Box<str>)>,
    read: Option<Instant>,
}

impl Whose {
    /// Of this machine.
    pub(crate) fn here() -> Self {
        Self {
            tree: CgroupTree::mounted().ok(),
            names: Names::here(),
            cgroups: BTreeMap::new(),
            exes: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            installed: Vec::new(),
            read: None,
        }
    }

    /// The path below the mount of the cgroup with this id; `None` where it is gone, and for 0.
    pub(crate) fn cgroup(&mut self, id: u64) -> Option<Arc<str>> {
        if id == 0 {
            return None;
        }
        if self.cgroups.len() >= NAMES_MAX {
            self.cgroups.clear();
        }
        let tree = self.tree.as_ref()?;
        self.cgroups.entry(id).or_insert_with(|| tree.path_of(id).map(Arc::from)).clone()
    }

    /// What a rule calls the network namespace with this cookie; `None` where it has no name, and for 0. Whoever gets a name
    /// later is not known by it until much else was asked.
    pub(crate) fn netns(&mut self, cookie: u64) -> Option<Arc<str>> {
        if cookie == 0 {
            return None;
        }
        if self.namespaces.len() >= NAMES_MAX {
            self.namespaces.clear();
        }
        self.namespaces.entry(cookie).or_insert_with(|| netns_name(cookie).map(Arc::from)).clone()
    }

    /// The path of the executable with this number, which process `pid` ran.
    pub(crate) fn exe(&mut self, number: u64, pid: u32) -> Option<Arc<str>> {
        if number == 0 {
            return None;
        }
        if let Some(known) = self.exes.get(&number) {
            return Some(Arc::clone(known));
        }
        let path = self.of_process(number, pid).or_else(|| self.of_files(number))?;
        if self.exes.len() >= NAMES_MAX {
            self.exes.clear();
        }
        self.exes.insert(number, Arc::clone(&path));
        Some(path)
    }

    /// What the process runs, if it still runs what it ran.
    fn of_process(&self, number: u64, pid: u32) -> Option<Arc<str>> {
        let link = format!("/proc/{pid}/exe");
        if self.names.exe(&link) != Some(number) {
            return None;
        }
        let path = fs::read_link(link).ok()?;
        let path = path.to_str()?;
        Some(path.strip_suffix(" (deleted)").unwrap_or(path).into())
    }

    fn of_files(&mut self, number: u64) -> Option<Arc<str>> {
        if self.read.is_none_or(|read| read.elapsed() >= READ_AGAIN) {
            self.installed = installed(&self.names);
            self.read = Some(Instant::now());
        }
        let at = self.installed.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.installed.get(at).map(|(_, path)| Arc::from(&**path))
    }
}

/// The programs that are installed, by number. Of several names of one file the first holds that is no link.
fn installed(names: &Names) -> Vec<(u64, Box<str>)> {
    let mut found: Vec<(u64, bool, Box<str>)> = Vec::new();
    for directory in INSTALLED {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten().take(FILES_MAX) {
            let path = entry.path();
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if let Some(path) = path.to_str()
                && let Some(number) = names.exe(path)
            {
                found.push((number, is_link, path.into()));
            }
        }
    }
    found.sort_unstable();
    found.dedup_by_key(|(number, _, _)| *number);
    found.into_iter().map(|(number, _, path)| (number, path)).collect()
}
