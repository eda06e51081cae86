//! Which crate may know which: ARCHITECTURE.md lists every arrow, and only those that are there.

use super::{assert_tidy, fenced};
use serde_json::Value;
use std::collections::BTreeSet;
use xtask::{step, workspace};

type Arrow = (String, String);

#[test]
fn the_crates_know_each_other_as_architecture_md_says() {
    let mut complaints = Vec::new();
    let (products, tests) = actual();
    for (actual, block) in [(products, "arrows"), (tests, "test-arrows")] {
        let listed: BTreeSet<Arrow> =
            fenced("ARCHITECTURE.md", block).iter().flat_map(|line| parse(line)).collect();
        for (from, to) in actual.difference(&listed) {
            complaints.push(format!(
                "{from} must not know {to}: ARCHITECTURE.md has no such line in ```{block}"
            ));
        }
        for (from, to) in listed.difference(&actual) {
            complaints.push(format!(
                "ARCHITECTURE.md says {from} -> {to} in ```{block}; there is no such dependency"
            ));
        }
    }
    assert_tidy(&complaints);
}

#[test]
fn every_crate_has_its_line_in_architecture_md() {
    let map = fenced("ARCHITECTURE.md", "text").join("\n");
    let missing = names()
        .into_iter()
        .filter(|name| !map.lines().any(|line| line.split(' ').next() == Some(name)));
    assert_tidy(
        &missing
            .map(|name| format!("ARCHITECTURE.md's code map has no line for {name}"))
            .collect::<Vec<_>>(),
    );
}

/// `a -> b, c` is two arrows.
fn parse(line: &str) -> Vec<Arrow> {
    let (from, to) = line.split_once(" -> ").unwrap_or_else(|| panic!("not an arrow: {line}"));
    to.split(", ").map(|to| (from.to_owned(), to.to_owned())).collect()
}

/// The arrows between our crates: what the products need, and what only their tests need.
fn actual() -> (BTreeSet<Arrow>, BTreeSet<Arrow>) {
    let (mut products, mut tests) = (BTreeSet::new(), BTreeSet::new());
    for package in packages() {
        for dependency in
            package["dependencies"].as_array().unwrap().iter().filter(|it| it["path"].is_string())
        {
            let arrow = (text(&package["name"]), text(&dependency["name"]));
            if dependency["kind"] == "dev" { &mut tests } else { &mut products }.insert(arrow);
        }
    }
    (products, tests)
}

fn names() -> Vec<String> {
    packages().iter().map(|package| text(&package["name"])).collect()
}

/// Cargo's view of our packages; `ebpf` has a workspace of its own.
fn packages() -> Vec<Value> {
    let mut packages = Vec::new();
    for manifest in ["Cargo.toml", "crates/ebpf/Cargo.toml"] {
        let mut cargo = workspace::cargo();
        cargo.args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
            "--manifest-path",
            manifest,
        ]);
        let metadata: Value = serde_json::from_str(&step::output(&mut cargo).unwrap()).unwrap();
        packages.extend(metadata["packages"].as_array().unwrap().iter().cloned());
    }
    packages
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
