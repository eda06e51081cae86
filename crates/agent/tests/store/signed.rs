//! Power that is lost between the version marks and the policy that was verified by them: the host takes the same bundle
//! again, and never an older one.

use std::collections::BTreeMap;

use agent::{
    edition::{Applied, Edition, Written},
    store::Pending,
    trusted::{Examined, Trusted},
};
use jiff::{SignedDuration, Timestamp};
use testbed::Signers;
use wire::Trust;

use crate::{
    operation::Store,
    simulated::{Simulated, Trouble},
};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn signers() -> Signers {
    Signers::each(NOW.checked_add(SignedDuration::from_hours(1)).expect("the calendar is long"))
}

fn bundle(version: u64) -> Vec<u8> {
    let text = format!("deny any -> 192.0.2.{version} : any\n");
    signers().bundle(version, &[("base", &text)]).to_json().into_bytes()
}

fn trusted() -> Trusted {
    let root = signers().root_text();
    Trusted { trust: Trust::begin(root.as_bytes()).expect("it is signed"), audiences: Vec::new() }
}

/// What an apply does, in its order: verify, keep the marks, keep the policy. `false` where the disk did not take it.
fn apply(store: &mut Store, version: u64) -> Result<bool, String> {
    let known =
        store.trusted().map_err(|lost| lost.to_string())?.expect("a root is trusted").clone();
    let examined = known.examine(&bundle(version), "host", None, NOW);
    let Examined { trusted, policies, signed } = examined.map_err(|error| error.to_string())?;
    if store.set_trusted(trusted).is_err() {
        return Ok(false);
    }
    let rules = Written::Documents { policies, inventory: None, host: None, target: None };
    let applied = Applied { at: NOW, uid: 0, session: None };
    Ok(store.commit(Edition { version: 0, rules, applied, signed: Some(signed) }).is_ok())
}

fn open(image: &BTreeMap<String, Vec<u8>>) -> Store {
    Store::open(Simulated::with(image.clone())).expect("the directory is listed")
}

/// The version in force, and the newest one that was seen.
fn versions(store: &Store) -> (u64, u64) {
    let state = store.state();
    let signed = state.current.as_ref().and_then(|edition| edition.signed.as_ref());
    let marks = &state.trusted.as_ref().expect("a root is trusted").trust.marks;
    let seen = marks.documents.get("base").map_or(0, |mark| mark.version);
    (signed.map_or(0, |signed| signed.snapshot), seen)
}

#[test]
fn power_loss_between_mark_and_load_takes_no_older_policy() {
    let start = Simulated::with(BTreeMap::new());
    let mut store: Store = Store::open(start.clone()).expect("the directory is listed");
    store.set_trusted(trusted()).expect("a disk without troubles");
    assert_eq!(apply(&mut store, 1), Ok(true));
    let settled = start.content();
    let whole = Simulated::with(settled.clone());
    let mut store: Store = Store::open(whole.clone()).expect("listed");
    let began = whole.steps();
    assert_eq!(apply(&mut store, 2), Ok(true));
    let steps = whole.steps() - began;
    let mut between = 0;
    for step in 0..=steps {
        let disk = Simulated::with(settled.clone());
        let mut store: Store = Store::open(disk.clone()).expect("listed");
        disk.trouble_after(step, Trouble::PowerLoss);
        let _done = apply(&mut store, 2);
        for image in disk.after_power_loss() {
            let mut after = open(&image);
            let (in_force, seen) = versions(&after);
            assert!(in_force <= seen, "step {step}: {in_force} is in force and {seen} was seen");
            assert!([1, 2].contains(&in_force), "step {step}: the last good policy is there");
            between += u32::from(in_force < seen);
            if seen == 2 {
                let refused = apply(&mut after, 1).expect_err("version 1 is old");
                assert!(refused.contains("and version 2 was seen already"), "{refused}");
            }
            assert_eq!(apply(&mut after, 2), Ok(true), "the same bundle is taken again");
            assert_eq!(versions(&after), (2, 2));
        }
    }
    assert!(0 < between, "power was lost between the mark and the policy");
}

#[test]
fn a_disk_that_does_not_take_the_marks_gets_no_policy() {
    let disk = Simulated::with(BTreeMap::new());
    let mut store: Store = Store::open(disk.clone()).expect("listed");
    store.set_trusted(trusted()).expect("a disk without troubles");
    assert_eq!(apply(&mut store, 1), Ok(true));
    disk.trouble_after(0, Trouble::PowerLoss);
    assert_eq!(apply(&mut store, 2), Ok(false));
    assert_eq!(versions(&store), (1, 1));
}

