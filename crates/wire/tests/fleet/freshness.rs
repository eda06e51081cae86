//! Versions that never go back, expiry, clocks, audiences.

use wire::{MaxStale, Stale, Then};

use crate::fleet::{Making, at, policy, refused, root, signed, taken, trust, verify_at};

const TEXT: &str = "deny any -> 192.0.2.0/24 : any\n";

#[test]
fn an_old_version_of_anything_is_refused() {
    let trust = taken(&trust(), &Making::of(&[policy("base", 7, TEXT)]).numbered(5).bytes()).trust;
    let old = Making::of(&[policy("base", 6, TEXT)]).numbered(6);
    assert_eq!(
        refused(&trust, &old.bytes()),
        "the document `base` has version 6, and version 7 was seen already"
    );
    let mut old = Making::of(&[policy("base", 7, TEXT)]).numbered(4);
    assert_eq!(
        refused(&trust, &old.clone().bytes()),
        "the timestamp has version 4, and version 5 was seen already"
    );
    old.stamp.version = 6;
    assert_eq!(
        refused(&trust, &old.bytes()),
        "the snapshot has version 4, and version 5 was seen already"
    );
}

#[test]
fn the_same_bundle_is_taken_again_and_another_of_its_version_is_not() {
    let bundle = Making::of(&[policy("base", 7, TEXT)]).numbered(5);
    let trust = taken(&trust(), &bundle.clone().bytes()).trust;
    assert_eq!(taken(&trust, &bundle.bytes()).trust, trust);
    let other = Making::of(&[policy("base", 7, "")]).numbered(6);
    assert_eq!(
        refused(&trust, &other.bytes()),
        "version 7 of the document `base` says something else than the version 7 that was seen"
    );
}

#[test]
fn a_vanished_document_is_refused_and_a_withdrawn_one_is_taken() {
    let both = Making::of(&[policy("base", 1, TEXT), policy("guard", 4, TEXT)]);
    let trust = taken(&trust(), &both.bytes()).trust;
    let without = Making::of(&[policy("base", 2, TEXT)]).numbered(2);
    let error = refused(&trust, &without.bytes());
    assert!(error.starts_with("the document `guard` (version 4) has vanished"), "{error}");
    let withdrawn = Making::of(&[policy("base", 2, TEXT), policy("guard", 5, "")]).numbered(2);
    assert_eq!(taken(&trust, &withdrawn.bytes()).documents[1].policy, "");
}

#[test]
fn whatever_has_expired_is_named() {
    let trust = trust();
    let bundle = Making::of(&[policy("base", 1, TEXT)]).bytes();
    verify_at(&trust, &bundle, 167).unwrap();
    let error = verify_at(&trust, &bundle, 168).unwrap_err();
    assert!(error.starts_with("the timestamp expired at 2026-01-08T00:00:00Z"), "{error}");
    let mut long = Making::of(&[policy("base", 1, TEXT)]);
    long.stamp.expires = at(20_000);
    for (hour, what) in
        [(10_000, "the root"), (5_000, "the document `base`"), (2_000, "the snapshot")]
    {
        if what != "the snapshot" {
            long.snapshot.expires = at(20_000);
        }
        let mut policy = policy("base", 1, TEXT);
        if what == "the root" {
            policy.expires = at(20_000);
        }
        let mut making = Making::of(&[policy]);
        (making.snapshot.expires, making.stamp.expires) = (long.snapshot.expires, at(20_000));
        if what == "the snapshot" {
            making.snapshot.expires = at(2_000);
        }
        let bytes = making.bytes();
        verify_at(&trust, &bytes, hour - 1).unwrap();
        let error = verify_at(&trust, &bytes, hour).unwrap_err();
        assert!(error.starts_with(&format!("{what} expired at ")), "{error}");
    }
}

#[test]
fn a_clock_that_was_set_back_revives_nothing() {
    let trust = trust();
    let week = Making::of(&[policy("base", 1, TEXT)]).bytes();
    let mut next = Making::of(&[policy("base", 2, TEXT)]).numbered(2);
    next.stamp.expires = at(400);
    let later = verify_at(&trust, &next.bytes(), 200).unwrap().trust;
    assert_eq!(later.marks.seen, at(200));
    // The clock says that it is the first hour. It is not: this one was seen at hour 200, by when the timestamp had ended.
    let mut old = Making::of(&[policy("base", 3, TEXT)]).numbered(3);
    old.stamp.expires = at(168);
    let error = verify_at(&later, &old.bytes(), 1).unwrap_err();
    assert_eq!(error, format!("the timestamp expired at {}, and it is {}", at(168), at(200)));
    verify_at(&trust, &week, 1).unwrap();
}

#[test]
fn a_bundle_for_others_is_refused_and_a_document_for_others_is_left_out() {
    let mut making = Making::of(&[policy("base", 1, TEXT)]);
    making.snapshot.audience = vec!["test".to_owned(), "db-1".to_owned()];
    assert_eq!(
        refused(&trust(), &making.clone().bytes()),
        "the bundle is for test, db-1 and not for web-1, prod"
    );
    for audience in ["prod", "web-1"] {
        making.snapshot.audience = vec![audience.to_owned()];
        taken(&trust(), &making.clone().bytes());
    }
    let mut others = policy("others", 1, TEXT);
    others.audience = vec!["db-1".to_owned()];
    let accepted = taken(&trust(), &Making::of(&[policy("base", 1, TEXT), others.clone()]).bytes());
    assert_eq!(accepted.documents.len(), 1);
    assert_eq!(accepted.others, ["others"]);
    // It is verified all the same.
    let unsigned = Making::with(vec![signed(&others, &["dora"])]);
    assert!(refused(&trust(), &unsigned.bytes()).starts_with("the document `others`: 1 of"));
}

#[test]
fn what_vouches_shortest_says_how_long_a_policy_is_fresh() {
    let mut root = root();
    root.max_stale = Some(MaxStale { seconds: 3_600, then: Then::Lockdown });
    let root = signed(&root, &["anna", "ben"]);
    let trust = wire::Trust::begin(&serde_json::to_vec(&root).unwrap()).unwrap();
    let accepted = taken(&trust, &Making::of(&[policy("base", 1, TEXT)]).bytes());
    let freshness = accepted.freshness;
    assert_eq!(freshness.until, at(168));
    assert_eq!(freshness.at(at(167)), Stale::Fresh);
    assert_eq!(freshness.at(at(168)), Stale::Stale);
    assert_eq!(freshness.at(at(169)), Stale::TooOld(Then::Lockdown));
    let mut soon = policy("base", 1, TEXT);
    soon.expires = at(20);
    assert_eq!(taken(&trust, &Making::of(&[soon]).bytes()).freshness.until, at(20));
}
