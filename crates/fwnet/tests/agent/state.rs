//! What the agent does when its disk is full, cannot be written, or gives back something else than was written.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::{
    mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount},
    process::{Pid, Signal, kill_process},
};
use serde_json::json;
use testbed::{Host, wait_until};

use crate::{
    fixture::Bed,
    shared::{DEADLINE, EACCES, Echo, connect_errno, host, on},
};

/// Something mounted on a directory, until the end of this value.
struct Mounted(PathBuf);

impl Mounted {
    /// A file system in memory with so little room.
    fn small(at: PathBuf, options: &std::ffi::CStr) -> Self {
        fs::create_dir_all(&at).unwrap();
        mount("tmpfs", &at, "tmpfs", MountFlags::empty(), options).unwrap();
        Self(at)
    }

    /// The directory itself, so that nothing in it can be written, not even by root.
    fn read_only(at: PathBuf) -> Self {
        mount_bind(&at, &at).unwrap();
        let mounted = Self(at);
        mount_remount(&mounted.0, MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
        mounted
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _unmounted = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn denied(host: &Host, to: &str) -> bool {
    on(host, || connect_errno(to)) == Some(EACCES)
}

/// Everything that is left of the room of a file system.
fn fill(path: &Path) {
    let mut size = 1 << 20;
    let mut number = 0;
    while size > 0 {
        match fs::write(path.with_extension(number.to_string()), vec![0u8; size]) {
            Ok(()) => number += 1,
            Err(_full) => size /= 2,
        }
    }
}

#[test]
fn a_full_disk_changes_nothing_and_is_told() {
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let bed = Bed::new(&host);
    let _small = Mounted::small(bed.path("state"), c"size=1m");
    bed.up(&["--deny", "127.0.0.2"]);
    bed.done(&["deny", "add", "127.0.0.3"]);
    fill(&bed.path("state/filler"));
    for verb in [["deny", "add", "127.0.0.4"], ["deny", "rm", "127.0.0.3"]] {
        let says = bed.refused(&verb, 1);
        assert!(
            says.contains("write lists.deny; nothing is changed: No space left on device"),
            "{says}"
        );
    }
    assert!(denied(&host, "127.0.0.2:20000") && denied(&host, "127.0.0.3:20000"));
    assert!(!denied(&host, "127.0.0.4:20000"));
    let told = |text: &str| bed.status()["state"].to_string().contains(text);
    assert!(told("No space left on device"), "{:#}", bed.status());
    // The agent ends and begins on the full disk, and goes on enforcing.
    bed.signal(Signal::KILL);
    bed.start_again();
    assert!(denied(&host, "127.0.0.2:20000") && denied(&host, "127.0.0.3:20000"));
    for entry in fs::read_dir(bed.path("state")).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("filler") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    bed.done(&["deny", "add", "127.0.0.4"]);
    assert!(denied(&host, "127.0.0.4:20000"));
    assert_eq!(bed.status()["state"], json!([]));
}

#[test]
fn a_state_that_cannot_be_written_is_enforced_and_told() {
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.2"]);
    bed.done(&["deny", "add", "127.0.0.3"]);
    bed.signal(Signal::KILL);
    let read_only = Mounted::read_only(bed.path("state"));
    bed.start_again();
    assert!(denied(&host, "127.0.0.2:20000") && denied(&host, "127.0.0.3:20000"));
    assert!(
        bed.status()["state"].to_string().contains("Read-only file system"),
        "{:#}",
        bed.status()
    );
    let says = bed.refused(&["deny", "add", "127.0.0.4"], 1);
    assert!(says.contains("nothing is changed: Read-only file system"), "{says}");
    assert!(!denied(&host, "127.0.0.4:20000"));
    // The lock names nobody on a disk that cannot be written.
    let pid = i32::try_from(bed.status()["pid"].as_i64().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    wait_until(DEADLINE, "the end of the agent", || !bed.call(&["status"]).status.success());
    drop(read_only);
    bed.start_again();
    bed.done(&["deny", "add", "127.0.0.4"]);
    assert_eq!(bed.status()["state"], json!([]));
}

#[test]
fn damaged_files_are_told_and_the_last_good_ones_are_used() {
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.2"]);
    bed.done(&["deny", "add", "127.0.0.3"]);
    bed.done(&["deny", "add", "127.0.0.4"]);
    let entries = bed.path("state/lists.deny");
    let whole = fs::read(&entries).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    let torn = [&whole[..whole.len() - 30], &[0; 30]].concat();
    for (content, said) in [
        (torn, "it is torn: its digest is not that of its content"),
        (whole[..200].to_vec(), "it is truncated"),
        (text.replace("entries 1 ", "entries 0 ").into_bytes(), "an older fwnet (version 0"),
        (text.replace("entries 1 ", "entries 9 ").into_bytes(), "a newer fwnet (version 9"),
        (b"#!/bin/sh\n".to_vec(), "it is no state of fwnet"),
    ] {
        bed.signal(Signal::KILL);
        fs::write(&entries, content).unwrap();
        bed.start_again();
        let told = bed.status()["state"].to_string();
        assert!(told.contains(said) && told.contains("lists.deny.last is used instead"), "{told}");
        assert!(denied(&host, "127.0.0.2:20000") && denied(&host, "127.0.0.3:20000"));
        wait_until(DEADLINE, "the entries before", || !denied(&host, "127.0.0.4:20000"));
    }
    // A change takes the place of what could not be used, and all is well.
    bed.done(&["deny", "add", "127.0.0.5"]);
    assert_eq!(bed.status()["state"], json!([]));
    assert_eq!(fs::read(bed.path("state/lists.deny.unusable")).unwrap(), b"#!/bin/sh\n");
    bed.signal(Signal::KILL);
    bed.start_again();
    assert_eq!(bed.status()["state"], json!([]));
    assert!(denied(&host, "127.0.0.3:20000") && denied(&host, "127.0.0.5:20000"));
}

#[test]
fn a_policy_that_is_torn_gives_way_to_the_one_before_it() {
    let host = host();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let bed = Bed::new(&host);
    bed.up(&["--policy", &bed.file("first.fwnet", "deny any -> 127.0.0.2\n")]);
    bed.done(&["apply", &bed.file("second.fwnet", "deny any -> 127.0.0.3\n")]);
    let current = bed.path("state/policy.current");
    let whole = fs::read(&current).unwrap();
    for content in [&whole[..whole.len() / 2], &[]] {
        bed.signal(Signal::KILL);
        fs::write(&current, content).unwrap();
        bed.start_again();
        assert!(denied(&host, "127.0.0.2:20000") && !denied(&host, "127.0.0.3:20000"));
        let status = bed.status();
        let told = status["state"].to_string();
        assert!(told.contains("policy.current: it is truncated"), "{told}");
        assert!(told.contains("policy.previous is used instead"), "{told}");
        assert_eq!(status["policy"]["version"], 1);
    }
    bed.done(&["apply", &bed.file("third.fwnet", "deny any -> 127.0.0.4\n")]);
    assert!(denied(&host, "127.0.0.4:20000") && !denied(&host, "127.0.0.2:20000"));
    assert_eq!(bed.status()["state"], json!([]));
}
