//! One cgroup of the version 2 hierarchy: made, populated, emptied, removed.

use crate::{name, process};
use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A killed process leaves its cgroup when it has run through exit: milliseconds, more on a busy machine.
const EMPTY_DEADLINE: Duration = Duration::from_secs(10);

/// Writes the shell's own id into the file `$0`, then becomes the program: nothing of the program runs before.
const ENTER_SCRIPT: &str = r#"echo $$ > "$0" && exec "$@""#;

/// Held by the thread that has moved the process into a cgroup.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

thread_local! {
    /// Whether this thread has.
    static VISITS: Cell<bool> = const { Cell::new(false) };
}

/// Starts something while no other thread has moved the process into its cgroup: it would be a member of that one, judged
/// there, and ended with it.
pub(crate) fn between_visits<T>(start: impl FnOnce() -> T) -> T {
    let _turn =
        (!VISITS.get()).then(|| ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner));
    start()
}

/// A child of the cgroup v2 root, without controllers. Its end ends every process inside it and its children, and
/// removes them.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes one.
    ///
    /// # Panics
    /// Unless root, and if no cgroup v2 hierarchy is mounted or it is read-only.
    #[track_caller]
    #[expect(
        clippy::new_without_default,
        reason = "making a cgroup changes the machine: no default does that"
    )]
    pub fn new() -> Self {
        let path = mount_point().join(name::next());
        fs::create_dir(&path)
            .unwrap_or_else(|error| panic!("make cgroup {}: {error}", path.display()));
        Self { path }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A cgroup below this one. It may end before its parent or after: the parent takes it along.
    ///
    /// # Panics
    /// If `name` is taken or not one path component.
    #[track_caller]
    pub fn child(&self, name: &str) -> Self {
        assert!(
            !name.is_empty() && name != "." && name != ".." && !name.contains('/'),
            "{name:?} is not one name"
        );
        let path = self.path.join(name);
        fs::create_dir(&path)
            .unwrap_or_else(|error| panic!("make cgroup {}: {error}", path.display()));
        Self { path }
    }

    /// Ids of the processes in this cgroup, without its children's.
    pub fn processes(&self) -> Vec<u32> {
        processes(&self.path)
    }

    /// A command that runs `program` inside the cgroup from its very first instruction; arguments may be added as to
    /// any [`Command`]. A missing program shows as exit status 127, not as an error of `spawn`.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(ENTER_SCRIPT).arg(self.path.join("cgroup.procs")).arg(program);
        command
    }

    /// Moves the whole calling process, every thread of it, into this cgroup until the returned value ends; then it goes
    /// back to where it was. Visits of one process, to whatever cgroup, happen one after the other.
    ///
    /// # Panics
    /// If the process cannot be moved.
    #[track_caller]
    #[must_use = "the process goes back as soon as the visit ends"]
    pub fn enter_current_process(&self) -> Visit<'_> {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let home = own_cgroup();
        join(&self.path)
            .unwrap_or_else(|error| panic!("enter cgroup {}: {error}", self.path.display()));
        VISITS.set(true);
        Visit { home, _cgroup: self, _turn: turn }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// The calling process's stay in a [`Cgroup`]; its end takes the process back.
#[derive(Debug)]
pub struct Visit<'a> {
    home: PathBuf,
    /// The cgroup cannot be removed during the visit.
    _cgroup: &'a Cgroup,
    _turn: MutexGuard<'static, ()>,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        VISITS.set(false);
        if let Err(error) = join(&self.home) {
            eprintln!(
                "testbed: this process stays away from cgroup {}: {error}",
                self.home.display()
            );
        }
    }
}

/// Moves the calling process to the cgroup with the directory `path` (cgroups(7): 0 stands for the writer).
fn join(path: &Path) -> io::Result<()> {
    fs::write(path.join("cgroup.procs"), "0")
}

fn processes(path: &Path) -> Vec<u32> {
    let listing = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    listing.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The calling process's own cgroup v2 directory.
#[track_caller]
fn own_cgroup() -> PathBuf {
    let listing = fs::read_to_string("/proc/self/cgroup")
        .unwrap_or_else(|error| panic!("read own cgroup: {error}"));
    let path =
        listing.lines().find_map(|line| line.strip_prefix("0::/")).expect("cgroup v2 is mounted");
    mount_point().join(path)
}

/// The path of the cgroup v2 hierarchy: `/sys/fs/cgroup` (unified) or `/sys/fs/cgroup/unified` (hybrid), as a rule.
#[track_caller]
fn mount_point() -> PathBuf {
    let table = fs::read("/proc/self/mountinfo")
        .unwrap_or_else(|error| panic!("read the mount table: {error}"));
    parse_mount_point(&table)
        .expect("a cgroup v2 hierarchy is mounted (mount -t cgroup2 none /sys/fs/cgroup)")
}

/// Finds the first mount of type cgroup2 (proc(5), `/proc/PID/mountinfo`: the mount point is field 5, the type comes
/// after a lone dash).
fn parse_mount_point(table: &[u8]) -> Option<PathBuf> {
    table.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let point = fields.nth(4)?;
        fields.find(|field| *field == b"-")?;
        (fields.next()? == b"cgroup2").then(|| PathBuf::from(OsString::from_vec(unescape(point))))
    })
}

/// Undoes the mount table's `\040` for a blank and its kin.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if first == b'\\' => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        plain.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    plain
}

/// Every cgroup of the tree at `path`, children before their parents.
fn tree(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.append(&mut tree(&entry.path()));
        }
    }
    found.push(path.to_owned());
    found
}

/// Ends what is inside and removes the tree.
fn remove(path: &Path) {
    let start = Instant::now();
    loop {
        if !path.exists() {
            return;
        }
        end_processes(path);
        let stays = tree(path).iter().find_map(|cgroup| fs::remove_dir(cgroup).err());
        match stays {
            None => return,
            Some(error) if error.kind() == io::ErrorKind::NotFound => {}
            Some(error) if start.elapsed() >= EMPTY_DEADLINE => {
                eprintln!("testbed: cgroup {} stays: {error}", path.display());
                return;
            }
            // Busy: what was killed has not left yet.
            Some(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Kills every process of the tree but the calling one, which is moved out.
fn end_processes(path: &Path) {
    let own = std::process::id();
    let cgroups = tree(path);
    if cgroups.iter().any(|cgroup| processes(cgroup).contains(&own))
        && let Some(parent) = path.parent()
    {
        let _ = join(parent);
    }
    // One write ends the whole tree, forks in flight included (Linux 5.14); before that, one by one and again.
    if fs::write(path.join("cgroup.kill"), "1").is_err() {
        for cgroup in cgroups {
            for pid in processes(&cgroup) {
                process::end(pid, || processes(&cgroup).contains(&pid));
            }
        }
    }
}

/// Removes the cgroups of makers that no longer run.
pub(crate) fn sweep() {
    let root = mount_point();
    for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(name::is_left_over) {
            remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_in_either_layout() {
        let unified =
            b"35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let hybrid = b"31 23 0:28 / /sys/fs/cgroup rw shared:1 master:2 - tmpfs tmpfs rw\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n";
        let odd = b"41 31 0:38 / /mnt/a\\040b\\134c rw - cgroup2 none rw\n";
        assert_eq!(parse_mount_point(unified), Some(PathBuf::from("/sys/fs/cgroup")));
        assert_eq!(parse_mount_point(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(parse_mount_point(odd), Some(PathBuf::from("/mnt/a b\\c")));
        assert_eq!(parse_mount_point(b"22 27 0:21 / /proc rw,relatime - proc proc rw\n"), None);
    }
}
