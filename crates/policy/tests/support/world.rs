//! A small world for property tests: hosts, policies written as text, and flows that meet them.
//!
//! Everything is drawn from [`Choices`], a list of numbers that the test framework makes up and shortens when a test
//! fails; where the list ends, the first of everything is chosen.

use policy::{Checked, Facts, Host, Identities, Inventory, Source, check, syntax::means_container};
use proptest::prelude::*;
use verdict::{Address, Direction, Endpoint, Flow, Protocol, Subject};

/// Numbers to choose by.
#[derive(Clone, Debug)]
pub(crate) struct Choices {
    numbers: Vec<u16>,
    at: usize,
}

/// Lists of up to `max` numbers.
pub(crate) fn choices(max: usize) -> impl Strategy<Value = Choices> {
    prop::collection::vec(any::<u16>(), max).prop_map(|numbers| Choices { numbers, at: 0 })
}

impl Choices {
    /// The first of everything.
    pub(crate) fn none() -> Self {
        Self { numbers: Vec::new(), at: 0 }
    }

    /// A number below `count`.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        let number = self.numbers.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(number) % count
    }

    /// True once in `odds`.
    pub(crate) fn once_in(&mut self, odds: usize) -> bool {
        self.below(odds) == odds - 1
    }

    /// One of `options`.
    pub(crate) fn of<'a, T: ?Sized>(&mut self, options: &[&'a T]) -> &'a T {
        options[self.below(options.len())]
    }
}

/// The time in this world.
pub(crate) fn now() -> jiff::Timestamp {
    "2027-01-31T12:00:00Z".parse().expect("a moment")
}

/// Whom process qualifiers name on every host of this world.
#[derive(Debug)]
pub(crate) struct Names;

impl Identities for Names {
    fn user(&self, name: &str) -> Option<u32> {
        (0..).zip(["root", "alice", "bob"]).find(|(_, known)| *known == name).map(|(uid, _)| uid)
    }

    fn group(&self, name: &str) -> Option<u32> {
        (0..).zip(["root", "staff"]).find(|(_, known)| *known == name).map(|(gid, _)| gid)
    }

    fn exe(&self, path: &str) -> Option<u64> {
        // The unknown executable has a name here to show that 0 is never matched.
        ["/bin/none", "/bin/a", "/bin/b"]
            .iter()
            .position(|known| *known == path)
            .map(|exe| exe as u64)
    }

    fn unit(&self, name: &str) -> Option<u64> {
        ["none.service", "a.service", "/b", "/b/c"]
            .iter()
            .position(|known| *known == name)
            .map(|unit| unit as u64)
    }

    fn container(&self, name: &str) -> Option<u64> {
        (10..)
            .zip(["web", CONTAINER])
            .find(|(_, known)| means_container(name, known))
            .map(|(id, _)| id)
    }

    fn netns(&self, name: &str) -> Option<u64> {
        ["none", "host", "blue"].iter().position(|known| *known == name).map(|netns| netns as u64)
    }

    fn above(&self, cgroup: u64) -> Vec<u64> {
        if cgroup == 3 { vec![2] } else { Vec::new() }
    }
}

/// The id of a container.
pub(crate) const CONTAINER: &str =
    "4c01db0b339c6ee2d20d4d1b1ea6d8f2e7b0a8f0b8e4c0e1a9f3b2c1d0e9f8a7";

/// The cgroups that a process can be in, the deepest first: units of the world, and its containers in them or not.
const LINES: [&[u64]; 9] =
    [&[], &[1], &[2], &[3, 2], &[10], &[11], &[11, 1], &[11, 3, 2], &[3, 2, 10]];

const HOSTS: [(&str, &[&str]); 6] = [
    ("web-1", &["10.0.0.1", "2001:db8::1"]),
    ("web-2", &["10.0.0.2"]),
    ("db-1", &["10.0.1.1", "10.0.1.2"]),
    ("db-2", &[]),
    ("edge", &["192.0.2.9", "127.0.0.9"]),
    ("lone", &["2001:db8:0:1::7"]),
];

