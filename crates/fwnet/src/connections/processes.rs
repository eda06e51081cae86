//! Who holds which socket: one walk over /proc/PID/fd (proc(5)).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use agent::connections::Process;
use kernel::Held;

use crate::names::exe_of;

/// What the walk found.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Processes that hold at least one of the sockets.
    pub(super) processes: Vec<Process>,
    /// Socket by inode, and the index of a process that holds it.
    pub(super) held: Vec<(u32, usize)>,
    /// Where one of them holds a socket, by inode.
    pub(super) places: BTreeMap<u32, Held>,
    /// Processes that we may not look into.
    pub(super) hidden: usize,
}

/// Walks over all processes for the sockets of these inodes, until `stop` is set. A thread that has unshared its
/// descriptors from its process's (unshare(2), CLONE_FILES) is not looked into.
pub(super) fn holders(wanted: &BTreeSet<u32>, stop: &AtomicBool) -> Walk {
    let mut walk = Walk::default();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let path = entry.path();
        match held(&path, wanted) {
            Ok(held) if held.is_empty() => {}
            Ok(held) => {
                let Some(process) = process(pid, &path) else { continue };
                let index = walk.processes.len();
                walk.processes.push(process);
                for (descriptor, inode) in held {
                    walk.held.push((inode, index));
                    walk.places.entry(inode).or_insert(Held { pid, descriptor, inode });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => walk.hidden += 1,
            // It has ended.
            Err(_) => {}
        }
    }
    walk
}

/// The sockets among `wanted` that a process holds, with their descriptors.
fn held(process: &Path, wanted: &BTreeSet<u32>) -> io::Result<Vec<(u32, u32)>> {
    Ok(sockets(process)?.filter(|(_, inode)| wanted.contains(inode)).collect())
}

/// The sockets that a process holds, by its directory in /proc: descriptor and inode.
///
/// # Errors
/// If it has ended, or we may not look into it.
pub(crate) fn sockets(process: &Path) -> io::Result<impl Iterator<Item = (u32, u32)> + use<>> {
    let socket = |descriptor: fs::DirEntry| {
        // Closed meanwhile.
        let target = fs::read_link(descriptor.path()).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        Some((descriptor.file_name().to_str()?.parse().ok()?, inode))
    };
    Ok(fs::read_dir(process.join("fd"))?.flatten().filter_map(socket))
}

/// What is known of one; `None` if it has ended.
fn process(pid: u32, path: &Path) -> Option<Process> {
    let read = |name: &str| fs::read(path.join(name)).ok();
    let stat = String::from_utf8_lossy(&read("stat")?).into_owned();
    let status = String::from_utf8_lossy(&read("status")?).into_owned();
    let exe = fs::read_link(path.join("exe")).ok();
    let command = read("cmdline").unwrap_or_default();
    Some(Process {
        pid,
        started: started(&stat)?,
        name: String::from_utf8_lossy(read("comm")?.trim_ascii_end()).into_owned(),
        exe: exe.map(|exe| exe.to_string_lossy().into_owned()),
        exe_id: exe_of(&path.join("exe")).unwrap_or(0),
        gid: group(&status)?,
        command: spelled(&command),
    })
}

/// Field 22 of /proc/PID/stat. The name in field 2 may hold blanks and parentheses of its own.
fn started(stat: &str) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The real group in /proc/PID/status.
fn group(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Gid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Arguments, joined by blanks.
fn spelled(command: &[u8]) -> String {
    let arguments: Vec<_> = command
        .split(|&byte| byte == 0)
        .filter(|argument| !argument.is_empty())
        .map(String::from_utf8_lossy)
        .collect();
    arguments.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_be_taken_for_another_field() {
        let stat = "77 (x) 9 (y) S 1 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 0 0";
        assert_eq!(started(stat), Some(123_456));
        assert_eq!(started("77 (x"), None);
        assert_eq!(group("Name:\tGid:\t9\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n"), Some(5));
        assert_eq!(spelled(b"a\0b c\0\0\xff\0"), "a b c \u{fffd}");
    }

    #[test]
    fn this_process_holds_its_own_listener() {
        use std::os::unix::fs::MetadataExt;
        let bed = testbed::Namespace::new();
        let listener = bed.inside(|| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&listener));
        let inode = u32::try_from(fs::metadata(path).unwrap().ino()).unwrap();
        let namespace = kernel::Netns::open(bed.name()).unwrap();
        let look = super::super::Look::at(&[namespace], &AtomicBool::new(false));
        let [connection] = &look.connections.list[..] else { panic!("one socket") };
        assert_eq!(connection.socket.inode, inode);
        let process = look.connections.process(connection).unwrap();
        assert_eq!(process.pid, std::process::id());
        assert_eq!(
            process.exe.as_deref(),
            std::env::current_exe().unwrap().to_str(),
            "{process:?}"
        );
        assert_ne!(process.exe_id, 0);
        assert!(look.connections.cgroup(connection).is_some());
        let stopped = super::super::Look::at(
            &[kernel::Netns::open(bed.name()).unwrap()],
            &AtomicBool::new(true),
        );
        assert!(stopped.connections.list.is_empty());
    }
}
