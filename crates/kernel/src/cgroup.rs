//! The cgroup v2 hierarchy: where it is mounted, and cgroups to attach to.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::fstatfs;

/// `CGROUP2_SUPER_MAGIC` (include/uapi/linux/magic.h).
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// Why there is no cgroup to attach to.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The kernel's list of mounts cannot be read.
    #[error("read /proc/self/mountinfo")]
    Mounts(#[source] io::Error),
    /// No cgroup v2 is mounted, neither alone nor beside cgroup v1.
    #[error("no cgroup v2 hierarchy is mounted (mount -t cgroup2 none /sys/fs/cgroup)")]
    NotMounted,
    /// The path cannot be opened.
    #[error("open cgroup {path}")]
    Open {
        /// The path as given.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The path is not a cgroup v2 directory.
    #[error("{path} is not a cgroup v2 directory")]
    Foreign {
        /// The path as given.
        path: PathBuf,
    },
}

/// An open cgroup.
#[derive(Debug)]
pub struct Cgroup {
    directory: File,
    path: PathBuf,
    id: u64,
    level: u32,
}

impl Cgroup {
    /// Opens a cgroup v2 directory.
    ///
    /// # Errors
    /// [`CgroupError::Open`] where it is not there, [`CgroupError::Foreign`] where it is something else.
    pub fn open(path: &Path) -> Result<Self, CgroupError> {
        let failed = |source| CgroupError::Open { path: path.to_owned(), source };
        let directory = File::open(path).map_err(failed)?;
        let kind = fstatfs(&directory).map_err(|errno| failed(errno.into()))?;
        let metadata = directory.metadata().map_err(failed)?;
        if kind.f_type != CGROUP2_MAGIC || !metadata.is_dir() {
            return Err(CgroupError::Foreign { path: path.to_owned() });
        }
        Ok(Self { directory, path: path.to_owned(), id: metadata.ino(), level: level(path) })
    }

    /// The root of the mounted hierarchy.
    ///
    /// # Errors
    /// Where there is none.
    pub fn root() -> Result<Self, CgroupError> {
        Self::open(&CgroupTree::mounted()?.mount)
    }

    /// Opens what is at its path now: after a cgroup was removed, the one that was made in its place.
    ///
    /// # Errors
    /// Where there is none.
    pub(crate) fn reopen(&mut self) -> Result<(), CgroupError> {
        *self = Self::open(&self.path)?;
        Ok(())
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many cgroups are above it; 0 is the root.
    pub(crate) fn level(&self) -> u32 {
        self.level
    }

    /// The kernel's id, which is the directory's inode number on 64-bit kernels.
    pub fn id(&self) -> u64 {
        self.id
    }
}

/// Depth below the mount; 0 where the path cannot be resolved.
fn level(path: &Path) -> u32 {
    let (Ok(tree), Ok(full)) = (CgroupTree::mounted(), fs::canonicalize(path)) else { return 0 };
    let depth = full.strip_prefix(&tree.mount).map_or(0, |below| below.components().count());
    u32::try_from(depth).unwrap_or(0)
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// The mounted hierarchy.
#[derive(Clone, Debug)]
pub struct CgroupTree {
    mount: PathBuf,
}

impl CgroupTree {
    /// Finds the cgroup v2 mount: /sys/fs/cgroup where v2 is alone, usually /sys/fs/cgroup/unified beside v1.
    ///
    /// # Errors
    /// [`CgroupError::NotMounted`] where there is none.
    pub fn mounted() -> Result<Self, CgroupError> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(CgroupError::Mounts)?;
        mounts
            .lines()
            .find_map(cgroup2_mount)
            .map(|mount| Self { mount })
            .ok_or(CgroupError::NotMounted)
    }

    /// Where it is mounted.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The cgroup with this id, as a path below the mount that begins with `/`. Walks the hierarchy: callers that ask
    /// often remember the answers.
    pub fn path_of(&self, id: u64) -> Option<String> {
        let mut open = vec![self.mount.clone()];
        while let Some(directory) = open.pop() {
            let found = fs::metadata(&directory).is_ok_and(|metadata| metadata.ino() == id);
            if found {
                let below = directory.strip_prefix(&self.mount).unwrap_or(&directory);
                return Some(format!("/{}", below.display()));
            }
            let children = fs::read_dir(&directory).into_iter().flatten().flatten();
            open.extend(
                children
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| entry.path()),
            );
        }
        None
    }
}

/// The mount point of a line of mountinfo (proc_pid_mountinfo(5)) if it is a cgroup2 mount of the hierarchy's root.
fn cgroup2_mount(line: &str) -> Option<PathBuf> {
    let (place, kind) = line.split_once(" - ")?;
    if kind.split(' ').next() != Some("cgroup2") {
        return None;
    }
    let mut fields = place.split(' ').skip(3);
    let (root, mount) = (fields.next()?, fields.next()?);
    (root == "/").then(|| PathBuf::from(mount.replace("\\040", " ").replace("\\134", "\\")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_are_found() {
        let hybrid =
            "35 28 0:29 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        let unified = "31 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
        let first = "34 28 0:28 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu";
        let part = "99 28 0:29 /inner /mnt rw - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_mount(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(cgroup2_mount(unified), Some("/sys/fs/cgroup".into()));
        assert_eq!(cgroup2_mount(first), None);
        assert_eq!(cgroup2_mount(part), None);
    }

    #[test]
    fn other_directories_are_refused_by_name() {
        let error = Cgroup::open(Path::new("/proc")).expect_err("not a cgroup");
        assert_eq!(error.to_string(), "/proc is not a cgroup v2 directory");
        let error = Cgroup::open(Path::new("/no/such")).expect_err("not there");
        assert_eq!(error.to_string(), "open cgroup /no/such");
    }
}
