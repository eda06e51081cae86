//! Sets of pinned programs: a directory in a BPF file system for each, which outlives whoever made it.
//!
//! `DIR/set-N/maps/NAME` and `DIR/set-N/links/HOOK` or `HOOK-INODE` for a hook in a network namespace. The map `META`
//! says what the set is, and whether it is complete: a set that is not is what a loader that died has left. Of several
//! complete sets the one with the highest number is the one that was meant to stay.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::statfs,
    mount::{MountFlags, UnmountFlags, mount, unmount},
};
use verdict::abi::EXE_PATH;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{fields::Fields, sys};

/// `BPF_FS_MAGIC` (include/uapi/linux/magic.h).
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// Where systemd mounts the machine's BPF file system.
const SYSTEM: &str = "/sys/fs/bpf";
const PREFIX: &str = "set-";

/// Why the directory for pinned programs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// It cannot be made, mounted, read or written.
    #[error("{what} {}", path.display())]
    Path {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it did not work.
        #[source]
        source: io::Error,
    },
    /// Another process keeps it.
    #[error("{} is kept by another agent", path.display())]
    Held {
        /// The directory.
        path: PathBuf,
    },
    /// There is nothing of ours in it.
    #[error("nothing is pinned in {}", path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
}

impl PinError {
    pub(crate) fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Path { what, path, source }
    }
}

/// What a set is: the value of its map `META`. The first two fields stay where they are in every ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Meta {
    /// [`verdict::abi::ABI`] of its programs and maps.
    pub(crate) abi: u32,
    /// 1 once everything is attached and pinned.
    pub(crate) complete: u32,
    pub(crate) slot_lines: u32,
    pub(crate) slot_rules: u32,
    pub(crate) features: u32,
    pub(crate) event_bytes: u32,
    pub(crate) cgroup_level: u32,
    /// 1 where what comes in is judged in every network namespace.
    pub(crate) everywhere: u32,
    pub(crate) cgroup: u64,
    /// The running kernel's, see [`EXE_PATH`]: pins do not outlive it.
    pub(crate) exe_offsets: [u32; EXE_PATH],
    /// BLAKE3 of the object that its programs come from.
    pub(crate) object: [u8; 32],
    /// The running kernel's, too.
    pub(crate) fields: Fields,
    pub(crate) accept_errno: u32,
    /// Zero.
    pub(crate) padding: u32,
}

/// The directory that an agent keeps its sets in, locked for as long as this value lives.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    lock: Option<Arc<File>>,
}

impl Directory {
    /// Opens it; makes it, and mounts a BPF file system there, where it is missing.
    pub(crate) fn make(path: &Path) -> Result<Self, PinError> {
        prepare(path)?;
        Self::open(path, true)
    }

    /// Opens it; with `lock` nobody else may keep it.
    pub(crate) fn open(path: &Path, lock: bool) -> Result<Self, PinError> {
        if !on_bpf_file_system(path) {
            return Err(PinError::Empty { path: path.to_owned() });
        }
        let lock = if lock { Some(Arc::new(locked(path)?)) } else { None };
        Ok(Self { path: path.to_owned(), lock })
    }

    /// Makes the directory of a set again, and the file system that it was in, after somebody took them away.
    pub(crate) fn restore(&mut self, set: &Set) -> Result<(), PinError> {
        if !on_bpf_file_system(&self.path) {
            prepare(&self.path)?;
            self.lock = Some(Arc::new(locked(&self.path)?));
        }
        for directory in [set.path.clone(), set.maps(), set.links()] {
            if !directory.exists() {
                fs::create_dir(&directory).map_err(PinError::at("make", &directory))?;
            }
        }
        Ok(())
    }

    /// Its sets, ordered by number.
    pub(crate) fn sets(&self) -> Result<Vec<Set>, PinError> {
        let mut sets = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(PinError::at("list", &self.path))? {
            let entry = entry.map_err(PinError::at("list", &self.path))?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
            sets.extend(number.map(|number| Set { path: entry.path(), number }));
        }
        sets.sort_unstable_by_key(|set| set.number);
        Ok(sets)
    }

    /// A new set with the highest number.
    pub(crate) fn add(&self) -> Result<Set, PinError> {
        let number = self.sets()?.last().map_or(1, |last| last.number + 1);
        let set = Set { path: self.path.join(format!("{PREFIX}{number}")), number };
        for directory in [set.path.clone(), set.maps(), set.links()] {
            fs::create_dir(&directory).map_err(PinError::at("make", &directory))?;
        }
        Ok(set)
    }

    /// Takes the directory away when nothing is left in it, and unmounts the file system that was mounted for it.
    pub(crate) fn remove(self) -> Result<(), PinError> {
        let Self { path, lock } = self;
        drop(lock);
        if is_mount_point(&path) && path != Path::new(SYSTEM) {
            return unmount(&path, UnmountFlags::empty())
                .map_err(|errno| PinError::at("unmount", &path)(errno.into()));
        }
        match fs::remove_dir(&path) {
            // Somebody else's pins stay where they are.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            done => done.map_err(PinError::at("remove", &path)),
        }
    }
}

