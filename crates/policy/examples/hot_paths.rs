//! Does each of the hot paths of user space once, for `cargo xtask bench instructions`, which counts what runs inside of
//! [`counted`]. Prints the names of the paths in the order in which they are done, one a line.
//!
//! The world is the same in every run, and everything that a path needs is made before it is counted.

use std::{
    collections::BTreeMap,
    error::Error,
    fmt::Write as _,
    hint::black_box,
    io::{self, Write as _},
};

use image::{AddressSet, RuleSet, Service};
use policy::{Diagnostics, Facts, Host, Inventory, NoIdentities, Source, check, compile, parse};
use verdict::{Address, Direction, Endpoint, Flow, Protocol, Subject, Verdict, decide};

const RULES: u32 = 500;
const HOSTS: u32 = 1_000;
const PREFIXES: u32 = 20_000;
const FLOWS: u32 = 20_000;

/// Numbers that look random (Steele, Lea, Flood: splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, count: u32) -> u32 {
        u32::try_from(self.next() % u64::from(count)).expect("below 32 bits")
    }
}

fn host(dice: &mut Dice, number: u32) -> Host {
    let labels = [("role", 20), ("env", 3), ("zone", 5)];
    let labels =
        labels.map(|(key, values)| (key.to_owned(), format!("{key}-{}", dice.below(values))));
    Host {
        id: format!("host-{number}"),
        names: Vec::new(),
        addresses: vec![Address::v4(0x0a00_0000 + number * 3)],
        labels: BTreeMap::from(labels),
    }
}

fn rule(dice: &mut Dice) -> String {
    let effect = if dice.below(4) == 0 { "deny" } else { "allow" };
    let mut end = || format!("role=role-{} & env=env-{}", dice.below(20), dice.below(3));
    let (from, to) = (end(), end());
    format!("{effect} {from} -> {to} : tcp/{}", 1 + dice.below(60) * 17)
}

/// A mixture like that of public lists: hosts and networks of either family.
fn prefix(dice: &mut Dice) -> (Address, u8) {
    match dice.below(10) {
        0 => (Address::v6([0x2001_0000 | dice.below(1 << 16), dice.below(u32::MAX), 0, 0]), 64),
        1..4 => (Address::v4(dice.below(u32::MAX)), 96 + 24),
        _ => (Address::v4(dice.below(u32::MAX)), 128),
    }
}

/// A list, a rule for each of 64 ports, and the defaults.
fn rule_set(prefixes: Vec<(Address, u8)>) -> RuleSet {
    let denying = image::Rule {
        remote: Some(0),
        flags: 0,
        ..image::Rule::default(Direction::Out, Verdict::Deny, 0)
    };
    let on = |port: u16| image::Rule {
        services: vec![Service::tcp(port..=port + 100)],
        ..denying.clone()
    };
    let mut rules: Vec<image::Rule> = (0..64).map(|number| on(number * 1_000)).collect();
    rules.extend([
        image::Rule::default(Direction::Out, Verdict::Allow, 1),
        image::Rule::default(Direction::In, Verdict::Allow, 1),
    ]);
    let sets = vec![AddressSet::from_prefixes(prefixes)];
    RuleSet { sets, rules, ..RuleSet::default() }
}

fn flow(dice: &mut Dice) -> Flow {
    let (address, _) = prefix(dice);
    let port = u16::try_from(dice.below(1 << 16)).expect("16 bits");
    Flow {
        direction: Direction::Out,
        protocol: Protocol::TCP,
        local: Endpoint::default(),
        remote: Endpoint { address, port },
        subject: Subject::UNKNOWN,
    }
}

/// What is done in here is counted; the name is looked for by the counter.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    black_box(());
}

fn path<T>(name: &str, work: impl FnOnce() -> T) -> io::Result<T> {
    writeln!(io::stdout(), "{name}")?;
    let (mut work, mut done) = (Some(work), None);
    counted(&mut || done = work.take().map(|work| work()));
    Ok(black_box(done.expect("done once")))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut dice = Dice(2015);
    let listed: Vec<Host> = (0..HOSTS).map(|number| host(&mut dice, number)).collect();
    let mut text = String::from("default deny in\n");
    for _ in 0..RULES {
        writeln!(text, "{}", rule(&mut dice))?;
    }
    let now = "2027-01-01T00:00:00Z".parse()?;
    let sources = [Source { name: "bench.fwnet", bytes: text.as_bytes() }];
    let prefixes: Vec<(Address, u8)> = (0..PREFIXES).map(|_| prefix(&mut dice)).collect();
    let flows: Vec<Flow> = (0..FLOWS).map(|_| flow(&mut dice)).collect();

    let inventory = path("inventory", || Inventory::new(listed))?
        .map_err(|faults| format!("{} faults in the inventory", faults.len()))?;
    path("parse", || parse(text.as_bytes(), 0, &mut Diagnostics::default()))?;
    let checked = path("check", || check(&sources, Some(&inventory), now))?;
    if checked.diagnostics.has_errors() {
        return Err(checked.render().into());
    }
    let facts = Facts::new(&inventory, "host-0", &NoIdentities, now);
    path("compile", || compile(&checked.policies, &facts))??;
    let rules = path("list", || rule_set(prefixes))?;
    let image = path("image-build", || image::compile(&rules))??;
    let lines = image.to_lines();
    path("image-check", || image::check(&lines))??;
    let denied = path("decide", || {
        let tables = image.at(0);
        flows.iter().filter(|flow| decide(flow, &tables).denies()).count()
    })?;
    if denied == 0 || denied == flows.len() {
        return Err(format!("{denied} of {} flows are denied", flows.len()).into());
    }
    Ok(())
}
