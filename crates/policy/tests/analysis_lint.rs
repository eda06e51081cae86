//! What the lint finds is what reading the policies aloud with and without a rule shows, on every flow of a small world;
//! and a page of examples.

#[path = "support/connections.rs"]
#[expect(dead_code, reason = "each test uses a part of the connections")]
mod connections;
#[path = "support/world.rs"]
#[expect(dead_code, reason = "each test uses a part of the world")]
mod world;

use std::collections::BTreeMap;

use connections::places;
use policy::{
    Checked, Facts, Host, Inventory, Policy, Said, Source,
    analysis::{Basis, Fault, Finding, Question, Symbols, lint},
    check, read_aloud,
};
use proptest::{prelude::*, test_runner::Config};
use verdict::{Address, Direction, Endpoint, Flow, Protocol, Subject, Verdict};
use world::{Choices, choices};

const WORLDS: u32 = 200;
/// Rules of each world that are taken out.
const RULES: usize = 4;

/// Every flow at every host, one of each class: places of all pieces, services of all ranges, nobody's process.
fn flows(inventory: &Inventory) -> Vec<(String, Flow)> {
    let places = places(inventory);
    let loopback = ["127.0.0.1", "127.0.0.9", "::1"].map(world::address);
    let mut ends: Vec<(String, Direction, Address, Address)> = Vec::new();
    for from in &places {
        for to in &places {
            let family = |address: Option<Address>| address.map(Address::is_v4);
            let same = family(from.address) == family(to.address);
            if let (Some(host), Some(remote)) = (&from.host, to.address)
                && (same || from.address.is_none() && to.host.is_none())
            {
                let local = from.address.unwrap_or(Address::UNSPECIFIED_V4);
                ends.push((host.clone(), Direction::Out, local, remote));
            }
            if let (Some(host), Some(local), Some(remote)) = (&to.host, to.address, from.address)
                && same
            {
                ends.push((host.clone(), Direction::In, local, remote));
            }
            // A host without addresses accepts at any that is nobody's.
            if let (Some(host), None, None, Some(remote)) =
                (&to.host, to.address, &from.host, from.address)
            {
                let outside = places.iter().filter(|place| place.host.is_none());
                for local in outside.filter_map(|place| place.address) {
                    if local.is_v4() == remote.is_v4() {
                        ends.push((host.clone(), Direction::In, local, remote));
                    }
                }
            }
        }
    }
    for host in inventory.hosts() {
        for a in loopback {
            for b in loopback.into_iter().filter(|b| b.is_v4() == a.is_v4()) {
                let id = || host.id.clone();
                ends.extend([(id(), Direction::Out, a, b), (id(), Direction::In, a, b)]);
            }
        }
    }
    ends.sort();
    ends.dedup();
    let (tcp, udp) = ([1, 22, 79, 80, 81, 82, 443, 444], [1, 53, 123]);
    let tcp = tcp.map(|port| (Protocol::TCP, port)).into_iter();
    let udp = udp.map(|port| (Protocol::UDP, port)).into_iter();
    let others = [Protocol::SCTP, Protocol::ICMP, Protocol(99)].map(|protocol| (protocol, 0));
    let services: Vec<(Protocol, u16)> = tcp.chain(udp).chain(others).collect();
    let flow = |(host, direction, local, remote): &(String, Direction, Address, Address),
                service| {
        let (protocol, port) = service;
        let (local_port, remote_port) = match direction {
            Direction::Out => (0, port),
            Direction::In => (port, 0),
        };
        let local = Endpoint { address: *local, port: local_port };
        let remote = Endpoint { address: *remote, port: remote_port };
        let subject = Subject::UNKNOWN;
        (host.clone(), Flow { direction: *direction, protocol, local, remote, subject })
    };
    ends.iter().flat_map(|end| services.iter().map(move |&service| flow(end, service))).collect()
}

/// Documents without the process qualifiers of their rules: with them every flow is too many.
fn without_processes(text: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for character in text.chars() {
        match character {
            '[' => inside = true,
            ']' => inside = false,
            other if !inside => out.push(other),
            _ => {}
        }
    }
    out
}

fn is_rule(line: &str) -> bool {
    let line = line.trim_start_matches("audit ").trim_start_matches("draft ");
    ["allow ", "deny ", "refuse "].iter().any(|effect| line.starts_with(effect))
}

/// The documents with one rule left out, or with no other one, and nothing else that speaks.
fn changed(texts: &[String], document: usize, nth: usize, alone: bool) -> Vec<String> {
    let one = |(at, text): (usize, &String)| {
        let mut rule = 0;
        let kept = text.lines().filter(|line| {
            if is_rule(line) {
                rule += 1;
                return (at == document && rule == nth + 1) == alone;
            }
            let speaks = line.starts_with("default ") || line.starts_with("failsafe ");
            !(alone && speaks)
        });
        kept.collect::<Vec<_>>().join("\n")
    };
    texts.iter().enumerate().map(one).collect()
}

