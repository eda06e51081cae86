//! Roots: each signed by the one before it and by itself.

use wire::{Root, Trust};

use crate::fleet::{Making, holders, named, policy, refused, root, signed, taken, trust};

const TEXT: &str = "deny any -> 192.0.2.0/24 : any\n";

/// Root 2: Carl has gone, Frank has come.
fn second() -> Root {
    let mut next = root();
    next.version = 2;
    next.keys[2] = named("frank");
    next.roles.root = holders(&["anna", "ben", "frank"], 2);
    next
}

fn with_roots(roots: &[(Root, &[&str])]) -> Making {
    let mut making = Making::of(&[policy("base", 1, TEXT)]);
    making.roots = roots.iter().map(|(root, by)| signed(root, by)).collect();
    making
}

#[test]
fn a_root_follows_when_both_have_signed_it() {
    let making = with_roots(&[(root(), &["anna", "ben"]), (second(), &["ben", "carl", "frank"])]);
    let accepted = taken(&trust(), &making.bytes());
    assert_eq!(accepted.root, 2);
    // From now on root 2 is what is trusted: one that only holders of root 1 sign does not follow.
    let mut third = root();
    third.version = 3;
    let making = with_roots(&[(third, &["anna", "carl"])]).numbered(2);
    assert_eq!(
        refused(&accepted.trust, &making.bytes()),
        "root 3: 1 of the 2 signatures that the role root needs; 1 signature is of a key that has no say here"
    );
}

#[test]
fn a_root_that_only_the_old_or_only_the_new_keys_signed_is_refused() {
    for by in [&["anna", "carl"][..], &["anna", "frank"]] {
        let error = refused(&trust(), &with_roots(&[(second(), by)]).bytes());
        assert!(
            error.starts_with("root 2: 1 of the 2 signatures that the role root needs"),
            "{error}"
        );
    }
    taken(&trust(), &with_roots(&[(second(), &["anna", "ben"])]).bytes());
}

#[test]
fn a_root_is_not_skipped() {
    let mut third = second();
    third.version = 3;
    let error = refused(&trust(), &with_roots(&[(third.clone(), &["anna", "ben"])]).bytes());
    assert_eq!(error, "root 3 does not follow root 1: root 2 is missing");
    let chain = [(second(), &["anna", "ben"][..]), (third, &["anna", "ben"])];
    assert_eq!(taken(&trust(), &with_roots(&chain).bytes()).root, 3);
}

#[test]
fn a_key_that_was_taken_out_signs_nothing_any_more() {
    let mut next = second();
    next.keys[3] = named("gina");
    next.roles.policy = holders(&["gina", "emil"], 2);
    let making = with_roots(&[(next, &["anna", "ben"])]);
    let error = refused(&trust(), &making.bytes());
    assert!(error.starts_with("the document `base`: 1 of the 2 signatures"), "{error}");
}

#[test]
fn new_keys_of_snapshot_and_timestamp_recover_from_versions_without_end() {
    // Whoever had stolen both keys has burnt all the numbers.
    let burnt = Making::of(&[policy("base", 1, TEXT)]).numbered(u64::MAX);
    let trust = taken(&trust(), &burnt.bytes()).trust;
    assert!(
        refused(&trust, &Making::of(&[policy("base", 2, TEXT)]).numbered(2).bytes())
            .contains("was seen already")
    );
    let mut next = root();
    next.version = 2;
    (next.keys[5], next.keys[6]) = (named("snap-2"), named("clock-2"));
    (next.roles.snapshot, next.roles.timestamp) =
        (holders(&["snap-2"], 1), holders(&["clock-2"], 1));
    let mut making = with_roots(&[(next, &["anna", "ben"])]).numbered(2);
    (making.snapshot_by, making.stamp_by) = (vec!["snap-2"], vec!["clock-2"]);
    assert_eq!(taken(&trust, &making.bytes()).timestamp, 2);
}

#[test]
fn an_old_root_in_a_bundle_does_no_harm() {
    let accepted = taken(&trust(), &with_roots(&[(second(), &["anna", "ben"])]).bytes());
    let making = with_roots(&[(root(), &["anna", "ben"]), (second(), &["anna", "ben"])]);
    assert_eq!(taken(&accepted.trust, &making.bytes()).root, 2);
}

#[test]
fn a_threshold_that_cannot_be_met_or_needs_nobody_is_no_root() {
    for (threshold, said) in [
        (0, "the role policy would need no signature"),
        (3, "the role policy needs 3 signatures and has 2 keys"),
    ] {
        let mut root = root();
        root.roles.policy.threshold = threshold;
        let root = serde_json::to_vec(&signed(&root, &["anna", "ben"])).unwrap();
        let error = Trust::begin(&root).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
