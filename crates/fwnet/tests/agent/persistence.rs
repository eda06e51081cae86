//! A client that hammers away sees no wrong verdict while agents are killed, restarted and upgraded.

use std::{
    fs,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use testbed::{Host, wait_until};

use crate::{
    fixture::Bed,
    shared::{DEADLINE, Echo, connect_errno, fwnet, host, on},
};

const EACCES: i32 = rustix::io::Errno::ACCESS.raw_os_error();
const KILLS: u32 = 1_000;
const UPGRADES: u32 = 100;

/// Verdicts that were seen, and those of them that were wrong.
#[derive(Debug, Default)]
struct Seen {
    all: AtomicU64,
    wrong: AtomicU64,
}

impl Seen {
    fn expect(&self, right: bool) {
        self.all.fetch_add(1, Ordering::Relaxed);
        self.wrong.fetch_add(u64::from(!right), Ordering::Relaxed);
    }

    fn counts(&self) -> (u64, u64) {
        (self.all.load(Ordering::Relaxed), self.wrong.load(Ordering::Relaxed))
    }
}

/// Does `work` while a client on `host` tries what is denied, what is allowed, and what is denied coming in.
#[track_caller]
fn hammered(host: &Host, work: impl FnOnce() + Send) {
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let _closed = Echo::tcp(&host.namespace, "127.0.0.1:20001");
    let ended = AtomicBool::new(false);
    let seen = [Seen::default(), Seen::default()];
    let [denied, allowed] = &seen;
    on(host, || {
        thread::scope(|scope| {
            scope.spawn(|| {
                host.namespace.inside(|| {
                    while !ended.load(Ordering::SeqCst) {
                        denied.expect(connect_errno("127.0.0.9:20000") == Some(EACCES));
                        denied.expect(connect_errno("127.0.0.1:20001") == Some(EACCES));
                        allowed.expect(connect_errno("127.0.0.1:20000").is_none());
                    }
                });
            });
            work();
            ended.store(true, Ordering::SeqCst);
        });
    });
    for seen in &seen {
        let (all, wrong) = seen.counts();
        assert!(all > 100, "the client hardly ran: {all}");
        assert_eq!(wrong, 0, "of {all} verdicts");
    }
}

/// An agent in the foreground, so that it is this process's to wait for.
fn start(bed: &Bed, object: Option<&str>) -> Child {
    let mut command: Command = fwnet(&["agent"]);
    command.args(bed.paths());
    if let Some(object) = object {
        command.env("FWNET_BPF_OBJECT", object);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn kill(mut agent: Child) {
    kill_process(Pid::from_child(&agent), Signal::KILL).unwrap();
    agent.wait().unwrap();
}

/// Two objects with the same programs and different digests, as two builds of one version would be: what stands behind
/// the end of an ELF file is nobody's.
fn builds(bed: &Bed) -> [String; 2] {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../kernel/object/fwnet.bpf.o");
    let object = std::env::var("FWNET_BPF_OBJECT").unwrap_or_else(|_| committed.to_owned());
    ["one", "two"].map(|name| {
        let path = bed.path(name);
        let mut bytes = fs::read(&object).unwrap();
        bytes.extend_from_slice(name.as_bytes());
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    })
}

#[test]
fn a_thousand_kills_and_a_hundred_upgrades_change_no_verdict() {
    let host = host();
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.9", "--port", "20001"]);
    bed.signal(Signal::KILL);
    let builds = builds(&bed);
    hammered(&host, || {
        // When it is struck: at another moment of its start each time, and sometimes long after it.
        let mut moment = 1u32;
        for round in 0..KILLS {
            let upgrade = round.is_multiple_of(KILLS / UPGRADES);
            let build = &builds[(round / (KILLS / UPGRADES)) as usize % 2];
            let agent = start(&bed, Some(build));
            if upgrade {
                wait_until(DEADLINE, "the agent to answer", || {
                    bed.call(&["status"]).status.success()
                });
            }
            moment = moment.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            thread::sleep(Duration::from_micros(u64::from(moment >> 18)));
            kill(agent);
        }
    });
    let agent = start(&bed, None);
    wait_until(DEADLINE, "the last agent", || bed.call(&["status"]).status.success());
    assert_eq!(bed.status()["policy"]["version"], 1);
    bed.done(&["down"]);
    drop(agent.wait_with_output());
    let nobody = on(&host, || connect_errno("127.0.0.9:20000"));
    assert_ne!(nobody, Some(EACCES), "down is down");
}

#[test]
fn programs_of_another_abi_give_way_without_a_gap() {
    let host = host();
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.9", "--port", "20001"]);
    bed.signal(Signal::KILL);
    // The first word of the map META is the number of the ABI: what this version finds is another version's then.
    let meta = bed.path("bpf/set-1/maps/META");
    let dump = Command::new("bpftool").args(["-j", "map", "dump", "pinned"]).arg(&meta).output();
    let dump: serde_json::Value = serde_json::from_slice(&dump.unwrap().stdout).unwrap();
    let mut value: Vec<String> = dump[0]["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|byte| byte.as_str().unwrap().to_owned())
        .collect();
    value[0] = "0x63".to_owned();
    let written = Command::new("bpftool")
        .args(["map", "update", "pinned"])
        .arg(&meta)
        .args(["key", "0", "0", "0", "0", "value"])
        .args(&value)
        .status();
    assert!(written.unwrap().success());
    hammered(&host, || {
        let agent = start(&bed, None);
        wait_until(DEADLINE, "the agent to answer", || bed.call(&["status"]).status.success());
        assert!(!bed.path("bpf/set-1").exists() && bed.path("bpf/set-2").exists());
        kill(agent);
    });
    let agent = start(&bed, None);
    wait_until(DEADLINE, "the last agent", || bed.call(&["status"]).status.success());
    bed.done(&["down"]);
    drop(agent.wait_with_output());
}

#[test]
fn what_root_takes_away_is_put_back_and_told() {
    let host = host();
    let bed = Bed::new(&host);
    bed.up(&["--deny", "127.0.0.9"]);
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let denied = || on(&host, || connect_errno("127.0.0.9:20000")) == Some(EACCES);
    assert!(denied());
    let second = Duration::from_secs(1);

    let pin = bed.path("bpf/set-1/links/connect4");
    let detach = Command::new("bpftool").args(["link", "detach", "pinned"]).arg(pin).status();
    assert!(detach.unwrap().success());
    wait_until(second, "the link to be attached again", denied);
    let told = |what: &str| bed.log().contains(&format!("{what}: it is in place again"));
    wait_until(DEADLINE, "the agent's word", || told("detached"));

    let unmount = Command::new("umount").arg("--lazy").arg(bed.path("bpf")).status();
    assert!(unmount.unwrap().success());
    assert!(denied(), "the agent holds what it pinned");
    wait_until(DEADLINE, "the pins to be back", || told("no longer pinned"));
    assert!(bed.path("bpf/set-1/links/connect4").exists());
    bed.signal(Signal::KILL);
    assert!(denied());

    let agent = start(&bed, None);
    wait_until(DEADLINE, "the last agent", || bed.call(&["status"]).status.success());
    bed.done(&["down"]);
    drop(agent.wait_with_output());
}

#[test]
fn a_cgroup_that_was_removed_and_made_again_is_judged_again() {
    let host = host();
    let judged = host.cgroup.child("judged");
    let bed = Bed::judging(judged.path(), &host.namespace);
    bed.up(&["--deny", "127.0.0.9"]);
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let path = judged.path().to_owned();
    drop(judged);
    assert!(!path.exists());
    // The agent goes on, and says what is wrong.
    wait_until(DEADLINE, "the agent to notice", || bed.log().contains("detached"));
    assert!(bed.call(&["status"]).status.success());
    let again = host.cgroup.child("judged");
    assert_eq!(again.path(), path);
    let denied = || {
        let _visit = again.enter_current_process();
        host.namespace.inside(|| connect_errno("127.0.0.9:20000")) == Some(EACCES)
    };
    wait_until(DEADLINE, "the new cgroup to be judged", denied);
    bed.done(&["down"]);
    assert!(!denied());
}