/// The addresses of [`HOSTS`], their neighbours, loopback and strangers.
const ADDRESSES: [&str; 20] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.1.1",
    "10.0.1.2",
    "192.0.2.9",
    "2001:db8::1",
    "2001:db8:0:1::7",
    "127.0.0.1",
    "::1",
    "127.0.0.9",
    "10.0.0.3",
    "10.0.2.1",
    "198.51.100.7",
    "2001:db8::2",
    "255.255.255.255",
    "0.0.0.0",
    "::",
    "10.0.0.0",
    "192.0.2.10",
    "2001:db8:ffff::1",
];

pub(crate) fn address(text: &str) -> Address {
    match text.parse().expect("an address") {
        std::net::IpAddr::V4(v4) => Address::v4(v4.to_bits()),
        std::net::IpAddr::V6(v6) => Address::from_bits(v6.to_bits()),
    }
}

/// A host of [`HOSTS`] with labels.
pub(crate) fn host(choices: &mut Choices, which: usize) -> Host {
    let (id, addresses) = HOSTS[which];
    let mut labels = std::collections::BTreeMap::new();
    for (key, values) in [("role", &["web", "db", "edge"]), ("env", &["prod", "test", "lab"])] {
        if !choices.once_in(4) {
            labels.insert(key.to_owned(), choices.of(values).to_owned());
        }
    }
    let mut addresses: Vec<Address> = addresses.iter().map(|text| address(text)).collect();
    if choices.once_in(4) {
        addresses.pop();
    }
    Host { id: id.to_owned(), names: vec![format!("{id}.example")], addresses, labels }
}

pub(crate) fn hosts(choices: &mut Choices) -> Vec<Host> {
    (0..HOSTS.len()).map(|which| host(choices, which)).collect()
}

fn label(choices: &mut Choices) -> String {
    match choices.below(10) {
        0..=2 => format!("role={}", choices.of(&["web", "db", "edge"])),
        3 => format!("env={}", choices.of(&["prod", "test", "lab"])),
        4 => format!("role!={}", choices.of(&["web", "db"])),
        5 => "role in (web, edge)".to_owned(),
        6 => format!("env not in ({}, lab)", choices.of(&["prod", "test"])),
        7 => format!("has {}", choices.of(&["role", "env", "host"])),
        8 => format!("host={}", choices.of(&["web-1", "db-1", "lone"])),
        _ => "host!=web-1".to_owned(),
    }
}

/// A selector; `names` are those of the document.
pub(crate) fn selector(choices: &mut Choices, depth: u32, names: &[&str]) -> String {
    let leaf = depth == 0;
    match choices.below(if leaf { 9 } else { 18 }) {
        0 | 15..18 => "any".to_owned(),
        1 => "me".to_owned(),
        2 | 3 => label(choices),
        4 => choices.of(&["web-1", "db-1.example", "edge", "db-2"]).to_owned(),
        5 | 6 => choices
            .of(&[
                "10.0.0.0/24",
                "10.0.0.1",
                "10.0.0.0/8",
                "127.0.0.0/8",
                "::1",
                "0.0.0.0/0",
                "::/0",
                "2001:db8::/64",
                "10.0.0.2-10.0.1.1",
                "127.0.0.1",
                "192.0.2.9",
                "198.51.100.0/24",
            ])
            .to_owned(),
        7 | 8 if !names.is_empty() => choices.of(names).to_owned(),
        7 | 8 => label(choices),
        9 | 10 => format!("not ({})", selector(choices, depth - 1, names)),
        11 => format!(
            "({}) & ({})",
            selector(choices, depth - 1, names),
            selector(choices, depth - 1, names)
        ),
        12 | 13 => format!(
            "({}), ({})",
            selector(choices, depth - 1, names),
            selector(choices, depth - 1, names)
        ),
        _ => format!(
            "(({}) except ({}))",
            selector(choices, depth - 1, names),
            selector(choices, depth - 1, names)
        ),
    }
}

