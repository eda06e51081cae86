//! Explanations of the three-tier shop, and their agreement with both evaluators on random policies.

#[path = "support/world.rs"]
#[expect(dead_code, reason = "each test uses a part of the world")]
mod world;

use policy::{Checked, ExplainError, Inventory, Source, WhatIf, check, explain};
use proptest::{prelude::*, test_runner::Config};
use world::choices;

const INVENTORY: &str = r#"{"hosts": [
    {"id": "web-1", "addresses": ["10.0.1.11", "2001:db8::11"], "labels": {"role": "web"}},
    {"id": "db-1", "names": ["db.example"], "addresses": ["10.0.3.11"], "labels": {"role": "db"}},
    {"id": "bare"}
]}"#;

const POLICY: &str = r#"
name db = role=db
allow role=web[user=www-data] -> db : tcp/5432 owner="dev"
deny any -> db : tcp/5433 reason="TICKET-17"
audit deny role=web -> any : tcp/5432
default deny in
"#;

fn shop() -> (Checked, Inventory) {
    let inventory = Inventory::read(INVENTORY.as_bytes()).expect("the inventory is in order");
    let source = Source { name: "shop.fwnet", bytes: POLICY.as_bytes() };
    let checked = check(&[source], Some(&inventory), world::now());
    assert!(!checked.diagnostics.has_errors(), "{}", checked.render());
    (checked, inventory)
}

fn said(text: &str) -> Result<policy::Explanation, String> {
    let (checked, inventory) = shop();
    explain(&checked, &inventory, world::now(), text).map_err(|error| error.to_string())
}

#[test]
fn the_deciding_rule_is_named_with_its_line() {
    let allowed = said("web-1[user=www-data] -> db.example : tcp/5432").expect("a flow");
    assert_eq!((allowed.verdict, allowed.would), ("allow", "deny"));
    assert_eq!((allowed.from.as_str(), allowed.to.as_str()), ("web-1", "db-1"));
    let [out, accepting] = allowed.ends.as_slice() else { panic!("both ends enforce") };
    assert_eq!((out.host.as_str(), out.direction, out.verdict), ("web-1", "out", "allow"));
    assert_eq!((accepting.host.as_str(), accepting.direction), ("db-1", "in"));
    let by = &accepting.decided_by;
    assert_eq!(
        (by.file.as_deref(), by.line, by.owner.as_deref()),
        (Some("shop.fwnet"), Some(3), Some("dev"))
    );
    assert_eq!(out.would_be_decided_by.line, Some(5));
    let tiers: Vec<&str> =
        out.tiers.iter().filter(|tier| tier.decides).map(|tier| tier.tier).collect();
    assert_eq!(tiers, ["team"]);
}

#[test]
fn another_process_falls_to_the_default_of_its_own_end_only() {
    let other = said("web-1[user=root] -> db-1 : tcp/5432").expect("a flow");
    // Who connects is judged where it lives, where nothing is denied; the far end allows the whole host.
    assert_eq!(other.ends[0].decided_by.rule, "default-out");
    assert_eq!(other.ends[1].verdict, "allow");
}

#[test]
fn a_path_is_below_the_paths_it_begins_with() {
    let text = "deny any[unit=/a/b] -> any : tcp/1\nallow any[unit=/a/b/c] -> any : tcp/1\n\
        test deny web-1[unit=/a/b] -> db-1 : tcp/1\n";
    let inventory = Inventory::read(INVENTORY.as_bytes()).expect("the inventory is in order");
    let source = Source { name: "units.fwnet", bytes: text.as_bytes() };
    let checked = check(&[source], Some(&inventory), world::now());
    let verdict = |unit: &str| {
        let question = format!("web-1[unit={unit}] -> db-1 : tcp/1");
        explain(&checked, &inventory, world::now(), &question).expect("a flow").ends[0].verdict
    };
    assert_eq!(
        (verdict("/a/b"), verdict("/a/b/x/y"), verdict("/a/b/c/d")),
        ("deny", "deny", "deny")
    );
    assert_eq!(
        (verdict("/a"), verdict("/a/bb"), verdict("b.service")),
        ("allow", "allow", "allow")
    );
}