/// One directory of pinned maps and links.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    path: PathBuf,
    number: u64,
}

impl Set {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn maps(&self) -> PathBuf {
        self.path.join("maps")
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.path.join("links")
    }

    /// What it says of itself; `None` where that is not there or of another make.
    pub(crate) fn meta(&self) -> Option<Meta> {
        let map = sys::pinned(&self.maps().join("META")).ok()?;
        let mut bytes = sys::array_get(map.as_fd()).ok()?;
        // What begins as ours and goes on otherwise is another ABI's: of that only the beginning is looked at.
        bytes.resize(size_of::<Meta>(), 0);
        Meta::read_from_bytes(&bytes).ok()
    }

    pub(crate) fn set_meta(&self, meta: Meta) -> Result<(), PinError> {
        let path = self.maps().join("META");
        let write = || -> io::Result<()> {
            let map = match sys::pinned(&path) {
                Ok(map) => map,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let size = u32::try_from(size_of::<Meta>()).map_err(io::Error::other)?;
                    let map = sys::array_create(size, None)?;
                    sys::pin(map.as_fd(), &path)?;
                    map
                }
                Err(error) => return Err(error),
            };
            sys::array_set(map.as_fd(), meta.as_bytes().to_vec())
        };
        write().map_err(PinError::at("write", &path))
    }

    /// Its directories, and that of all sets.
    pub(crate) fn directories(&self) -> impl Iterator<Item = PathBuf> {
        let all = self.path.parent().map(Path::to_owned);
        [self.path.clone(), self.maps(), self.links()].into_iter().chain(all)
    }

    /// Where the word is that says what is in force.
    pub(crate) fn control(&self) -> Result<OwnedFd, PinError> {
        let path = self.maps().join("CONTROL");
        sys::pinned(&path).map_err(PinError::at("open", &path))
    }

    /// The kernel's numbers of everything that is pinned: links, programs, maps.
    pub(crate) fn objects(&self) -> Result<Objects, PinError> {
        let mut objects = Objects::default();
        for (name, link) in self.pinned_links()? {
            let info = sys::link_info(link.as_fd(), false);
            let info = info.map_err(PinError::at("ask for", &self.links().join(&name)))?;
            objects.links.push(info.id);
            objects.programs.push(info.program);
        }
        for entry in fs::read_dir(self.maps()).into_iter().flatten().flatten() {
            let path = entry.path();
            let map = sys::pinned(&path).map_err(PinError::at("open", &path))?;
            objects.maps.push(sys::object_id(map.as_fd()).map_err(PinError::at("ask for", &path))?);
        }
        Ok(objects)
    }

    /// The pinned links by file name.
    pub(crate) fn pinned_links(&self) -> Result<Vec<(String, OwnedFd)>, PinError> {
        let directory = self.links();
        let mut links = Vec::new();
        for entry in fs::read_dir(&directory).map_err(PinError::at("list", &directory))? {
            let path = entry.map_err(PinError::at("list", &directory))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            links.push((name, sys::pinned(&path).map_err(PinError::at("open", &path))?));
        }
        links.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Ok(links)
    }

    /// Unpins everything of it: links first, so that nothing judges without its maps.
    pub(crate) fn remove(&self) -> Result<(), PinError> {
        for directory in [self.links(), self.maps()] {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let path = entry.path();
                fs::remove_file(&path).map_err(PinError::at("remove", &path))?;
            }
            remove_directory(&directory)?;
        }
        remove_directory(&self.path)
    }
}

fn remove_directory(path: &Path) -> Result<(), PinError> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(PinError::at("remove", path)),
    }
}

fn is_mount_point(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
    match (device(path), path.parent().map(device)) {
        (Ok(own), Some(Ok(above))) => own != above,
        _ => false,
    }
}

fn on_bpf_file_system(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.f_type == BPF_FS_MAGIC)
}

/// Makes sure that `path` is a directory in a BPF file system: below the machine's own one, or in one that is mounted
/// there for it, readable by root alone.
fn prepare(path: &Path) -> Result<(), PinError> {
    let system = Path::new(SYSTEM);
    if path.starts_with(system) && !on_bpf_file_system(system) {
        mount_at(system)?;
    }
    if on_bpf_file_system(path) {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).map_err(PinError::at("make", path))?;
    if on_bpf_file_system(path) { Ok(()) } else { mount_at(path) }
}

fn mount_at(path: &Path) -> Result<(), PinError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("bpf", path, "bpf", flags, Some(c"mode=0700"))
        .map_err(|errno| PinError::at("mount a BPF file system on", path)(errno.into()))
}

fn locked(path: &Path) -> Result<File, PinError> {
    let file = File::open(path).map_err(PinError::at("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(PinError::Held { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(PinError::at("lock", path)(source)),
    }
}

/// Numbers that the kernel knows objects by; none is given twice while the machine runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Objects {
    pub(crate) links: Vec<u32>,
    pub(crate) programs: Vec<u32>,
    pub(crate) maps: Vec<u32>,
}
