//! Rules in audit mode: they refuse nothing and say what they would have done; and what is counted at the end.

use serde_json::Value;
use testbed::{Host, Network};

use crate::{
    document::Document,
    shared::{EACCES, Echo, connect_errno, on},
};

#[test]
fn an_audit_rule_refuses_nothing_and_its_event_says_that_it_would_deny() {
    let network = Network::star(2);
    let [server, client] = network.hosts() else { panic!("a star of two") };
    let _here = Echo::tcp(&server.namespace, "[::]:20000");
    let _there = Echo::tcp(&client.namespace, "[::]:20000");
    for text in [
        "audit deny any -> any : tcp/20000  id=\"watched\"\n",
        "mode audit\ndeny any -> any : tcp/20000  id=\"watched\"\n",
    ] {
        let document = Document::new(text);
        let enforcing = document.enforce(server, &["-o", "json"]);
        assert_eq!(on(server, || connect_errno("10.7.0.2:20000")), None);
        assert_eq!(client.namespace.inside(|| connect_errno("[fd07::1]:20000")), None);
        assert_eq!(on(server, || connect_errno("127.0.0.1:20000")), None);
        let events = enforcing.stop_events();
        let ways: Vec<_> = events
            .iter()
            .map(|event| {
                (event["network"]["direction"].as_str(), event["network"]["type"].as_str())
            })
            .collect();
        assert!(ways.contains(&(Some("egress"), Some("ipv4"))), "{events:#?}");
        assert!(ways.contains(&(Some("ingress"), Some("ipv6"))), "{events:#?}");
        for event in &events {
            assert_eq!(event["fwnet"]["mode"], "audit", "{event:#}");
            assert_eq!(event["fwnet"]["verdict"]["enforced"], "allowed");
            assert_eq!(event["fwnet"]["verdict"]["would"], "denied");
            assert_eq!(event["event"]["outcome"], "success");
        }
    }
}

#[test]
fn a_draft_rule_neither_refuses_nor_reports() {
    let host = Host::new();
    let _echo = Echo::tcp(&host.namespace, "[::]:20000");
    let document = Document::new("draft deny any -> any : tcp/20000\n");
    let enforcing = document.enforce(&host, &["-o", "json"]);
    assert_eq!(on(&host, || connect_errno("127.0.0.1:20000")), None);
    assert_eq!(enforcing.stop_events(), Vec::<Value>::new());
}

#[test]
fn each_rule_is_counted_exactly_and_over_all_versions() {
    let host = Host::new();
    let policy = "deny any -> 127.0.0.2  id=\"two\"\ndeny any -> 127.0.0.3  id=\"three\"\n";
    let document = Document::new(policy);
    let enforcing = document.enforce(&host, &[]);
    let knock = |address: &str, times: usize| {
        on(&host, || {
            for _ in 0..times {
                assert_eq!(connect_errno(&format!("{address}:20000")), Some(EACCES));
            }
        });
    };
    knock("127.0.0.2", 7);
    knock("127.0.0.3", 5);
    // The same rules elsewhere in the file, under other numbers.
    document.swap(
        &enforcing,
        "deny any -> 127.0.0.3  id=\"three\"\ndeny any -> 127.0.0.9\ndeny any -> 127.0.0.2  id=\"two\"\n",
        2,
    );
    knock("127.0.0.2", 4);
    let lines = enforcing.stop();
    for expected in ["fwnet: two out: denied 11 times", "fwnet: three out: denied 5 times"] {
        assert!(lines.iter().any(|line| line == expected), "{expected}: {lines:#?}");
    }
    assert_eq!(lines.iter().filter(|line| line.contains(" times")).count(), 2, "{lines:#?}");
}
