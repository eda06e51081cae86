//! deny.toml holds here too, where cargo-deny is not installed: no banned crate, no licence outside its list.

use super::{assert_tidy, read};
use serde_json::Value;
use std::collections::BTreeSet;
use xtask::{step, workspace};

/// Ours, and the kernel programs'.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "crates/ebpf/Cargo.toml"];

#[test]
fn no_banned_crate_is_used() {
    let rules: toml::Table = read("deny.toml").parse().unwrap();
    let mut complaints = Vec::new();
    for manifest in MANIFESTS {
        let names = built(manifest);
        for ban in rules["bans"]["deny"].as_array().unwrap() {
            let (name, reason) = (ban["crate"].as_str().unwrap(), ban["reason"].as_str().unwrap());
            if names.contains(name) {
                complaints.push(format!("{manifest} has {name}: {reason}"));
            }
        }
    }
    assert_tidy(&complaints);
}

#[test]
fn every_licence_is_one_that_fwnet_may_be_shipped_with() {
    let rules: toml::Table = read("deny.toml").parse().unwrap();
    let allowed: Vec<_> = rules["licenses"]["allow"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(toml::Value::as_str)
        .collect();
    let mut complaints = Vec::new();
    for manifest in MANIFESTS {
        let names = built(manifest);
        let mut cargo = workspace::cargo();
        cargo.args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ]);
        cargo.args(["--manifest-path", manifest]);
        let metadata: Value = serde_json::from_str(&step::output(&mut cargo).unwrap()).unwrap();
        for package in metadata["packages"].as_array().unwrap() {
            let name = package["name"].as_str().unwrap();
            if !names.contains(name) {
                continue;
            }
            match package["license"].as_str() {
                None => complaints.push(format!("{name} names no licence")),
                Some(licence) if !permitted(licence, &allowed) => {
                    complaints.push(format!("{name} is {licence}"))
                }
                Some(_) => {}
            }
        }
    }
    assert_tidy(&complaints);
}

/// Names of what is built with any feature of ours. A lock file also has what a feature of somebody else's would take,
/// which nobody turns on.
fn built(manifest: &str) -> BTreeSet<String> {
    let mut cargo = workspace::cargo();
    cargo.args(["tree", "--locked", "--workspace", "--all-features", "--prefix", "none"]);
    cargo.args(["--target", "x86_64-unknown-linux-gnu", "--format", "{p}"]);
    cargo.args(["--manifest-path", manifest]);
    let tree = step::output(&mut cargo).unwrap();
    let names: BTreeSet<String> =
        tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert!(names.contains("verdict"), "{manifest}: {tree}");
    names
}

/// Whether an SPDX expression can be satisfied by the allowed licences alone.
fn permitted(licence: &str, allowed: &[&str]) -> bool {
    // LAX takes the old "MIT/Apache-2.0" for "MIT OR Apache-2.0", as cargo does.
    let expression = spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX);
    expression.is_ok_and(|it| it.evaluate(|needed| allowed.contains(&needed.to_string().as_str())))
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"];
    for good in [
        "MIT",
        "MIT OR GPL-2.0-only",
        "MIT/Apache-2.0",
        "MIT AND Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(permitted(good, &allowed), "{good}");
    }
    for bad in ["GPL-2.0-only", "MIT AND GPL-3.0-or-later", "", "whatever"] {
        assert!(!permitted(bad, &allowed), "{bad}");
    }
}
