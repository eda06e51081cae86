//! Equality of allowed behaviour: CPython's own tests of sockets, asyncio, socketserver, http and ftplib end the same way
//! with nothing attached and with every hook attached that reports and denies nothing they use.

use std::{collections::BTreeMap, thread};

use serde_json::Value;
use testbed::Host;

use crate::shared::{Enforcing, complaint, data, host, run_on, text};

/// How each test ended, and why where it did not end well.
fn outcomes(host: &Host, tests: &[&str]) -> (BTreeMap<String, String>, Value) {
    let script = data("suite.py");
    let mut arguments = vec![script.to_str().unwrap()];
    arguments.extend(tests);
    let output = run_on(host, "python3", &arguments);
    assert!(
        output.status.success(),
        "python3 runs CPython's tests (Debian: libpython3-testsuite): {}",
        complaint(&output)
    );
    let mut report: Value = serde_json::from_str(&text(&output)).unwrap();
    (serde_json::from_value(report["outcomes"].take()).unwrap(), report["why"].take())
}

/// The tests that ended differently on the two hosts.
fn differences<'a>(
    a: &'a BTreeMap<String, String>,
    b: &'a BTreeMap<String, String>,
) -> Vec<&'a str> {
    let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
    names.filter(|name| a.get(*name) != b.get(*name)).map(String::as_str).collect()
}

#[test]
fn d1_cpythons_tests_of_the_network_end_the_same_way() {
    let (open, judged) = (host(), host());
    // Every hook of an image with rules in both directions, each verdict reported; the rules are about nobody here.
    let rules =
        ["--deny", "198.51.100.0/24", "--deny", "2001:db8:7::/48", "--port", "7", "--debug", "1"];
    let enforcing = Enforcing::on(&judged, &rules);
    let both = |tests: &[&str]| {
        thread::scope(|scope| {
            let without = scope.spawn(|| outcomes(&open, tests));
            let with = outcomes(&judged, tests);
            (without.join().unwrap(), with)
        })
    };
    let (without, with) = both(&[]);
    assert!(without.0.len() > 1_200, "{} tests", without.0.len());
    assert!(without.0.values().filter(|end| *end == "ok").count() > 1_000);
    // Some of these tests measure time, and two suites share this machine: what differs is asked again, by itself.
    let suspects = differences(&without.0, &with.0);
    if !suspects.is_empty() {
        let (without, with) = both(&suspects);
        let still = differences(&without.0, &with.0);
        assert!(still.is_empty(), "{still:#?}\nwithout: {:#}\nwith: {:#}", without.1, with.1);
    }
    let lines = enforcing.stop();
    assert!(!lines.iter().any(|line| line.ends_with("denied")), "{lines:#?}");
    assert!(lines.iter().filter(|line| line.starts_with("! connect to")).count() > 100);
}