#[test]
fn a_container_and_a_namespace_are_known_by_what_they_are_called() {
    let id = world::CONTAINER;
    let text = format!(
        "deny any[container={}] -> any : tcp/1\ndeny any[netns=blue] -> any : tcp/2\n\
         test deny web-1[unit=/a container={id}] -> db-1 : tcp/1\n\
         test deny web-1[netns=blue] -> db-1 : tcp/2\n\
         test allow web-1[netns=host container=web] -> db-1 : tcp/1-2\n",
        &id[..12]
    );
    let inventory = Inventory::read(INVENTORY.as_bytes()).expect("the inventory is in order");
    let source = Source { name: "containers.fwnet", bytes: text.as_bytes() };
    let checked = check(&[source], Some(&inventory), world::now());
    for test in policy::run_tests(&checked, &inventory, world::now()).expect("tests") {
        assert!(test.passed, "{test:?}");
    }
    let decided = |process: &str, port: u16| {
        let question = format!("web-1[{process}] -> db-1 : tcp/{port}");
        let answer = explain(&checked, &inventory, world::now(), &question).expect("a flow");
        answer.ends[0].verdict
    };
    let container = format!("container={id}");
    assert_eq!((decided(&container, 1), decided(&container, 2)), ("deny", "allow"));
    assert_eq!((decided("netns=blue", 2), decided("netns=host", 2)), ("deny", "allow"));
    assert_eq!(decided("container=4c01db0b339d", 1), "allow");
}

#[test]
fn what_would_change_it_is_said() {
    let denied = said("web-1 -> db-1 : tcp/5433").expect("a flow");
    assert_eq!(denied.verdict, "deny");
    let end = &denied.ends[1];
    assert_eq!(end.decided_by.reason.as_deref(), Some("TICKET-17"));
    assert_eq!(
        end.what_if,
        [WhatIf::With {
            rule: "allow web-1 -> db-1 : tcp/5433".to_owned(),
            tier: "admin",
            verdict: "allow"
        }],
        "without the rule the default denies"
    );
    let out = &denied.ends[0];
    let without = WhatIf::Without {
        rules: vec![end.decided_by.rule.clone()],
        verdict: "allow",
        by: "default-out".to_owned(),
    };
    assert_eq!(out.what_if.first(), Some(&without));
}

#[test]
fn only_hosts_enforce() {
    let outside = said("198.51.100.7 -> db-1 : tcp/22").expect("a flow");
    assert_eq!(outside.ends.len(), 1);
    assert_eq!((outside.verdict, outside.ends[0].decided_by.rule.as_str()), ("deny", "default-in"));
    let loopback = said("db-1 -> 127.0.0.1 : tcp/22").expect("a flow");
    assert_eq!(loopback.ends[1].decided_by.rule, "loopback");
    for (text, wanted) in [
        (
            "198.51.100.7 -> 198.51.100.8 : tcp/22",
            "no host of the inventory is at either end, so nothing enforces",
        ),
        ("db-1 -> bare : tcp/22", "the inventory gives no address to `bare`"),
        ("nobody -> db-1 : tcp/22", "`nobody` is neither a host of the inventory nor one address"),
        ("web-1 -> db-1 : tcp/1-2", "`tcp/1-2` is not one port of one protocol"),
        ("web-1 -> ", "`web-1 -> ` is not a flow: `web-1 -> db-1 : tcp/5432` is"),
    ] {
        assert_eq!(said(text).map(|_| ()), Err(wanted.to_owned()));
    }
}

proptest! {
    #![proptest_config(Config { cases: 300, failure_persistence: None, ..Config::default() })]

    #[test]
    fn image_and_walk_never_disagree(mut choices in choices(1_500)) {
        let inventory = Inventory::new(world::hosts(&mut choices)).expect("the hosts of the world are in order");
        let Some(checked) = world::checked(&world::documents(&mut choices), &inventory) else {
            return Err(TestCaseError::reject("errors in the documents"));
        };
        for _ in 0..20 {
            let party = |choices: &mut world::Choices| {
                let place = choices.of(&["web-1", "web-2", "db-1", "edge", "lone", "198.51.100.7", "10.0.1.2", "127.0.0.1"]);
                let process = choices.of(&["", "", "[user=alice]", "[exe=/bin/a]", "[user=bob unit=a.service]", "[group=staff]", "[unit=/b/c container=4c01db0b339c]", "[netns=blue]"]);
                format!("{place}{process}")
            };
            let (from, to) = (party(&mut choices), party(&mut choices));
            let service = choices.of(&["tcp/80", "udp/53", "sctp/any", "tcp/443", "icmp/any"]);
            match explain(&checked, &inventory, world::now(), &format!("{from} -> {to} : {service}")) {
                Ok(answer) => {
                    let denied = answer.ends.iter().any(|end| end.verdict == "deny");
                    prop_assert_eq!(answer.verdict == "deny", denied);
                    for end in &answer.ends {
                        let decides = end.tiers.iter().filter(|tier| tier.decides).flat_map(|tier| &tier.rules);
                        prop_assert!(decides.clone().any(|rule| *rule == end.decided_by));
                        // What is said would change the verdict is said to give the other one.
                        for what_if in &end.what_if {
                            let (WhatIf::Without { verdict, .. } | WhatIf::With { verdict, .. }) = what_if;
                            prop_assert_ne!(*verdict, end.verdict);
                        }
                    }
                }
                Err(ExplainError::NobodyEnforces | ExplainError::NoAddress(_)) => {}
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }
}
