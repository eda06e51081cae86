//! Tests of policies: the shop's, and random ones against brute force.

#[path = "support/world.rs"]
#[expect(dead_code, reason = "each test uses a part of the world")]
mod world;

use image::{AddressSet, Rule};
use policy::{
    Checked, Compiled, Facts, Inventory, Origin, Own, Source, TestResult, check, explain,
    read_aloud, run_tests, run_tests_at,
};
use proptest::{prelude::*, test_runner::Config};
use verdict::{Address, Direction, Endpoint, Flow, Protocol, Subject, Verdict};
use world::{Choices, choices};

const INVENTORY: &str = r#"{"hosts": [
    {"id": "web-1", "addresses": ["10.0.1.11"], "labels": {"role": "web"}},
    {"id": "web-2", "addresses": ["10.0.1.12"], "labels": {"role": "web"}},
    {"id": "db-1", "addresses": ["10.0.3.11"], "labels": {"role": "db"}}
]}"#;

fn results(policy: &str) -> Vec<TestResult> {
    let inventory = Inventory::read(INVENTORY.as_bytes()).expect("the inventory is in order");
    let source = Source { name: "shop.fwnet", bytes: policy.as_bytes() };
    let checked = check(&[source], Some(&inventory), world::now());
    assert!(!checked.diagnostics.has_errors(), "{}", checked.render());
    run_tests(&checked, &inventory, world::now()).expect("few rules fit")
}

#[test]
fn tests_stand_for_every_pair_service_and_process() {
    let results = results(
        "allow role=web -> role=db : tcp/5432\n\
         allow role=web[user=www-data] -> role=db : tcp/80\n\
         deny web-2 -> role=db : tcp/5432\n\
         default deny in\n\
         default deny out\n\
         test allow web-1 -> db-1 : tcp/5432\n\
         test allow role=web -> db-1 : tcp/5432\n\
         test deny db-1 -> role=web : any\n\
         test deny role=web -> db-1 : tcp/5000-6000\n\
         test deny 198.51.100.7 -> any\n\
         test deny web-1 -> db-1 : tcp/80\n\
         test allow web-1[user=www-data] -> db-1 : tcp/80\n\
         test deny web-1[user=root] -> db-1 : tcp/80\n\
         test deny 198.51.100.7 -> 198.51.100.8 : tcp/80\n",
    );
    let passed: Vec<(u32, bool)> =
        results.iter().map(|result| (result.line, result.passed)).collect();
    assert_eq!(
        passed,
        [
            (6, true),
            (7, false),
            (8, true),
            (9, false),
            (10, true),
            (11, false),
            (12, true),
            (13, true),
            (14, false)
        ]
    );
    let refused = &results[1].flows[0];
    assert_eq!((refused.flow.as_str(), refused.verdict), ("web-2 -> db-1 : tcp/5432", "deny"));
    assert_eq!(refused.rule_text, "deny web-2 -> role=db : tcp/5432");
    let let_through = &results[3].flows[0];
    assert_eq!(
        (let_through.flow.as_str(), let_through.verdict),
        ("web-1 -> db-1 : tcp/5432", "allow")
    );
    assert_eq!(results[5].flows[0].flow, "web-1[user=www-data] -> db-1 : tcp/80");
    assert!(results[8].fault.is_some(), "nobody enforces that");
}

#[test]
fn every_piece_of_a_prefix_is_looked_at() {
    let results = results(
        "allow 10.9.1.0/24 -> web-1 : tcp/80-89\n\
         default deny in\n\
         test allow 10.9.1.0/24 -> web-1 : tcp/80-89\n\
         test allow 10.9.1.0-10.9.2.255 -> web-1 : tcp/80-89\n\
         test allow 10.9.0.0-10.9.1.255 -> web-1 : tcp/80-89\n\
         test allow 10.9.1.0/24 -> web-1 : tcp/80-90\n\
         test allow 10.9.1.0/24 -> web-1 : tcp/79-89\n",
    );
    let flows: Vec<Option<&str>> =
        results.iter().map(|result| result.flows.first().map(|flow| flow.flow.as_str())).collect();
    assert_eq!(
        flows,
        [
            None,
            Some("10.9.2.0 -> web-1 : tcp/80"),
            Some("10.9.0.0 -> web-1 : tcp/80"),
            Some("10.9.1.0 -> web-1 : tcp/90"),
            Some("10.9.1.0 -> web-1 : tcp/79"),
        ]
    );
}

