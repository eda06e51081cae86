//! Signed policy on a host: nothing unsigned is taken, nothing old, and what nobody vouches for any more raises an alarm.

use std::{path::PathBuf, process::Output};

use testbed::{Host, wait_until};

use crate::{
    fixture::{Bed, fine},
    shared::{DEADLINE, EACCES, Echo, complaint, connect_errno, fwnet, host, on, text},
};

/// Keys, and what they signed, in the directory of an agent's bed.
pub(crate) struct Fleet {
    pub(crate) host: Host,
    pub(crate) bed: Bed,
    _echo: Echo,
}

impl Fleet {
    pub(crate) fn new(max_stale: &str) -> Self {
        let host = host();
        let echo = Echo::tcp(&host.namespace, "[::]:20000");
        let fleet = Self { bed: Bed::new(&host), host, _echo: echo };
        let mut keys = Vec::new();
        for role in ["root", "policy", "snapshot", "timestamp"] {
            let key = fleet.path(&format!("{role}.key"));
            fleet.done(&["key", "new", "--role", role, &key]);
            let shown = fleet.done(&["key", "show", &key, "-o", "json"]);
            keys.push(serde_json::from_str::<serde_json::Value>(&shown).unwrap());
        }
        let holders = |role: &str| serde_json::json!({"keys": [role], "threshold": 1});
        let mut root = serde_json::json!({
            "version": 1,
            "expires": "2100-01-01T00:00:00Z",
            "keys": keys,
            "roles": {
                "root": holders("root"),
                "policy": holders("policy"),
                "snapshot": holders("snapshot"),
                "timestamp": holders("timestamp"),
            },
        });
        if !max_stale.is_empty() {
            root["max_stale"] = serde_json::from_str(max_stale).unwrap();
        }
        let unsigned = fleet.bed.file("root.json", &root.to_string());
        let (key, out) = (fleet.path("root.key"), fleet.path("root.signed"));
        fleet.done(&["sign", "root", &unsigned, "--key", &key, "--out", &out]);
        fleet
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.bed.path(name).to_str().unwrap().to_owned()
    }

    #[track_caller]
    fn done(&self, verb: &[&str]) -> String {
        fine(&fwnet(verb).output().unwrap())
    }

    /// A bundle with one policy that denies 127.0.0.`last`, as `version` of it, fresh for a while.
    fn bundle(&self, version: u32, last: u8, fresh: &str) -> String {
        self.bundle_of(version, &format!("deny any -> 127.0.0.{last}\n"), fresh)
    }

    /// A bundle with this policy, as `version` of it, fresh for a while.
    pub(crate) fn bundle_of(&self, version: u32, policy: &str, fresh: &str) -> String {
        let policy = self.bed.file("base.fwnet", policy);
        let [key, signed] = ["policy.key", "base.signed"].map(|name| self.path(name));
        let number = version.to_string();
        self.done(&[
            "sign",
            "policy",
            &policy,
            "--version",
            &number,
            "--expires",
            "30d",
            "--key",
            &key,
            "--out",
            &signed,
        ]);
        let [root, snapshot, timestamp] =
            ["root.signed", "snapshot.key", "timestamp.key"].map(|name| self.path(name));
        let out = self.path(&format!("{version}.bundle"));
        let mut verb = vec![
            "bundle",
            "--root",
            &root,
            &signed,
            "--snapshot-key",
            &snapshot,
            "--timestamp-key",
            &timestamp,
            "--timestamp-expires",
            fresh,
            "--out",
            &out,
        ];
        let before = self.path(&format!("{}.bundle", version - 1));
        if PathBuf::from(&before).exists() {
            verb.extend(["--from", &before]);
        }
        self.done(&verb);
        out
    }

    pub(crate) fn up(&self, bundle: &str) -> Output {
        self.bed.try_up(&["--root", &self.path("root.signed"), "--bundle", bundle])
    }

    /// The last bytes of 127.0.0.x that are denied, of 2 to 4.
    pub(crate) fn denied(&self) -> Vec<u8> {
        on(&self.host, || {
            let denied =
                |last: &u8| connect_errno(&format!("127.0.0.{last}:20000")) == Some(EACCES);
            (2..=4).filter(denied).collect()
        })
    }

