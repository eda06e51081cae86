//! Files that are not what was written: each is recognised by what is wrong with it, the last good one is used, and
//! what was found is told.

use std::collections::BTreeMap;

use agent::store::Used;

use crate::{
    operation::{Operation, Seen, Store, edition, list_name, place},
    simulated::Simulated,
};

type Files = BTreeMap<String, Vec<u8>>;

fn files() -> Files {
    let disk = Simulated::default();
    let mut store = Store::open(disk.clone()).expect("listed");
    for value in [1, 2] {
        for operation in [
            Operation::Place(value),
            Operation::Stance(value),
            Operation::Entries(value),
            Operation::List(0, value),
            Operation::Commit(value),
        ] {
            operation.run(&mut store).expect("written");
        }
    }
    Operation::Propose(0).run(&mut store).expect("written");
    disk.content()
}

fn kind(file: &str) -> &str {
    match file {
        "policy.current" | "policy.previous" => "policy",
        "policy.pending" => "pending",
        "lists.deny" => "entries",
        "list.list-0" => "list",
        other => other,
    }
}

/// How a file can be wrong, and what is said of it.
fn damages(file: &str, files: &Files) -> Vec<(Vec<u8>, String)> {
    let whole = files[file].clone();
    let text = String::from_utf8(whole.clone()).expect("text");
    let kind = kind(file);
    let version = |version: u32| text.replace(&format!("{kind} 1 "), &format!("{kind} {version} "));
    let mut torn = whole.clone();
    let middle = torn.len() / 2;
    torn[middle..].fill(0);
    let other = if file == "place" { "stance" } else { "place" };
    vec![
        (torn, "it is torn".to_owned()),
        (whole[..whole.len() / 2].to_vec(), "it is truncated".to_owned()),
        (Vec::new(), "it is truncated".to_owned()),
        (version(0).into_bytes(), "older fwnet (version 0".to_owned()),
        (version(2).into_bytes(), "newer fwnet (version 2".to_owned()),
        (b"\x7fELF\x02\x01\x01".to_vec(), "no state of fwnet".to_owned()),
        (files[other].clone(), format!("the state of something else: {other}")),
    ]
}

#[test]
fn every_damage_of_every_file_is_recognised_and_the_last_good_one_is_used() {
    let files = files();
    for (file, last_good) in [
        ("place", Some("place.last")),
        ("stance", Some("stance.last")),
        ("lists.deny", Some("lists.deny.last")),
        ("list.list-0", Some("list.list-0.last")),
        ("policy.current", Some("policy.previous")),
        ("policy.previous", None),
        ("policy.pending", None),
    ] {
        for (content, said) in damages(file, &files) {
            let mut damaged = files.clone();
            damaged.insert(file.to_owned(), content.clone());
            let disk = Simulated::with(damaged.clone());
            let store = Store::open(disk.clone()).unwrap();
            let [found] = store.health().findings.as_slice() else {
                panic!("{file}: {:?}", store.health().sentences());
            };
            assert_eq!(found.file, file);
            assert!(found.to_string().contains(&said), "{found} where {said} was expected");
            let used = last_good.map_or(Used::Nothing, |name| Used::Before(name.to_owned()));
            assert_eq!(found.used, used, "{found}");
            assert_eq!(store.health().has_lost(file), last_good.is_none());
            assert_eq!(disk.content(), damaged, "a start does not touch what it cannot read");
        }
    }
}

#[test]
fn what_is_used_is_what_was_there_before() {
    let mut files = files();
    for file in ["place", "policy.current", "lists.deny", "list.list-0", "stance"] {
        files.insert(file.to_owned(), b"garbage".to_vec());
    }
    let disk = Simulated::with(files);
    let mut store = Store::open(disk).unwrap();
    assert_eq!(store.state().place, Some(place(1)));
    let current = store.state().current.clone().unwrap();
    assert_eq!(current.rules, edition(1).rules);
    assert_eq!(store.state().entries.iter().next().unwrap().target.to_string(), "192.0.2.1");
    assert_eq!(store.state().lists[&list_name(0)].lines, 1);
    assert_eq!(store.addresses(&list_name(0)).unwrap().ranges().count(), 1);
    assert_eq!(store.health().findings.len(), 5);
}

#[test]
fn what_cannot_be_used_is_kept_aside_and_the_last_good_one_stays_until_then() {
    let good = files();
    for (file, write) in [
        ("place", Operation::Place(0)),
        ("policy.current", Operation::Commit(0)),
        ("lists.deny", Operation::Entries(0)),
        ("list.list-0", Operation::List(0, 0)),
        ("stance", Operation::Stance(0)),
    ] {
        let mut damaged = good.clone();
        damaged.insert(file.to_owned(), b"by another program".to_vec());
        let disk = Simulated::with(damaged);
        let mut store = Store::open(disk.clone()).unwrap();
        let before = store.state().clone();
        write.run(&mut store).unwrap();
        assert!(store.health().is_well(), "{:?}", store.health().sentences());
        let content = disk.content();
        assert_eq!(content[&format!("{file}.unusable")], b"by another program");
        if file == "policy.current" {
            assert_eq!(
                store.state().previous,
                before.current,
                "which was the previous one all along"
            );
        } else {
            let last = format!("{file}.last");
            assert_eq!(content[&last], good[&last]);
        }
        let mut again = Store::open(disk).unwrap();
        assert!(again.health().is_well());
        assert_eq!(Seen::of(&mut again), Seen::of(&mut store));
    }
}

#[test]
fn a_missing_file_with_one_before_it_is_told() {
    let mut files = files();
    files.remove("lists.deny");
    files.remove("policy.current");
    let store = Store::open(Simulated::with(files)).unwrap();
    assert_eq!(
        store.health().sentences(),
        [
            "policy.current: it is missing; policy.previous is used instead",
            "lists.deny: it is missing; lists.deny.last is used instead",
        ]
    );
}

#[test]
fn forgetting_leaves_nothing() {
    let disk = Simulated::with(files());
    let mut store = Store::open(disk.clone()).unwrap();
    store.forget().unwrap();
    assert_eq!(disk.content(), BTreeMap::new());
    assert_eq!(store.state(), Store::open(disk).unwrap().state());
}
