//! Nothing is left behind: not by a drop, not by a panic, not by a killed process.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as its test does")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs, panic, thread};
use testbed::{Host, Namespace, Network, Running, sweep, wait_until};

const DEADLINE: Duration = Duration::from_secs(20);

/// Set in the process that is made to be killed.
const VICTIM: &str = "FWNET_TESTBED_VICTIM";

fn parts(host: &Host) -> [PathBuf; 2] {
    [host.namespace.path().to_owned(), host.cgroup.path().to_owned()]
}

#[track_caller]
fn assert_gone(paths: &[PathBuf]) {
    for path in paths {
        assert!(!path.exists(), "{} is left behind", path.display());
    }
}

/// Gone, or dead and waiting for its parent to notice.
fn is_dead(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

/// A process that nobody holds, which no hang-up or closed pipe ends.
fn stray(host: &Host) -> u32 {
    let mut running = host.start(
        "sh",
        ["-c", "setsid sh -c 'echo stray $$; exec sleep 1000 </dev/null >/dev/null 2>&1'"],
    );
    let line = running.wait_for_line("stray", DEADLINE);
    let pid = line.strip_prefix("stray ").unwrap().parse().unwrap();
    assert!(running.exit_status().is_none());
    drop(running);
    assert!(!is_dead(pid), "setsid left the process group, so the stray outlives its starter");
    pid
}

#[test]
fn a_drop_removes_everything_and_ends_what_runs_inside() {
    let host = Host::new();
    let inner = host.cgroup.child("inner");
    let deeper = inner.child("deeper");
    let running = Running::start({
        let mut command = deeper.command("sleep");
        command.arg("1000");
        command
    });
    let pid = stray(&host);
    let paths = parts(&host);
    wait_until(DEADLINE, "the sleeper in its cgroup", || deeper.processes() == [running.pid()]);
    drop(host);
    assert_gone(&paths);
    wait_until(DEADLINE, "the end of both", || is_dead(pid) && is_dead(running.pid()));
    // Their parent took them along; their own ends find nothing to do.
    drop((inner, deeper));
}

#[test]
fn a_namespace_alone_ends_what_runs_inside() {
    let namespace = Namespace::new();
    let mut command = namespace.command("sleep");
    command.arg("1000");
    let mut running = Running::start(command);
    let path = namespace.path().to_owned();
    let inside = |pid| {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(format!("/proc/{pid}/ns/net")).unwrap().ino()
            == fs::metadata(&path).unwrap().ino()
    };
    wait_until(DEADLINE, "the sleeper in its namespace", || inside(running.pid()));
    drop(namespace);
    assert_gone(&[path]);
    assert!(!running.wait(DEADLINE).success());
}

#[test]
fn a_panic_removes_everything() {
    let mut paths = Vec::new();
    let panic = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let network = Network::star(2);
        paths.extend(network.hosts().iter().flat_map(parts));
        paths.push(network.switch().unwrap().path().to_owned());
        let _running = network.hosts()[0].start("sleep", ["1000"]);
        assert!(paths.iter().all(|path| path.exists()));
        panic!("the test went wrong");
    }));
    assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"the test went wrong"));
    assert_eq!(paths.len(), 5);
    assert_gone(&paths);
}

#[test]
fn what_a_killed_process_left_is_swept() {
    if env::var_os(VICTIM).is_some() {
        let host = Host::new();
        let pid = stray(&host);
        let [namespace, cgroup] = parts(&host);
        println!("\nleaves {} {} {pid}", namespace.display(), cgroup.display());
        loop {
            thread::park();
        }
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "what_a_killed_process_left_is_swept", "--nocapture"])
        .env(VICTIM, "1");
    let mut victim = Running::start(command);
    let line = victim.wait_for_line("leaves ", DEADLINE);
    let [_, namespace, cgroup, pid] = line.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{line}")
    };
    let (paths, pid) = ([PathBuf::from(namespace), PathBuf::from(cgroup)], pid.parse().unwrap());

    sweep();
    assert!(
        paths.iter().all(|path| Path::exists(path)) && !is_dead(pid),
        "a living maker's things are not touched"
    );

    victim.signal(rustix::process::Signal::KILL);
    victim.wait(DEADLINE);
    assert!(paths.iter().all(|path| Path::exists(path)), "a killed process removes nothing");
    sweep();
    assert_gone(&paths);
    wait_until(DEADLINE, "the stray's end", || is_dead(pid));
}
