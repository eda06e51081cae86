//! Every network namespace that can be found: those that processes live in or that have a name, those that are mounted
//! anywhere, and those that nothing but a descriptor holds.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::PathBuf};

use kernel::Netns;

/// All of them, each once.
pub(crate) fn everywhere() -> Vec<Netns> {
    let mut found = Netns::found();
    let mut known: BTreeSet<u64> = found.iter().map(Netns::inode).collect();
    for path in mounted().into_iter().chain(held()) {
        let Some(path) = path.to_str() else { continue };
        // What ended meanwhile has no sockets left.
        if let Ok(namespace) = Netns::open(path)
            && known.insert(namespace.inode())
        {
            found.push(namespace);
        }
    }
    found
}

/// Where mounts of network namespaces are, by proc_pid_mountinfo(5).
fn mounted() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().filter_map(namespace_mount).collect()
}

fn namespace_mount(line: &str) -> Option<PathBuf> {
    let (place, kind) = line.split_once(" - ")?;
    let mut fields = place.split(' ').skip(3);
    let (root, mount) = (fields.next()?, fields.next()?);
    let is_one = kind.starts_with("nsfs ") && root.starts_with("net:[");
    is_one.then(|| PathBuf::from(mount.replace("\\040", " ").replace("\\134", "\\")))
}

/// Descriptors of network namespaces that processes hold.
fn held() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut inodes = BTreeSet::new();
    // All namespaces are files of one file system.
    let Ok(own) = fs::metadata("/proc/self/ns/net") else { return found };
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let is_process =
            process.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        if !is_process {
            continue;
        }
        let descriptors = fs::read_dir(process.path().join("fd"));
        for descriptor in descriptors.into_iter().flatten().flatten() {
            let path = descriptor.path();
            // What a descriptor's link says depends on the way it was opened, but these three are never namespaces.
            let target = fs::read_link(&path).unwrap_or_default();
            let is = |kind: &str| target.to_str().is_some_and(|target| target.starts_with(kind));
            if ["socket:", "pipe:", "anon_inode:"].into_iter().any(is) {
                continue;
            }
            let is_one = |found: &fs::Metadata| found.dev() == own.dev();
            if let Some(found_one) = fs::metadata(&path).ok().filter(is_one)
                && inodes.insert(found_one.ino())
            {
                found.push(path);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_only_a_descriptor_holds_is_found() {
        let bed = testbed::Namespace::new();
        let held = fs::File::open(bed.path()).unwrap();
        let inode = Netns::open(bed.name()).unwrap().inode();
        drop(bed);
        assert!(!Netns::found().iter().any(|namespace| namespace.inode() == inode));
        assert!(everywhere().iter().any(|namespace| namespace.inode() == inode));
        drop(held);
    }

    #[test]
    fn mounts_of_network_namespaces_are_told_from_others() {
        let line = |root: &str, kind: &str| {
            format!("89 23 0:4 {root} /run/a\\040b rw shared:9 - {kind} nsfs rw")
        };
        let found = |root, kind| namespace_mount(&line(root, kind));
        assert_eq!(found("net:[4026532201]", "nsfs"), Some(PathBuf::from("/run/a b")));
        assert_eq!(found("mnt:[4026532201]", "nsfs"), None);
        assert_eq!(found("/net:[4026532201]", "ext4"), None);
    }
}