    fn age(&self) -> String {
        self.bed.status()["policy"]["signed"]["age"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn told(&self, action: &str) -> bool {
        self.bed.done(&["events", "-o", "json"]).contains(&format!("\"{action}\""))
    }
}

#[test]
fn a_host_that_trusts_a_root_takes_signed_policy_only() {
    let fleet = Fleet::new("");
    let first = fleet.bundle(1, 2, "1d");
    let unsigned = fleet.bed.file("unsigned.fwnet", "deny any -> 127.0.0.4\n");
    let root = fleet.path("root.signed");
    let refused = fleet.bed.try_up(&["--root", &root, "--policy", &unsigned]);
    assert!(
        complaint(&refused).contains("this host takes signed policy only"),
        "{}",
        complaint(&refused)
    );
    fine(&fleet.up(&first));
    assert_eq!((fleet.denied(), fleet.age()), (vec![2], "fresh".to_owned()));
    let said = fleet.bed.refused(&["apply", &unsigned], 1);
    assert!(said.contains("this host takes signed policy only"), "{said}");
    let second = fleet.bundle(2, 3, "1d");
    let shown = fleet.bed.done(&["apply", "--bundle", &second]);
    assert!(shown.contains("enforcing ") && shown.contains("(version 2)"), "{shown}");
    assert_eq!(fleet.denied(), [3]);
    // An older one is refused, whether the agent is asked or the state it keeps, and somebody is told.
    let said = fleet.bed.refused(&["apply", "--bundle", &first], 1);
    assert!(said.contains("has version 1, and version 2 was seen already"), "{said}");
    assert!(fleet.told("policy-refused"));
    let state = fleet.path("state");
    let verified = fwnet(&["verify", &first, "--state", &state]).output().unwrap();
    assert_eq!(verified.status.code(), Some(1), "{}", text(&verified));
    assert!(text(&verified).contains("version 2 was seen already"), "{}", text(&verified));
    fleet.done(&["verify", &second, "--state", &state]);
    // So it stays over the agent's end.
    fleet.bed.signal(rustix::process::Signal::KILL);
    fleet.bed.start_again();
    assert_eq!(fleet.denied(), [3]);
    fleet.bed.refused(&["apply", "--bundle", &first], 1);
    fleet.bed.refused(&["apply", &unsigned], 1);
    assert_eq!(fleet.denied(), [3]);
}

#[test]
fn a_bundle_is_tried_and_rolled_back_like_any_policy() {
    let fleet = Fleet::new("");
    fine(&fleet.up(&fleet.bundle(1, 2, "1d")));
    let second = fleet.bundle(2, 3, "1d");
    fleet.bed.done(&["apply", "--bundle", &second, "--dry-run"]);
    assert_eq!(fleet.denied(), [2]);
    fleet.bed.done(&["apply", "--bundle", &second, "--confirm", "1h"]);
    assert_eq!(fleet.denied(), [3]);
    fleet.bed.done(&["rollback"]);
    assert_eq!(fleet.denied(), [2]);
    // What was seen was seen; the same bundle can be tried again.
    fleet.bed.done(&["apply", "--bundle", &second]);
    assert_eq!(fleet.denied(), [3]);
}

#[test]
fn a_host_without_a_root_takes_no_bundle() {
    let fleet = Fleet::new("");
    let bundle = fleet.bundle(1, 2, "1d");
    let policy = fleet.bed.file("first.fwnet", "deny any -> 127.0.0.4\n");
    fleet.bed.up(&["--policy", &policy]);
    let said = fleet.bed.refused(&["apply", "--bundle", &bundle], 1);
    assert!(said.contains("this host trusts no root"), "{said}");
    assert_eq!(fleet.denied(), [4]);
}

#[test]
fn a_stale_policy_stays_and_one_that_is_too_old_is_locked_down() {
    let fleet = Fleet::new(r#"{"seconds": 3, "then": "lockdown"}"#);
    fine(&fleet.up(&fleet.bundle(1, 2, "4s")));
    wait_until(DEADLINE, "a stale policy", || fleet.age() == "stale");
    assert_eq!(fleet.denied(), [2], "it stays in force");
    let shown = fleet.bed.done(&["status"]);
    assert!(shown.contains("ALARM: stale since "), "{shown}");
    wait_until(DEADLINE, "lockdown", || fleet.bed.status()["stance"] == "lockdown");
    assert_eq!(fleet.age(), "too-old-lockdown");
    let said = complaint(&fleet.bed.call(&["resume"]));
    assert!(said.contains("a fresh bundle ends it"), "{said}");
    wait_until(DEADLINE, "alarms", || fleet.told("policy-stale") && fleet.told("policy-too-old"));
    // The next agent knows.
    fleet.bed.signal(rustix::process::Signal::KILL);
    fleet.bed.start_again();
    assert_eq!(fleet.bed.status()["stance"], "lockdown");
    fleet.bed.done(&["apply", "--bundle", &fleet.bundle(2, 3, "1d")]);
    wait_until(DEADLINE, "the policy again", || fleet.bed.status()["stance"] == "policy");
    assert_eq!((fleet.denied(), fleet.age()), (vec![3], "fresh".to_owned()));
}

#[test]
fn a_policy_that_is_too_old_is_kept_where_its_root_says_so() {
    let fleet = Fleet::new(r#"{"seconds": 1, "then": "keep"}"#);
    fine(&fleet.up(&fleet.bundle(1, 2, "3s")));
    wait_until(DEADLINE, "a policy that is too old", || fleet.age() == "too-old-kept");
    assert_eq!(fleet.denied(), [2]);
    assert_eq!(fleet.bed.status()["stance"], "policy");
}
