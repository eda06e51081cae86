//! Which cgroups there are, by their paths below the mount: for names of units and containers, which say nothing of where
//! they are.
//!
//! Who asks once walks through the hierarchy. Who asks again and again ([`Patience::Lately`]) does that once, and from then
//! on the kernel tells what is made and removed (inotify(7) on every directory): a name that exists nowhere costs a look
//! into memory. Where the kernel does not tell, because there are too many watches, walks are [`WALK_EVERY`] apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirEntry},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
};

/// Directories that are looked into at most; a machine with more cgroups finds units by their path only.
const CGROUPS_MAX: usize = 16_384;
/// How far walks are apart where the kernel does not tell what changes.
const WALK_EVERY: Duration = Duration::from_secs(10);
/// Room for some hundred events at a time.
const EVENTS_BYTES: usize = 16 << 10;

/// The hierarchy as it was followed so far. One for the process.
static KNOWN: Mutex<Option<Tree>> = Mutex::new(None);

/// A cgroup that a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    /// Its id, which no later cgroup gets.
    pub(crate) id: u64,
    /// Its directory.
    pub(crate) directory: PathBuf,
    /// Ids of those above it, the deepest first, without the root's.
    pub(crate) above: Vec<u64>,
}

/// How fresh an answer has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As it is now.
    #[default]
    Now,
    /// As it was some seconds ago at most. Is asked again soon.
    Lately,
}

/// The cgroup at `below` the mount.
pub(crate) fn at(mount: &Path, below: &str) -> Option<Home> {
    let root = fs::metadata(mount).ok()?;
    let directory = mount.join(below.trim_start_matches('/'));
    let id = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        (found.is_dir() && found.dev() == root.dev()).then(|| found.ino())
    };
    let own = id(&directory)?;
    let above = directory.ancestors().skip(1).filter_map(|path| path.strip_prefix(mount).ok());
    let above =
        above.filter(|below| *below != Path::new("")).filter_map(|path| id(&mount.join(path)));
    let above = above.collect();
    Some(Home { id: own, directory, above })
}

/// Whether the cgroup is there no longer.
pub(crate) fn is_gone(home: &Home) -> bool {
    fs::metadata(&home.directory).map_or(true, |found| found.ino() != home.id)
}

/// The cgroup nearest to the root whose path below the mount (`/a/b`) is `wanted`, and of several there the first by path.
pub(crate) fn find(
    mount: &Path,
    wanted: impl Fn(&str) -> bool,
    patience: Patience,
) -> Option<Home> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let fresh = known.as_mut().is_some_and(|tree| tree.mount == mount && tree.is_fresh(patience));
    let walked;
    let tree = if fresh {
        known.as_ref()?
    } else if patience == Patience::Lately {
        &*known.insert(Tree::followed(mount))
    } else {
        walked = Tree::walked(mount);
        &walked
    };
    tree.paths.iter().filter(|(_, path)| wanted(path)).find_map(|(_, path)| at(mount, path))
}

#[derive(Debug)]
struct Tree {
    mount: PathBuf,
    /// By depth, then by path.
    paths: BTreeSet<(usize, String)>,
    watch: Option<Watch>,
    walked: Instant,
}

#[derive(Debug)]
struct Watch {
    events: OwnedFd,
    /// Paths by their watch descriptors.
    directories: BTreeMap<i32, String>,
}

/// The kernel tells no more, or not everything.
struct Deaf;

impl Tree {
    fn walked(mount: &Path) -> Self {
        let mut tree = Self {
            mount: mount.to_owned(),
            paths: BTreeSet::new(),
            watch: None,
            walked: Instant::now(),
        };
        // Without a watch nothing can be missed.
        let _complete = tree.enter(String::new());
        tree
    }

    fn followed(mount: &Path) -> Self {
        let Ok(events) = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) else {
            return Self::walked(mount);
        };
        let mut tree = Self {
            mount: mount.to_owned(),
            paths: BTreeSet::new(),
            watch: Some(Watch { events, directories: BTreeMap::new() }),
            walked: Instant::now(),
        };
        match tree.enter(String::new()) {
            Ok(()) => tree,
            Err(Deaf) => Self::walked(mount),
        }
    }

    /// Whether it says what is, after everything that was told.
    fn is_fresh(&mut self, patience: Patience) -> bool {
        if self.watch.is_none() {
            return patience == Patience::Lately && self.walked.elapsed() < WALK_EVERY;
        }
        self.listen().is_ok()
    }

    /// Takes in the cgroup at `path` and everything below it, level by level.
    fn enter(&mut self, path: String) -> Result<(), Deaf> {
        let mut level = vec![path];
        while !level.is_empty() {
            let mut below = Vec::new();
            for path in level {
                let directory = self.mount.join(path.trim_start_matches('/'));
                if let Some(watch) = &mut self.watch {
                    watch.add(&directory, &path)?;
                }
                let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
                let is_cgroup =
                    |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
                let names = entries.filter(is_cgroup).filter_map(|entry| {
                    let name = entry.file_name().into_string().ok()?;
                    Some(format!("{path}/{name}"))
                });
                below.extend(names);
                if !path.is_empty() {
                    self.paths.insert((depth(&path), path));
                }
            }
            if self.paths.len() + below.len() > CGROUPS_MAX {
                return if self.watch.is_some() { Err(Deaf) } else { Ok(()) };
            }
            level = below;
        }
        Ok(())
    }

    /// Hears what was made and removed since.
    fn listen(&mut self) -> Result<(), Deaf> {
        for told in self.watch.as_ref().map(Watch::told).transpose()?.into_iter().flatten() {
            let Some(watch) = &mut self.watch else { break };
            match told {
                Told::Ended(descriptor) => {
                    watch.directories.remove(&descriptor);
                }
                Told::Made(descriptor, name) => {
                    if let Some(above) = watch.directories.get(&descriptor) {
                        let path = format!("{above}/{name}");
                        self.enter(path)?;
                    }
                }
                Told::Removed(descriptor, name) => {
                    if let Some(above) = watch.directories.get(&descriptor) {
                        let path = format!("{above}/{name}");
                        self.paths.remove(&(depth(&path), path));
                    }
                }
            }
        }
        Ok(())
    }
}