struct Rule {
    id: String,
    tier: u8,
    verdict: Verdict,
    matches: Vec<bool>,
}

fn agrees(choices: &mut Choices) -> Result<(), TestCaseError> {
    let inventory = Inventory::new(world::hosts(choices)).expect("hosts in order");
    let basis = if choices.once_in(2) { Basis::Would } else { Basis::Enforced };
    let texts: Vec<String> =
        world::documents(choices).iter().map(|text| without_processes(text)).collect();
    let reject = || TestCaseError::reject("errors in the documents");
    let checked = world::checked(&texts, &inventory).ok_or_else(reject)?;
    let symbols = Symbols::new(&checked.policies);
    let question = Question { inventory: &inventory, now: world::now(), basis };
    let lint = lint(&checked.policies, &question).expect("a small world is within the limits");
    let flows = flows(&inventory);
    let said = |policies: &[Policy], basis: Basis| -> Vec<Said> {
        let one = |(host, flow): &(String, Flow)| {
            let facts = Facts::new(&inventory, host, &symbols, world::now());
            let spoken = read_aloud(policies, &facts, flow);
            if basis == Basis::Would { spoken.would } else { spoken.enforced }
        };
        flows.iter().map(one).collect()
    };
    let whole = said(&checked.policies, basis);
    let tiers = tiers(&checked);
    let mut taken: Vec<Rule> = Vec::new();
    let all: Vec<(usize, usize)> = checked
        .policies
        .iter()
        .enumerate()
        .flat_map(|(at, policy)| (0..policy.rules().len()).map(move |nth| (at, nth)))
        .collect();
    for _ in 0..RULES {
        let (document, nth) = all[choices.below(all.len())];
        let rule = checked.policies[document].rules().nth(nth).expect("a rule");
        let counts = match basis {
            Basis::Enforced => rule.mode == policy::Mode::Enforce,
            Basis::Would => rule.mode != policy::Mode::Draft,
        };
        let ended = rule.rule.options.until.is_some_and(|until| until.ends_at() <= world::now());
        if !counts || ended || taken.iter().any(|taken| taken.id == rule.id) {
            continue;
        }
        let check = |texts: &[String]| world::checked(texts, &inventory).ok_or_else(reject);
        let alone = check(&changed(&texts, document, nth, true))?;
        let without = check(&changed(&texts, document, nth, false))?;
        let built_in = ["default-in", "default-out", "loopback"];
        let matches: Vec<bool> = said(&alone.policies, Basis::Would)
            .iter()
            .map(|said| !built_in.contains(&said.rule.as_str()))
            .collect();
        let without = said(&without.policies, basis);
        let verdict = match rule.rule.effect {
            policy::syntax::Effect::Allow => Verdict::Allow,
            policy::syntax::Effect::Deny | policy::syntax::Effect::Refuse => Verdict::Deny,
        };
        let tier = tiers[rule.id];
        let has_say = whole.iter().zip(&matches).any(|(said, matches)| {
            *matches && said.verdict == verdict && tiers[&said.rule] == tier
        });
        let needed = whole.iter().zip(&without).any(|(a, b)| a.verdict != b.verdict);
        let expected = match (matches.contains(&true), has_say, needed) {
            (false, ..) => Some(Fault::NeverMatching),
            (true, false, _) => Some(Fault::Shadowed),
            (true, true, false) => Some(Fault::Redundant),
            (true, true, true) => None,
        };
        let idle = [Fault::NeverMatching, Fault::Shadowed, Fault::Redundant];
        let of = |finding: &&Finding| finding.rule.id == rule.id && idle.contains(&finding.fault);
        let found: Vec<Fault> =
            lint.findings.iter().filter(of).map(|finding| finding.fault).collect();
        let told = || format!("{}\n{}\n{:#?}", rule.id, texts.join("\n---\n"), lint.findings);
        prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{}", told());
        taken.push(Rule { id: rule.id.to_owned(), tier, verdict, matches });
    }
    for allow in taken.iter().filter(|rule| rule.verdict == Verdict::Allow) {
        for deny in taken.iter().filter(|rule| rule.verdict == Verdict::Deny) {
            let pairs = || allow.matches.iter().zip(&deny.matches);
            let decided = |at: usize| tiers[&whole[at].rule] == allow.tier;
            let expected = allow.tier == deny.tier
                && pairs().enumerate().any(|(at, (a, b))| *a && *b && decided(at))
                && pairs().any(|(a, b)| *a && !*b)
                && pairs().any(|(a, b)| !*a && *b);
            let found = lint.findings.iter().any(|finding| {
                finding.fault == Fault::Correlated
                    && finding.rule.id == allow.id
                    && finding.other.as_ref().is_some_and(|other| other.id == deny.id)
            });
            let told = || format!("{} {}\n{}", allow.id, deny.id, texts.join("\n---\n"));
            prop_assert_eq!(found, expected, "{}", told());
        }
    }
    Ok(())
}

