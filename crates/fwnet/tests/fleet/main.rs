//! A fleet of one host, with the programs that people run: made, joined, given a policy, shut off and released. Run as
//! root; nothing of the machine itself is judged.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails, its functions as well")]

#[path = "../agent/fixture.rs"]
#[expect(dead_code, reason = "the agent's own tests use the rest")]
mod fixture;
#[path = "../acceptance/shared.rs"]
#[expect(dead_code, reason = "the tests of the acceptance list use the rest")]
mod shared;

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    process::{Child, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use testbed::wait_until;

use crate::{
    fixture::{Bed, fine},
    shared::{DEADLINE, complaint, fwnet, host, text},
};

/// A controller and its operator.
struct Fleet {
    directory: PathBuf,
    controller: Child,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _killed = self.controller.kill();
        let _waited = self.controller.wait();
        let _removed = fs::remove_dir_all(&self.directory);
    }
}

impl Fleet {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fwnet-fleet-{}-{count}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let fleet = directory.to_str().unwrap();
        fine(&fwnet(&["fleet", "init", fleet, "--listen", &free]).output().unwrap());
        let fleet = Self { controller: controller(fleet, &[]), directory };
        fleet.answers();
        fleet
    }

    #[track_caller]
    fn answers(&self) {
        wait_until(DEADLINE, "the controller", || self.verb(&["hosts"]).status.success());
    }

    fn end(&mut self) {
        self.controller.kill().unwrap();
        self.controller.wait().unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_owned()
    }

    fn verb(&self, arguments: &[&str]) -> Output {
        let operator = self.path("operator");
        fwnet(&["fleet", "--operator", &operator]).args(arguments).output().unwrap()
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        fine(&self.verb(arguments))
    }

    fn token(&self, arguments: &[&str]) -> String {
        let command = self.done(&[&["enroll"][..], arguments].concat());
        command.trim().strip_prefix("fwnet up --join ").unwrap().to_owned()
    }

    fn bundle(&self, policy: &str) -> String {
        let path = |name: &str| self.path(name);
        fs::write(path("base.fwnet"), policy).unwrap();
        let key = |role: &str| path(&format!("keys/{role}.key"));
        let sign = ["sign", "policy", &path("base.fwnet"), "--version", "1", "--expires", "9d"];
        let by = ["--key", &key("policy"), "--out", &path("base.signed")];
        fine(&fwnet(&sign).args(by).output().unwrap());
        let of = ["bundle", "--root", &path("root.signed"), &path("base.signed")];
        let by = ["--snapshot-key", &key("snapshot"), "--timestamp-key", &key("timestamp")];
        fine(&fwnet(&of).args(by).args(["--out", &path("bundle")]).output().unwrap());
        path("bundle")
    }
}

fn controller(directory: &str, arguments: &[&str]) -> Child {
    let mut command = fwnet(&["controller", "--dir", directory]);
    command.args(arguments).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_host_joins_with_one_command_and_has_what_the_fleet_says() {
    let (fleet, host) = (Fleet::new(), host());
    let bed = Bed::new(&host);
    let token = fleet.token(&["web-1", "--label", "role=web", "--address", "192.0.2.10"]);
    let joined = bed.up_here(&["--join", &token]);
    assert!(joined.contains("0 denied addresses and 0 denied ports"), "{joined}");
    assert!(!bed.log().contains(&token));
    assert!(fleet.done(&["hosts"]).contains("web-1  192.0.2.10  role=web"));
    // A token is worth one host.
    let other = Bed::new(&host);
    let again = other.try_up(&["--join", &token]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
    assert!(complaint(&again).contains("the token is not valid"), "{}", complaint(&again));
    assert!(!other.path("state").exists());
    let bundle = fleet.bundle("allow role=web -> 192.0.2.0/24 : tcp/5432\n");
    fleet.done(&["apply", &bundle]);
    fleet.done(&["status", "--wait"]);
    let status = bed.done(&["status"]);
    assert!(status.contains("base (version 1) by admin-policy"), "{status}");
    // Whatever the policy says, a member's failsafe set is not empty.
    assert!(!status.contains("locks everybody out"), "{status}");
    // What is current already is said to be.
    assert_eq!(fleet.verb(&["apply", &bundle]).status.code(), Some(1));
    fleet.done(&["quarantine", "web-1"]);
    let locked = || bed.done(&["status"]).contains("lockdown");
    wait_until(DEADLINE, "lockdown", locked);
    fleet.done(&["release", "web-1"]);
    wait_until(DEADLINE, "release", || !locked());
    // It is a member again after a restart, without a token.
    bed.done(&["down"]);
    let up = bed.up(&[]);
    assert!(up.contains("base (version 1) by admin-policy"), "{up}");
    fleet.done(&["status", "--wait"]);
}

#[test]
fn a_host_that_cannot_join_keeps_nothing() {
    let (mut fleet, host) = (Fleet::new(), host());
    let bed = Bed::new(&host);
    let token = fleet.token(&["web-1"]);
    let garbled = bed.try_up(&["--join", &token[..token.len() - 1]]);
    assert!(complaint(&garbled).contains("garbled"), "{}", complaint(&garbled));
    let relay = fleet.done(&["enroll", "--relay", "r1"]);
    let relay = relay.trim().rsplit(' ').next().unwrap();
    let wrong = bed.try_up(&["--join", relay]);
    assert!(complaint(&wrong).contains("for a relay"), "{}", complaint(&wrong));
    fleet.end();
    let alone = bed.try_up(&["--join", &token]);
    assert_eq!(alone.status.code(), Some(1));
    assert!(complaint(&alone).contains("no controller can be reached"), "{}", complaint(&alone));
    assert!(!bed.path("state").exists());
    assert!(!bed.path("bpf").exists());
}

#[test]
fn an_operator_copies_the_store_and_takes_back_what_another_has() {
    let mut fleet = Fleet::new();
    fleet.token(&["web-1"]);
    let copy = fleet.path("copy.redb");
    assert!(fleet.done(&["backup", &copy]).starts_with(&copy));
    assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o777, 0o600);
    let again = fleet.verb(&["backup", &copy]);
    assert!(complaint(&again).contains("is there already"), "{}", complaint(&again));
    let before = fleet.done(&["hosts"]);

    let (directory, eve) = (fleet.path(""), fleet.path("eve"));
    fine(
        &fwnet(&["fleet", "operator", "eve", "--dir", &directory, "--out", &eve]).output().unwrap(),
    );
    let hosts = || fwnet(&["fleet", "--operator", &eve, "hosts"]).output().unwrap();
    fine(&hosts());
    fleet.done(&["revoke", "eve"]);
    let refused = hosts();
    assert_eq!(refused.status.code(), Some(1));
    assert!(complaint(&refused).contains("was revoked by admin"), "{}", complaint(&refused));
    let listed = fleet.done(&["revoke"]);
    assert!(listed.starts_with("eve  what was made until "), "{listed}");

    // A controller on the copy knows what was there when it was made, and no more.
    fleet.token(&["web-2"]);
    fleet.end();
    fleet.controller = controller(&directory, &["--store", &format!("redb:{copy}")]);
    fleet.answers();
    assert_eq!(fleet.done(&["hosts"]), before);
    assert_eq!(fleet.done(&["revoke"]), "");
}