fn process(choices: &mut Choices) -> String {
    if !choices.once_in(4) {
        return String::new();
    }
    let mut said = vec![match choices.below(6) {
        0 => format!("user={}", choices.of(&["alice", "bob", "ghost", "2"])),
        1 => format!("exe in ({}, /bin/b)", choices.of(&["/bin/a", "/bin/ghost", "/bin/none"])),
        2 => format!("group={}", choices.of(&["staff", "0", "ghost"])),
        3 => format!("unit={}", choices.of(&["a.service", "/b", "/b/c", "none.service"])),
        4 => format!(
            "container={}",
            choices.of(&["web", &CONTAINER[..12], CONTAINER, "4c01db0b339d", "db"])
        ),
        _ => format!("netns={}", choices.of(&["host", "blue", "none", "ghost"])),
    }];
    if choices.once_in(4) && !said[0].starts_with("user") {
        said.push("user in (root, alice)".to_owned());
    }
    format!("[{}]", said.join(" "))
}

fn services(choices: &mut Choices) -> String {
    const SERVICES: [&str; 13] = [
        "any",
        "any",
        "any",
        "tcp/any",
        "udp/53",
        "tcp/79-443",
        "udp/any",
        "sctp/any",
        "s1",
        "s2",
        "icmp/any",
        "tcp/80",
        "tcp/443",
    ];
    let one = |choices: &mut Choices| choices.of(&SERVICES);
    let first = one(choices);
    if choices.once_in(3) {
        let second = one(choices);
        if second != first {
            return format!("{first}, {second}");
        }
    }
    first.to_owned()
}

const SELECTOR_NAMES: [&str; 3] = ["n1", "n2", "n3"];

/// One rule of a document that defines [`names`].
pub(crate) fn rule(choices: &mut Choices) -> String {
    let mode = choices.of(&["", "", "", "", "audit ", "draft "]);
    let effect = choices.of(&["allow", "deny", "refuse"]);
    let from = selector(choices, 2, &SELECTOR_NAMES);
    let to = selector(choices, 2, &SELECTOR_NAMES);
    let (from_process, to_process) = (process(choices), process(choices));
    let services = services(choices);
    let mut rule = format!("{mode}{effect} {from}{from_process} -> {to}{to_process} : {services}");
    if choices.once_in(4) {
        rule.push_str(choices.of(&[
            " until 2027-01-30",
            " until 2027-01-31",
            " until 2027-01-31T12:00:00Z",
            " until 2027-01-31T12:00:01Z",
            " until 2027-01-31T12:00:02Z",
            " until 2027-02-01T00:00:01Z",
        ]));
    }
    if choices.once_in(6) {
        rule.push_str(" log");
    }
    rule
}

/// Definitions of the names that rules use.
pub(crate) fn names(choices: &mut Choices) -> Vec<String> {
    vec![
        format!("name n1 = {}", selector(choices, 1, &[])),
        format!("name n2 = {}", selector(choices, 1, &["n1"])),
        // Before what it uses, in the order of the text.
        format!("name n3 = {}", selector(choices, 1, &["n1", "n2"])),
        "name s1 = tcp/80-81, udp/53".to_owned(),
        format!("name s2 = s1, {}", choices.of(&["tcp/22", "sctp/any", "udp/123"])),
    ]
}

/// A document without its defaults.
pub(crate) fn document(choices: &mut Choices, rules: usize) -> String {
    let mut lines = vec![
        format!("tier {}", choices.of(&["team", "team", "admin", "baseline"])),
        format!(
            "mode {}",
            choices.of(&["enforce", "enforce", "enforce", "enforce", "audit", "draft"])
        ),
    ];
    if choices.once_in(3) {
        lines.push("inbound drop".to_owned());
    }
    lines.extend(names(choices));
    lines.reverse();
    for _ in 0..=choices.below(rules) {
        lines.push(rule(choices));
    }
    lines.join("\n")
}