/// The tier of everything that can decide.
fn tiers(checked: &Checked) -> BTreeMap<String, u8> {
    let mut tiers: BTreeMap<String, u8> = [("loopback", 4), ("default-in", 5), ("default-out", 5)]
        .map(|(id, tier)| (id.to_owned(), tier))
        .into();
    for policy in &checked.policies {
        for (at, _) in policy.failsafe().enumerate() {
            tiers.insert(format!("failsafe:{}.{at}", policy.source), 0);
        }
        let tier = match policy.tier {
            policy::Tier::Admin => 1,
            policy::Tier::Team => 2,
            policy::Tier::Baseline => 3,
        };
        tiers.extend(policy.rules().map(|rule| (rule.id.to_owned(), tier)));
    }
    tiers
}

proptest! {
    #![proptest_config(Config {
        cases: WORLDS,
        failure_persistence: None,
        max_global_rejects: WORLDS * 10,
        ..Config::default()
    })]

    #[test]
    fn findings_are_what_taking_rules_out_shows(mut policies in choices(1_200)) {
        agrees(&mut policies)?;
    }
}

fn hosts() -> Inventory {
    let host = |id: &str, address: u32, role: &str| Host {
        id: id.to_owned(),
        names: Vec::new(),
        addresses: vec![Address::v4(address)],
        labels: BTreeMap::from([("role".to_owned(), role.to_owned())]),
    };
    let hosts = vec![
        host("web-1", 0x0a00_0001, "web"),
        host("web-2", 0x0a00_0002, "web"),
        host("db-1", 0x0a00_0101, "db"),
    ];
    Inventory::new(hosts).expect("hosts in order")
}

/// The faults found in a policy, each with the text of the rule and of the other one.
fn found(text: &str) -> Vec<(Fault, String, String)> {
    let inventory = hosts();
    let source = Source { name: "example", bytes: text.as_bytes() };
    let checked = check(&[source], Some(&inventory), world::now());
    assert_eq!(checked.diagnostics.errors(), 0, "{}", checked.render());
    let question = Question { inventory: &inventory, now: world::now(), basis: Basis::Enforced };
    let lint = lint(&checked.policies, &question).expect("an example is within the limits");
    let told = |finding: Finding| {
        let other = finding.other.map(|other| other.text).unwrap_or_default();
        (finding.fault, finding.rule.text, other)
    };
    lint.findings.into_iter().map(told).collect()
}

/// A policy, and its findings: the fault, the rule and the other rule.
type Row<'a> = (&'a str, &'a [(Fault, &'a str, &'a str)]);

#[test]
fn every_fault_has_its_example() {
    let rows: [Row<'_>; 8] = [
        ("default deny in\nallow role=web -> role=db : tcp/5432", &[]),
        (
            "default deny in\nallow role=web -> role=api : tcp/80",
            &[(Fault::NeverMatching, "allow role=web -> role=api : tcp/80", "")],
        ),
        (
            "default deny in\ndeny any -> role=db : any\nallow role=web -> role=db : tcp/5432",
            &[(
                Fault::Shadowed,
                "allow role=web -> role=db : tcp/5432",
                "deny any -> role=db : any",
            )],
        ),
        (
            "default deny in\nallow role=web -> role=db : tcp/5432\nallow web-1 -> role=db : tcp/5432",
            &[(
                Fault::Redundant,
                "allow web-1 -> role=db : tcp/5432",
                "allow role=web -> role=db : tcp/5432",
            )],
        ),
        // What is below a unit is the unit's.
        (
            "default deny in\ndefault deny out\nallow any[unit=/shop] -> role=db : tcp/5432\n\
             allow any[unit=/shop/web] -> role=db : tcp/5432",
            &[(
                Fault::Redundant,
                "allow any[unit=/shop/web] -> role=db : tcp/5432",
                "allow any[unit=/shop] -> role=db : tcp/5432",
            )],
        ),
        (
            "default deny in\ndefault deny out\nallow any[unit=/shop] -> role=db : tcp/5432\n\
             allow any[unit=/shopping] -> role=db : tcp/5432",
            &[],
        ),
        (
            "default deny in\nallow any -> role=db : tcp/any",
            &[(Fault::OverBroad, "allow any -> role=db : tcp/any", "")],
        ),
        (
            "default deny in\nallow role=web -> role=db : tcp/1-100\ndeny web-1 -> any : tcp/50-200",
            &[(
                Fault::Correlated,
                "allow role=web -> role=db : tcp/1-100",
                "deny web-1 -> any : tcp/50-200",
            )],
        ),
    ];
    for (text, expected) in rows {
        let expected: Vec<(Fault, String, String)> = expected
            .iter()
            .map(|&(fault, rule, other)| (fault, rule.to_owned(), other.to_owned()))
            .collect();
        assert_eq!(found(text), expected, "{text}");
    }
}
