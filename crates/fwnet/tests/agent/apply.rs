//! Another policy: checked, on trial or for good, confirmed, rolled back, and never locking out whoever applies it.

use std::{
    thread,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use testbed::{Host, wait_until};

use crate::{
    fixture::Bed,
    shared::{DEADLINE, EACCES, Echo, complaint, connect_errno, host, on, text},
};

/// A host whose policy denies 127.0.0.2, and what is denied there.
struct Scene {
    host: Host,
    bed: Bed,
    _echo: Echo,
}

impl Scene {
    fn new() -> Self {
        Self::with("deny any -> 127.0.0.2\n")
    }

    fn with(policy: &str) -> Self {
        let host = host();
        let echo = Echo::tcp(&host.namespace, "[::]:20000");
        let bed = Bed::new(&host);
        let first = bed.file("first.fwnet", policy);
        bed.up(&["--policy", &first]);
        Self { host, bed, _echo: echo }
    }

    /// The last bytes of 127.0.0.x that are denied, of 2 to 4.
    fn denied(&self) -> Vec<u8> {
        on(&self.host, || {
            let denied =
                |last: &u8| connect_errno(&format!("127.0.0.{last}:20000")) == Some(EACCES);
            (2..=4).filter(denied).collect()
        })
    }

    fn version(&self) -> u64 {
        self.bed.status()["policy"]["version"].as_u64().unwrap()
    }
}

#[test]
fn a_policy_is_applied_for_good_and_rolled_back() {
    let scene = Scene::new();
    let second = scene.bed.file("second.fwnet", "deny any -> 127.0.0.3\n");
    let shown = scene.bed.done(&["apply", &second]);
    assert!(shown.contains("enforcing ") && shown.contains("(version 2)"), "{shown}");
    assert_eq!((scene.denied(), scene.version()), (vec![3], 2));
    let status = scene.bed.status();
    assert_eq!(status["policy"]["files"], serde_json::json!([second]));
    assert_eq!((&status["previous"], &status["confirm_until"]), (&1.into(), &().into()));
    scene.bed.done(&["rollback"]);
    assert_eq!((scene.denied(), scene.version()), (vec![2], 3));
    scene.bed.done(&["rollback"]);
    assert_eq!((scene.denied(), scene.version()), (vec![3], 4));
    // What was applied is what the next agent finds.
    scene.bed.signal(Signal::KILL);
    assert_eq!(scene.denied(), [3]);
    scene.bed.up(&[]);
    assert_eq!((scene.denied(), scene.version()), (vec![3], 4));
}

#[test]
fn a_policy_that_is_no_good_is_refused_and_changes_nothing() {
    let scene = Scene::new();
    let wrong = scene.bed.file("wrong.fwnet", "deny any -> wbe : tcp/22\n");
    let says = scene.bed.refused(&["apply", &wrong], 2);
    assert!(says.contains("wrong.fwnet:1:13"), "{says}");
    let fails = scene.bed.file("fails.fwnet", "test deny me -> 127.0.0.9 : tcp/22\n");
    let says = scene.bed.refused(&["apply", &fails], 1);
    assert!(says.contains("FAILED") && says.contains("fails.fwnet:1"), "{says}");
    assert!(says.contains("fwnet: 1 of the policy's tests fail: nothing is changed"), "{says}");
    let dry = scene.bed.file("dry.fwnet", "deny any -> 127.0.0.3\n");
    let shown = scene.bed.done(&["apply", "--dry-run", &dry]);
    assert!(shown.contains("would enforce"), "{shown}");
    assert_eq!((scene.denied(), scene.version()), (vec![2], 1));
}

#[test]
fn without_a_confirmation_the_policy_before_follows() {
    let scene = Scene::new();
    let second = scene.bed.file("second.fwnet", "deny any -> 127.0.0.3\n");
    let start = Instant::now();
    let shown = scene.bed.done(&["apply", "--confirm", "2s", &second]);
    assert!(shown.contains("on trial until"), "{shown}");
    assert_eq!(scene.denied(), [3]);
    let says = scene.bed.refused(&["apply", &second], 1);
    assert!(says.contains("version 2 waits to be confirmed"), "{says}");
    wait_until(DEADLINE, "the policy before", || scene.denied() == [2]);
    assert!(start.elapsed() >= Duration::from_secs(2));
    wait_until(DEADLINE, "the agent takes note", || scene.version() == 1);
    let says = scene.bed.refused(&["confirm"], 1);
    assert!(says.contains("nothing waits to be confirmed"), "{says}");
}

#[test]
fn a_trial_ends_on_time_without_an_agent() {
    let scene = Scene::new();
    let second = scene.bed.file("second.fwnet", "deny any -> 127.0.0.3\n");
    scene.bed.done(&["apply", "--confirm", "2s", &second]);
    scene.bed.signal(Signal::KILL);
    assert_eq!(scene.denied(), [3]);
    wait_until(DEADLINE, "the policy before", || scene.denied() == [2]);
    scene.bed.up(&[]);
    assert_eq!((scene.denied(), scene.version()), (vec![2], 1));
}

#[test]
fn the_next_agent_goes_on_with_a_trial() {
    let scene = Scene::new();
    let second = scene.bed.file("second.fwnet", "deny any -> 127.0.0.3\n");
    for confirmed in [false, true] {
        scene.bed.done(&["apply", "--confirm", "8s", &second]);
        let until = || -> Timestamp {
            scene.bed.status()["confirm_until"].as_str().unwrap().parse().unwrap()
        };
        let end = until();
        scene.bed.signal(Signal::KILL);
        scene.bed.up(&[]);
        assert_eq!(scene.denied(), [3]);
        let moved = until().duration_since(end).abs();
        assert!(moved < SignedDuration::from_millis(100), "{moved}");
        if confirmed {
            scene.bed.done(&["confirm"]);
            assert!(scene.bed.status()["confirm_until"].is_null());
            // It stays, and would even if the agent died now.
            scene.bed.signal(Signal::KILL);
            while Timestamp::now() <= end {
                assert_eq!(scene.denied(), [3]);
                thread::sleep(Duration::from_millis(50));
            }
            assert_eq!(scene.denied(), [3]);
        } else {
            scene.bed.done(&["rollback"]);
            assert_eq!((scene.denied(), scene.version()), (vec![2], 1));
        }
    }
}

#[test]
fn who_locks_himself_out_gets_back_in() {
    let scene = Scene::with("allow any -> any\n");
    let session = "192.0.2.7 51234 192.0.2.1 22";
    let closed =
        scene.bed.file("closed.fwnet", "deny 192.0.2.0/24 -> me : tcp/22\ndeny any -> 127.0.0.3\n");
    let from = |session: &str, verb: &[&str]| scene.bed.call_from(session, verb);
    let refused = from(session, &["apply", &closed]);
    assert_eq!(refused.status.code(), Some(1));
    let says = complaint(&refused);
    assert!(
        says.contains("it denies the session that applies it (192.0.2.7 -> 192.0.2.1:22)"),
        "{says}"
    );
    assert!(says.contains("closed.fwnet:1"), "{says}");
    assert!(scene.denied().is_empty());
    // On purpose, then: it goes back by itself.
    let forced = from(session, &["apply", "--force", "--confirm", "2s", &closed]);
    assert!(forced.status.success(), "{}", complaint(&forced));
    assert!(text(&forced).contains("lock-out: it denies"), "{}", text(&forced));
    assert_eq!(scene.denied(), [3]);
    wait_until(DEADLINE, "the policy before", || scene.denied().is_empty());
}

#[test]
fn the_session_that_applied_does_not_confirm() {
    let scene = Scene::new();
    let second = scene.bed.file("second.fwnet", "deny any -> 127.0.0.3\n");
    let (first, other) = ("192.0.2.7 51234 192.0.2.1 22", "192.0.2.7 51240 192.0.2.1 22");
    let applied = scene.bed.call_from(first, &["apply", "--confirm", "60s", &second]);
    assert!(applied.status.success(), "{}", complaint(&applied));
    let same = scene.bed.call_from(first, &["confirm"]);
    assert_eq!(same.status.code(), Some(1));
    assert!(complaint(&same).contains("confirm over a new connection"), "{}", complaint(&same));
    let confirmed = scene.bed.call_from(other, &["confirm"]);
    assert!(confirmed.status.success(), "{}", complaint(&confirmed));
    let status = scene.bed.status();
    assert_eq!((&status["policy"]["version"], &status["confirm_until"]), (&2.into(), &().into()));
    assert_eq!(scene.denied(), [3]);
}

#[test]
fn a_line_of_the_failsafe_set_is_not_dropped_by_accident() {
    let scene = Scene::with("failsafe 127.0.0.0/8 -> me : tcp/22\n");
    let without = scene.bed.file("without.fwnet", "deny any -> 127.0.0.3\nfailsafe none\n");
    let says = scene.bed.refused(&["apply", &without], 1);
    assert!(says.contains("from the failsafe set"), "{says}");
    scene.bed.done(&["apply", "--force", &without]);
    assert_eq!(scene.denied(), [3]);
}

#[test]
fn what_is_written_elsewhere_is_read_again_at_a_signal() {
    let scene = Scene::new();
    let pid = scene.bed.pid();
    let hup = || rustix::process::kill_process(pid, Signal::HUP).unwrap();
    scene.bed.file("first.fwnet", "deny any -> 127.0.0.4\n");
    hup();
    wait_until(DEADLINE, "version 2", || scene.version() == 2);
    assert_eq!(scene.denied(), [4]);
    scene.bed.file("first.fwnet", "deny any -> wbe\n");
    hup();
    wait_until(DEADLINE, "a complaint", || scene.bed.log().contains("nothing is changed"));
    assert_eq!((scene.denied(), scene.version()), (vec![4], 2));
}

#[test]
fn a_rule_ends_on_time_without_an_agent() {
    let end = Timestamp::from_second(Timestamp::now().as_second() + 5).unwrap();
    let scene = Scene::with(&format!("deny any -> 127.0.0.2 until {end}\ndeny any -> 127.0.0.3\n"));
    assert_eq!(scene.denied(), [2, 3]);
    assert!(scene.bed.status()["next_end"].is_string());
    scene.bed.signal(Signal::KILL);
    wait_until(DEADLINE, "the end of the rule", || scene.denied() == [3]);
    assert!(Timestamp::now() >= end);
    scene.bed.up(&[]);
    assert_eq!(scene.denied(), [3]);
}