#[test]
fn a_root_that_is_lost_is_not_taken_for_none() {
    let disk = Simulated::with(BTreeMap::new());
    let mut store: Store = Store::open(disk.clone()).expect("listed");
    store.set_trusted(trusted()).expect("a disk without troubles");
    let mut image = disk.content();
    image.retain(|name, _| !name.starts_with("trust.last"));
    let torn = image.get_mut("trust").expect("it was written");
    torn.pop();
    let mut damaged = open(&image);
    assert!(damaged.trusted().is_err(), "{:?}", damaged.health().sentences());
    assert!(apply(&mut damaged, 1).is_err());
    damaged.set_trusted(trusted()).expect("a disk without troubles");
    assert_eq!(apply(&mut damaged, 1), Ok(true));
    // Of two, the last good one is used.
    let disk = Simulated::with(image);
    let mut store: Store = Store::open(disk.clone()).expect("listed");
    for _ in 0..2 {
        store.set_trusted(trusted()).expect("a disk without troubles");
    }
    let mut image = disk.content();
    image.get_mut("trust").expect("it was written").pop();
    assert!(open(&image).trusted().is_ok_and(|known| known.is_some()));
}

/// What an apply on trial does.
fn propose(store: &mut Store, version: u64) -> Result<bool, String> {
    let known = store.trusted().map_err(|lost| lost.to_string())?.expect("a root is trusted");
    let examined = known.examine(&bundle(version), "host", None, NOW);
    let Examined { trusted, policies, signed } = examined.map_err(|error| error.to_string())?;
    let rules = Written::Documents { policies, inventory: None, host: None, target: None };
    let applied = Applied { at: NOW, uid: 0, session: None };
    let edition = Edition { version: 0, rules, applied, signed: Some(signed) };
    let (until_boottime_ns, boot) = (1, "boot".to_owned());
    let pending = Pending { edition, until_boottime_ns, boot, trusted: Some(trusted) };
    Ok(store.propose(pending).is_ok())
}

#[test]
fn a_trial_that_ends_leaves_what_was_seen_before_it() {
    let disk = Simulated::with(BTreeMap::new());
    let mut store: Store = Store::open(disk.clone()).expect("listed");
    store.set_trusted(trusted()).expect("a disk without troubles");
    assert_eq!(apply(&mut store, 1), Ok(true));
    assert_eq!(propose(&mut store, 2), Ok(true));
    assert_eq!(versions(&store), (1, 1));
    // The next agent knows it, too.
    let mut store = open(&disk.content());
    store.withdraw().expect("a disk without troubles");
    assert_eq!(versions(&store), (1, 1));
    assert_eq!(apply(&mut store, 1), Ok(true), "the bundle of before is acceptable again");
    assert_eq!(propose(&mut store, 3), Ok(true));
    store.rename_pending("name".to_owned()).expect("a disk without troubles");
    store.confirm().expect("a disk without troubles");
    assert_eq!(versions(&store), (3, 3));
    let current = store.state().current.as_ref().expect("it is in force");
    assert_eq!(current.target(), Some("name"));
    let refused = apply(&mut store, 1).expect_err("version 1 is old");
    assert!(refused.contains("and version 3 was seen already"), "{refused}");
}

#[test]
fn power_loss_while_a_trial_is_confirmed_leaves_marks_no_older_than_the_policy() {
    let disk = Simulated::with(BTreeMap::new());
    let mut store: Store = Store::open(disk.clone()).expect("listed");
    store.set_trusted(trusted()).expect("a disk without troubles");
    assert_eq!(apply(&mut store, 1), Ok(true));
    assert_eq!(propose(&mut store, 2), Ok(true));
    let on_trial = disk.content();
    let whole = Simulated::with(on_trial.clone());
    let mut store: Store = Store::open(whole.clone()).expect("listed");
    let began = whole.steps();
    store.confirm().expect("a disk without troubles");
    for step in 0..=whole.steps() - began {
        let disk = Simulated::with(on_trial.clone());
        let mut store: Store = Store::open(disk.clone()).expect("listed");
        disk.trouble_after(step, Trouble::PowerLoss);
        let _done = store.confirm();
        for image in disk.after_power_loss() {
            let mut after = open(&image);
            let (in_force, seen) = versions(&after);
            assert!(in_force <= seen, "step {step}: {in_force} is in force and {seen} was seen");
            assert_eq!(apply(&mut after, 2), Ok(true), "the same bundle is taken again");
        }
    }
}
