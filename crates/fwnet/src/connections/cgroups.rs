//! The cgroups that sockets were created in, by their ids: one walk over the hierarchy, which ends once all are found.

use std::{
    collections::BTreeSet, fs, os::unix::fs::DirEntryExt, os::unix::fs::MetadataExt, path::PathBuf,
};

use agent::connections::{Cgroup, Socket};
use kernel::CgroupTree;

/// Those of `sockets`. A cgroup that is gone is not among them, nor is any where no cgroup v2 is mounted.
pub(super) fn of(sockets: &[Socket]) -> Vec<Cgroup> {
    let mut wanted: BTreeSet<u64> =
        sockets.iter().map(|socket| socket.cgroup).filter(|&id| id != 0).collect();
    let Ok(tree) = CgroupTree::mounted() else { return Vec::new() };
    let Ok(root) = fs::metadata(tree.mount()) else { return Vec::new() };
    let mut found = Vec::new();
    let mut level: Vec<(PathBuf, String, Vec<u64>)> =
        vec![(tree.mount().to_owned(), String::new(), vec![root.ino()])];
    // Level by level: most sockets belong to units, which are near the root.
    while !level.is_empty() && !wanted.is_empty() {
        for (_, path, line) in &level {
            let Some(&id) = line.last() else { continue };
            if wanted.remove(&id) {
                let path = if path.is_empty() { "/".to_owned() } else { path.clone() };
                found.push(Cgroup { id, path, line: line.clone() });
            }
        }
        if wanted.is_empty() {
            break;
        }
        level = level.iter().flat_map(below).collect();
    }
    found
}

/// The cgroups directly below one. Their inode numbers are their ids (`kernfs_id` on 64-bit kernels).
fn below(
    (directory, path, line): &(PathBuf, String, Vec<u64>),
) -> Vec<(PathBuf, String, Vec<u64>)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let line = line.iter().copied().chain([entry.ino()]).collect();
            (entry.path(), format!("{path}/{name}"), line)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_has_its_path_and_those_above_it() {
        let group = testbed::Cgroup::new();
        let own = fs::metadata(group.path()).unwrap().ino();
        let sub = group.path().join("sub");
        fs::create_dir(&sub).unwrap();
        let id = fs::metadata(&sub).unwrap().ino();
        let tree = CgroupTree::mounted().unwrap();
        let root = fs::metadata(tree.mount()).unwrap().ino();
        let socket = |cgroup| crate::connections::tests_socket(cgroup);
        let found = of(&[socket(id), socket(1 << 60), socket(0), socket(root)]);
        fs::remove_dir(&sub).unwrap();
        let expected = format!("/{}", sub.strip_prefix(tree.mount()).unwrap().display());
        let paths: Vec<_> = found.iter().map(|one| (one.id, one.path.as_str())).collect();
        assert_eq!(paths, [(root, "/"), (id, &*expected)]);
        let line = &found[1].line;
        assert_eq!((line.first(), line.last()), (Some(&root), Some(&id)));
        assert!(line.contains(&own));
    }
}
