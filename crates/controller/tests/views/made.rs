//! What chance makes: hosts, and documents about them with their tests.

use std::collections::BTreeMap;

use controller::{
    Change, Digest,
    records::{HostRecord, Key, Taken, encode},
};
use verdict::Address;

use crate::{chance::Chance, people::at};

/// Ends of rules and of tests.
pub(crate) const SELECTORS: &[&str] = &[
    "any",
    "me",
    "role=web",
    "role=db",
    "role!=web",
    "role in (web, cache)",
    "role not in (db)",
    "has env",
    "env=prod & role=web",
    "not role=web",
    "not has env",
    "web-0",
    "h1",
    "host=h2",
    "host!=h2",
    "10.0.0.0/16",
    "10.0.0.0/30",
    "10.0.1.0-10.0.1.9",
    "2001:db8::/32",
    "127.0.0.1",
    "role=web except env=prod",
    "10.0.0.0/16 & role=db",
    "not 10.0.0.0/16",
    "role=db, 10.0.2.0/24",
    "has host",
    "not me",
    "me & role=web",
    "not (role=db | 10.0.0.0/30)",
    "team=a",
    "nick",
    "0.0.0.0/0",
    "any except role=web",
];
/// Values of the label `role`.
const ROLES: &[&str] = &["web", "db", "cache", "odd"];

/// Labels of a host.
pub(crate) fn labels(chance: &mut Chance) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (key, values) in [("role", ROLES), ("env", &["prod", "test"]), ("team", &["a", "b"])] {
        if chance.percent(70) {
            labels.insert(key.to_owned(), chance.of(values).to_owned());
        }
    }
    labels
}

/// An address of the host of a number.
pub(crate) fn address(chance: &mut Chance, number: u64) -> Address {
    let number = u32::try_from(number).unwrap();
    match chance.below(5) {
        0 => Address::v6([0x2001_0db8, 0, 0, number]),
        1 => Address::v4(0x0a00_0100 + number),
        2 => Address::v4(0x0a00_0200 + number),
        3 => Address::v4(0xc0a8_0000 + number),
        _ => Address::v4(0x0a00_0000 + number),
    }
}

/// Records of a new host, as an enrolment writes them.
pub(crate) fn host(chance: &mut Chance, id: &str, number: u64, since: u64) -> Vec<Change> {
    let mut addresses = Vec::new();
    for extra in 0..chance.below(3) {
        addresses.push(address(chance, number + 40 * extra));
    }
    addresses.sort();
    addresses.dedup();
    let names = if number == 3 { vec!["nick".to_owned()] } else { Vec::new() };
    let taken = encode(&Taken { host: id.to_owned() });
    let mut keys: Vec<Key> = addresses.iter().map(|&it| Key::Address(it)).collect();
    keys.extend(names.iter().map(|name| Key::Name(name.clone())));
    let record = HostRecord {
        labels: labels(chance),
        addresses,
        names,
        certificate: Digest::of(id.as_bytes()),
        previous: None,
        enrolled_at: at(0),
        quarantined: false,
        since,
    };
    let change = |key: Key, value: Vec<u8>| Change { key: key.text(), value: Some(value) };
    let mut changes: Vec<Change> = keys.into_iter().map(|it| change(it, taken.clone())).collect();
    changes.push(change(Key::Host(id.to_owned()), encode(&record)));
    changes
}

/// A document, one of so many.
pub(crate) fn text(chance: &mut Chance, first: bool, documents: u64) -> String {
    let mut text = String::new();
    if chance.percent(30) {
        text.push_str(chance.of(&["tier admin\n", "tier baseline\n"]));
    }
    if chance.percent(10) {
        text.push_str("mode audit\n");
    }
    let named = chance.percent(30);
    if named {
        text.push_str(&format!("name those = {}\n", chance.of(SELECTORS)));
    }
    if first && chance.percent(60) {
        text.push_str(chance.of(&[
            "default deny in\n",
            "default deny out\n",
            "default allow in\n",
        ]));
    }
    let rules = chance.below(6 / documents + 2) + u64::from(named);
    for rule in 0..rules {
        let from = if named && rule == 0 { "those" } else { chance.of(SELECTORS) };
        let to = chance.of(SELECTORS);
        let effect = chance.of(&["allow", "deny", "allow", "deny", "failsafe", "audit deny"]);
        let service = chance.of(&["any", "tcp/80", "udp/53", "tcp/80-90"]);
        if effect == "failsafe" && (!first || from == "me" && to == "me") {
            continue;
        }
        text.push_str(&format!("{effect} {from} -> {to} : {service}\n"));
    }
    text
}

/// Tests for a text, by a chance of their own: what else happens does not depend on them.
pub(crate) fn tests(text: &str) -> String {
    let chance = &mut Chance::new(text.bytes().map(u64::from).sum());
    let mut tests = String::new();
    for _ in 0..chance.below(4) {
        let (from, to) = (chance.of(SELECTORS), chance.of(SELECTORS));
        let (answer, service) = (chance.of(&["allow", "deny"]), chance.of(&["any", "tcp/80"]));
        tests.push_str(&format!("test {answer} {from} -> {to} : {service}\n"));
    }
    tests
}