#[test]
fn policies_in_audit_and_drafts_are_asked_what_they_would_say() {
    for mode in ["audit", "draft"] {
        let results = results(&format!(
            "mode {mode}\ndeny web-1 -> db-1 : tcp/22\ntest deny web-1 -> db-1 : tcp/22\ntest allow web-2 -> db-1 : tcp/22\n"
        ));
        assert!(results.iter().all(|result| result.passed), "{results:#?}");
    }
}

/// Every flow of a small sample that a test speaks of, as the policies read aloud judge it.
fn brute_force(
    checked: &Checked,
    inventory: &Inventory,
    would: bool,
    from: &str,
    to: &str,
) -> [bool; 2] {
    let mut seen = [false; 2];
    let strangers = ["198.51.100.7", "10.0.0.77", "192.0.2.10", "2001:db8::2"].map(world::address);
    let meant = |selector: &str| -> Vec<(Option<String>, Address)> {
        let hosts = inventory.hosts().iter().filter(|host| match selector.split_once('=') {
            Some((key, value)) => host.labels.get(key).map(String::as_str) == Some(value),
            None => selector == "any" || host.id == selector,
        });
        let hosts = hosts.flat_map(|host| {
            host.addresses.iter().map(|&address| (Some(host.id.clone()), address))
        });
        let strangers =
            strangers.iter().filter(|_| selector == "any").map(|&address| (None, address));
        hosts.chain(strangers).filter(|(_, address)| !address.is_loopback()).collect()
    };
    let subjects: Vec<Subject> = (0..4u32)
        .flat_map(|uid| {
            (0..3u32).flat_map(move |gid| {
                (0..3u64).map(move |exe| Subject {
                    uid,
                    gid,
                    exe,
                    cgroup: exe ^ 1,
                    ..Subject::UNKNOWN
                })
            })
        })
        .collect();
    for (a, a_address) in meant(from) {
        for (b, b_address) in meant(to) {
            if a == b || (a.is_none() && b.is_none()) || a_address.is_v4() != b_address.is_v4() {
                continue;
            }
            for (protocol, port) in [
                (Protocol::TCP, 80),
                (Protocol::TCP, 443),
                (Protocol::UDP, 53),
                (Protocol::SCTP, 0),
                (Protocol::RAW, 0),
            ] {
                let client = Endpoint { address: a_address, port: 0 };
                let server = Endpoint { address: b_address, port };
                let says = |host: &Option<String>, direction, local, remote| -> [bool; 2] {
                    let Some(host) = host else { return [true, false] };
                    let facts = Facts::new(inventory, host, &world::Names, world::now());
                    let mut said = [false; 2];
                    for &subject in &subjects {
                        let flow = Flow { direction, protocol, local, remote, subject };
                        let spoken = read_aloud(&checked.policies, &facts, &flow);
                        let verdict = if would { spoken.would } else { spoken.enforced }.verdict;
                        said[usize::from(verdict == Verdict::Deny)] = true;
                    }
                    said
                };
                let out = says(&a, Direction::Out, client, server);
                let accepting = says(&b, Direction::In, server, client);
                seen[0] |= out[0] && accepting[0];
                seen[1] |= out[1] || accepting[1];
            }
        }
    }
    seen
}