/// What the kernel tells of the directory with this watch descriptor.
enum Told {
    Made(i32, String),
    Removed(i32, String),
    Ended(i32),
}

impl Watch {
    fn add(&mut self, directory: &Path, path: &str) -> Result<(), Deaf> {
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.events, directory, flags) {
            Ok(descriptor) => {
                self.directories.insert(descriptor, path.to_owned());
                Ok(())
            }
            // It is gone by now, which its parent's watch tells.
            Err(Errno::NOENT) => Ok(()),
            Err(_) => Err(Deaf),
        }
    }

    fn told(&self) -> Result<Vec<Told>, Deaf> {
        let mut room = [MaybeUninit::uninit(); EVENTS_BYTES];
        let mut reader = inotify::Reader::new(&self.events, &mut room);
        let mut all = Vec::new();
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(all),
                Err(_) => return Err(Deaf),
            };
            let (kind, descriptor) = (event.events(), event.wd());
            let name = || Some(event.file_name()?.to_str().ok()?.to_owned());
            if kind.contains(ReadFlags::QUEUE_OVERFLOW) {
                return Err(Deaf);
            } else if kind.contains(ReadFlags::IGNORED) {
                all.push(Told::Ended(descriptor));
            } else if kind.contains(ReadFlags::CREATE) {
                all.extend(name().map(|name| Told::Made(descriptor, name)));
            } else if kind.contains(ReadFlags::DELETE) {
                all.extend(name().map(|name| Told::Removed(descriptor, name)));
            }
        }
    }
}

fn depth(path: &str) -> usize {
    path.matches('/').count()
}

#[cfg(test)]
mod tests {
    use kernel::CgroupTree;

    use super::*;

    fn below(mount: &Path, directory: &Path) -> String {
        format!("/{}", directory.strip_prefix(mount).unwrap().display())
    }

    #[test]
    fn what_is_made_and_removed_is_known_without_a_walk() {
        let mount = CgroupTree::mounted().unwrap().mount().to_owned();
        let bed = testbed::Cgroup::new();
        let mut tree = Tree::followed(&mount);
        assert!(tree.watch.is_some(), "the kernel tells of cgroups");
        let knows = |tree: &Tree, directory: &Path| {
            let path = below(&mount, directory);
            tree.paths.contains(&(depth(&path), path))
        };
        assert!(knows(&tree, bed.path()));
        // Deeper ones may be made before the first of them is heard of.
        let deepest = bed.path().join("a/b/c");
        fs::create_dir_all(&deepest).unwrap();
        assert!(!knows(&tree, &deepest));
        assert!(tree.is_fresh(Patience::Now));
        assert!(knows(&tree, &deepest) && knows(&tree, &bed.path().join("a/b")));
        fs::remove_dir(&deepest).unwrap();
        assert!(tree.is_fresh(Patience::Now));
        assert!(!knows(&tree, &deepest));
        // Made again under the same name, and below it.
        fs::create_dir(&deepest).unwrap();
        fs::create_dir(deepest.join("d")).unwrap();
        assert!(tree.is_fresh(Patience::Now));
        assert!(knows(&tree, &deepest.join("d")));
    }

    #[test]
    fn the_nearest_to_the_root_is_meant_and_knows_what_is_above_it() {
        let mount = CgroupTree::mounted().unwrap().mount().to_owned();
        let bed = testbed::Cgroup::new();
        let name = format!("fwnet-nearest-{}.service", std::process::id());
        let own = |path: &str| path.ends_with(&format!("/{name}"));
        for patience in [Patience::Now, Patience::Lately] {
            assert_eq!(find(&mount, own, patience), None);
            let deep = bed.child("deep");
            let far = deep.child(&name);
            assert_eq!(find(&mount, own, patience).unwrap().directory, far.path());
            let near = bed.child(&name);
            let home = find(&mount, own, patience).unwrap();
            assert_eq!(home.directory, near.path());
            assert_eq!(home.above.first(), Some(&fs::metadata(bed.path()).unwrap().ino()));
            assert!(!is_gone(&home));
            drop((near, far, deep));
            assert!(is_gone(&home));
        }
    }
}
