//! A directory of the test's own, for state and for what is mounted below it.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use rustix::mount::{UnmountFlags, unmount};

use crate::name;

/// An empty directory that goes with this value, with everything in it and everything that was mounted there.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Makes one.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "it makes something outside of the process")]
    pub fn new() -> Self {
        let path = env::temp_dir().join(name::next());
        fs::create_dir(&path).unwrap_or_else(|error| panic!("make {}: {error}", path.display()));
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Unmounts and removes what is left of a directory; what another process still uses is left to the next sweep.
fn remove(path: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    let mut below: Vec<&Path> = points.filter(|point| point.starts_with(path)).collect();
    below.reverse();
    for point in below {
        let _left = unmount(point, UnmountFlags::DETACH);
    }
    let _left = fs::remove_dir_all(path);
}

/// Removes the directories of makers that were killed.
pub(crate) fn sweep() {
    for entry in fs::read_dir(env::temp_dir()).into_iter().flatten().flatten() {
        if name::is_left_over(&entry.file_name().to_string_lossy()) {
            remove(&entry.path());
        }
    }
}