/// Up to three documents, checked together, without errors.
pub(crate) fn documents(choices: &mut Choices) -> Vec<String> {
    let mut documents: Vec<String> =
        (0..=choices.below(3)).map(|_| document(choices, 10)).collect();
    for way in ["in", "out"] {
        if choices.once_in(2) {
            let which = choices.below(documents.len());
            let answer = choices.of(&["deny", "deny", "allow"]);
            documents[which].push_str(&format!("\ndefault {answer} {way}"));
        }
    }
    if choices.once_in(3) {
        let which = choices.below(documents.len());
        let from = selector(choices, 1, &SELECTOR_NAMES);
        documents[which].push_str(&format!("\nfailsafe {from} -> me : tcp/80"));
        documents[which].push_str("\nfailsafe me -> 192.0.2.9 : s1");
    }
    documents
}

/// Checks documents. Random selectors often match nothing by construction; a person is told so, and here they are good to
/// have. `None` if there are other errors.
pub(crate) fn checked(documents: &[String], inventory: &Inventory) -> Option<Checked> {
    let sources: Vec<Source<'_>> =
        documents.iter().map(|text| Source { name: "random", bytes: text.as_bytes() }).collect();
    let checked = check(&sources, Some(inventory), now());
    let fine = |found: &policy::Diagnostic| {
        found.severity() == policy::Severity::Warning || found.code == policy::Code::EmptySet
    };
    (checked.diagnostics.reported().iter().all(fine) && checked.diagnostics.unreported() == 0)
        .then_some(checked)
}

/// The facts of one host, which may be none of the inventory's.
pub(crate) fn facts<'a>(
    choices: &mut Choices,
    inventory: &'a Inventory,
    added: &'a [Address],
) -> Facts<'a> {
    let host = choices.of(&["web-1", "db-1", "web-2.example", "db-2", "edge", "nobody"]);
    let mut facts = Facts::new(inventory, host, &Names, now());
    facts.addresses = &added[..choices.below(added.len() + 1)];
    facts
}

/// Addresses that a host may have beside the inventory's: one is another host's, one is new, one is loopback.
pub(crate) fn added() -> [Address; 3] {
    ["10.0.0.3", "10.0.1.1", "127.0.0.9"].map(address)
}

/// Flows at a host.
pub(crate) fn flow(choices: &mut Choices) -> Flow {
    let mut end = || {
        let at = address(ADDRESSES[choices.below(ADDRESSES.len())]);
        let port = [80, 53, 443, 22, 81, 123, 0, 65_535][choices.below(8)];
        Endpoint { address: at, port }
    };
    let (local, remote) = (end(), end());
    Flow {
        direction: if choices.once_in(2) { Direction::In } else { Direction::Out },
        protocol: [
            Protocol::TCP,
            Protocol::TCP,
            Protocol::UDP,
            Protocol::SCTP,
            Protocol::ICMP,
            Protocol::RAW,
        ][choices.below(6)],
        local,
        remote,
        subject: Subject {
            uid: [0, 1, 2, 3][choices.below(4)],
            gid: [0, 1, 2][choices.below(3)],
            exe: choices.below(3) as u64,
            netns: choices.below(4) as u64,
            ..within(LINES[choices.below(LINES.len())])
        },
    }
}

/// A process in these cgroups, the deepest first.
pub(crate) fn within(line: &[u64]) -> Subject {
    let mut subject = Subject::UNKNOWN;
    subject.cgroup = line.first().copied().unwrap_or(0);
    for (to, from) in subject.above.iter_mut().zip(line.iter().skip(1)) {
        *to = *from;
    }
    subject
}