fn holds(choices: &mut Choices) -> Result<(), TestCaseError> {
    let inventory =
        Inventory::new(world::hosts(choices)).expect("the hosts of the world are in order");
    let mut documents = world::documents(choices);
    let who = ["any", "any", "web-1", "db-1", "lone", "role=web", "role=db", "env=prod"];
    let (from, to) = (choices.of(&who), choices.of(&who));
    let answer = choices.of(&["allow", "deny"]);
    documents[0].push_str(&format!("\ntest {answer} {from} -> {to} : any"));
    // A draft is asked as if it were in audit, which the linear evaluator is not told.
    documents[0] = documents[0].replace("mode draft", "mode audit");
    let Some(checked) = world::checked(&documents, &inventory) else {
        return Err(TestCaseError::reject("errors in the documents"));
    };
    let would = checked.policies[0].mode != policy::Mode::Enforce;
    let results = run_tests(&checked, &inventory, world::now()).expect("few rules fit");
    let [result] = results.as_slice() else { panic!("there is one test") };
    let [some_allowed, some_denied] = brute_force(&checked, &inventory, would, from, to);
    let unwanted = if answer == "allow" { some_denied } else { some_allowed };
    let told = || format!("{result:#?}\n{}", documents.join("\n---\n"));
    prop_assert!(!(result.passed && unwanted), "{}", told());
    prop_assert_eq!(result.failed > 0, !result.flows.is_empty());
    for failed in &result.flows {
        prop_assert_ne!(failed.verdict, answer);
        let explained = explain(&checked, &inventory, world::now(), &failed.flow);
        let explained =
            explained.map_err(|error| TestCaseError::fail(format!("{error}\n{}", told())))?;
        prop_assert_eq!(
            if would { explained.would } else { explained.verdict },
            failed.verdict,
            "{}",
            told()
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: 600, failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_passed_test_holds_for_every_flow_and_a_failed_one_names_real_ones(mut choices in choices(1_200)) {
        holds(&mut choices)?;
    }
}

/// What a host says that is sent `policy` and knows the hosts of `known`: line, and whether the test holds as far as it
/// can say.
fn said(host: &str, policy: &str, known: &str, shared: bool, denied: &[u32]) -> Vec<(u32, bool)> {
    let inventory = Inventory::read(known.as_bytes()).expect("the inventory is in order");
    let source = Source { name: "shop.fwnet", bytes: policy.as_bytes() };
    let checked = check(&[source], Some(&inventory), world::now());
    assert!(!checked.diagnostics.has_errors(), "{}", checked.render());
    let front = |compiled: &mut Compiled| {
        for &address in denied {
            let set = AddressSet::from_address(Address::v4(address));
            let rule = Rule {
                id: format!("entry/{address}"),
                remote: Some(u32::try_from(compiled.rules.sets.len()).expect("few sets")),
                ..Rule::default(Direction::Out, Verdict::Deny, 1)
            };
            let origin = Origin {
                id: rule.id.clone(),
                stated: None,
                text: "deny it here".to_owned(),
                reason: None,
                owner: None,
            };
            compiled.rules.sets.push(set);
            compiled.rules.rules.insert(0, rule);
            compiled.origins.insert(0, origin);
        }
        compiled.image = image::compile(&compiled.rules)?;
        Ok(())
    };
    let zero = world::now();
    let own = Own { host, addresses: &[], zero, front: &front, shared };
    let results = run_tests_at(&checked, &inventory, &own, world::now()).expect("few rules fit");
    results.iter().map(|it| (it.line, it.passed)).collect()
}

#[test]
fn a_host_says_of_tests_what_it_can_be_sure_of() {
    let policy = "deny any except role=web -> role=db : tcp/5432\n\
         test allow role=web -> role=db : tcp/5432\n\
         test deny ops-1 -> db-1 : tcp/5432\n\
         test deny web-2 -> db-1 : tcp/5432\n\
         test allow 10.9.0.0/16 -> db-1 : tcp/5432\n\
         test deny 10.9.0.0/16 -> db-1 : tcp/80\n\
         test allow ops-1 -> web-1 : any\n";
    // What db-1 is sent: itself and the web, and of ops-1 that there is such a host.
    let known = r#"{"hosts": [
        {"id": "web-1", "addresses": ["10.0.1.11"], "labels": {"role": "web"}},
        {"id": "web-2", "addresses": ["10.0.1.12"], "labels": {"role": "web"}},
        {"id": "ops-1"},
        {"id": "db-1", "addresses": ["10.0.3.11"], "labels": {"role": "db"}}
    ]}"#;
    assert_eq!(
        said("db-1", policy, known, true, &[]),
        [(2, true), (4, false), (5, false), (6, true)],
        "nothing of ops-1, whose addresses it does not know, and nothing of flows between others"
    );
    assert_eq!(
        said("db-1", policy, known, false, &[]),
        [(2, true), (4, true), (5, false), (6, true)],
        "what web-2 does is not known where documents are for some only"
    );
    assert_eq!(
        said("web-1", policy, known, true, &[0x0a00_030b]),
        [(2, false)],
        "what stands in front of the policy on this host counts"
    );
    assert_eq!(said("nobody", policy, known, true, &[]), []);
}

#[test]
fn what_stands_in_front_tells_hosts_apart_that_the_policy_does_not() {
    let hosts = (1..=9).map(|it| format!(r#"{{"id": "db-{it}", "addresses": ["10.0.3.{it}"]}}"#));
    let hosts: Vec<String> = hosts.collect();
    let known = format!(
        r#"{{"hosts": [{{"id": "web", "addresses": ["10.0.1.1"]}}, {}]}}"#,
        hosts.join(",")
    );
    let policy = "allow any -> any : tcp/80\ntest allow web -> 10.0.3.0/24 : tcp/80\n";
    assert_eq!(said("web", policy, &known, true, &[]), [(2, true)]);
    for denied in 1..=9 {
        assert_eq!(said("web", policy, &known, true, &[0x0a00_0300 + denied]), [(2, false)]);
    }
}
