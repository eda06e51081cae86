//! Text, tree and JSON say the same: random documents go round, comments included.

use policy::{
    Diagnostics, format, from_json, json_schema, parse, render, syntax::Document, to_json,
};
use proptest::prelude::*;

/// The tree of `text`, which must be free of faults.
fn read(text: &str) -> Document {
    let mut report = Diagnostics::default();
    let parsed = parse(text.as_bytes(), 0, &mut report);
    assert!(!report.has_errors(), "{text}\n{}", render(&report, &[("p", text)]));
    parsed.document
}

#[test]
fn formatting_is_settled() {
    let rows = [
        ("allow   a->b", "allow a -> b : any\n"),
        ("\n\n\ntier team\n\n\n\nmode audit # x \n\n", "tier team\n\nmode audit  # x\n"),
        (
            "allow (a|b)&!c -> d[user=x] : tcp/1,tcp/2",
            "allow (a | b) & not c -> d[user=x] : tcp/1, tcp/2\n",
        ),
        ("name n = (a | b), (c) except (d, e)", "name n = (a | b), c except d, e\n"),
        ("name n = (a except b) & c", "name n = (a except b) & c\n"),
        (
            "name n = !(a & b), role not in (\"x y\", z)",
            "name n = not (a & b), role not in (\"x y\", z)\n",
        ),
        ("name n = (a, # one\n# two\n b)", "# one\n# two\nname n = a, b\n"),
        (
            "allow a -> b until=2027-01-31 reason \"say \\\"x\\\"\" id r",
            "allow a -> b : any id=\"r\" reason=\"say \\\"x\\\"\" until 2027-01-31\n",
        ),
        ("allow ::FFFF:10.0.0.1 -> 2001:DB8::1:tcp/1", "allow 10.0.0.1 -> 2001:db8::1 : tcp/1\n"),
        ("\u{feff}tier team\r\nmode audit\r\n", "tier team\nmode audit\n"),
        ("", ""),
        ("\n\n", ""),
    ];
    for (text, formatted) in rows {
        // The ninth row has services so near to an address that they are part of the word.
        let text = text.replace("::1:tcp", "::1 : tcp");
        assert_eq!(format(&read(&text)), formatted, "{text}");
        assert_eq!(format(&read(formatted)), formatted, "formatting settles");
    }
}

#[test]
fn long_lists_are_wrapped() {
    let list: Vec<String> = (0..40).map(|n| format!("10.0.{n}.0/24")).collect();
    let text = format!("name n = {}\n", list.join(", "));
    let formatted = format(&read(&text));
    assert!(
        formatted.lines().count() > 3 && formatted.lines().all(|line| line.len() <= 100),
        "{formatted}"
    );
    assert_eq!(to_json(&read(&formatted)), to_json(&read(&text)));
    let words = format!(
        "name n = role in ({}, allow, \"draft, x\", deny)\n",
        ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"; 3].join(", ")
    );
    assert_eq!(
        to_json(&read(&format(&read(&words)))),
        to_json(&read(&words)),
        "a wrapped line never looks like a rule"
    );
}

#[test]
fn json_that_text_cannot_say_is_refused() {
    let rows = [
        (r#"{"lines": [{"statement": {"tier": "top"}}]}"#, "unknown variant `top`"),
        (r#"{"lines": [{"statemnt": {"tier": "team"}}]}"#, "unknown field `statemnt`"),
        (r#"{"lines": [{"comment": "a\nallow any -> any"}]}"#, "cannot write"),
        (
            r#"{"lines": [{"statement": {"name": {"name": "a b", "means": {"selector": "any"}}}}]}"#,
            "expected `=`",
        ),
        (
            r#"{"lines": [{"statement": {"name": {"name": "a", "means": {"services": []}}}}]}"#,
            "expected hosts or addresses",
        ),
        (
            r#"{"lines": [{"statement": {"name": {"name": "a", "means": {"selector": {"any_of": ["any"]}}}}}]}"#,
            "cannot write",
        ),
        (
            r#"{"lines": [{"statement": {"name": {"name": "a", "means": {"selector": {"named": "any"}}}}}]}"#,
            "cannot write",
        ),
        (
            r#"{"lines": [{"statement": {"name": {"name": "a", "means": {"selector": {"addresses": "10.0.0.1/8"}}}}}]}"#,
            "the network is `10.0.0.0/8`",
        ),
        ("{\"lines\": [\n  {]}", "line 2 column 4"),
    ];
    for (json, said) in rows {
        let mut report = Diagnostics::default();
        let from = from_json(json.as_bytes(), 0, &mut report);
        let shown = if from.text.is_empty() { json } else { &from.text };
        let rendered = render(&report, &[("p", shown)]);
        assert!(report.has_errors() && rendered.contains(said), "{json}\n{rendered}");
    }
}

#[test]
fn the_published_schema_is_current() {
    let published = include_str!("../../../docs/policy.schema.json");
    assert!(
        published == json_schema(),
        "docs/policy.schema.json is old: cargo run -p policy --example policy_schema > docs/policy.schema.json"
    );
}

// === random documents, as text ===

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(words).prop_map(str::to_owned)
}

fn selector() -> impl Strategy<Value = String> {
    let leaf = one_of(&[
        "any",
        "me",
        "web",
        "db-1",
        "role=web",
        "env!=\"p q\"",
        "env in (a, \"b,c\")",
        "role not in (x, y)",
        "has app.kubernetes.io/name",
        "host=web-1",
        "10.0.0.0/8",
        "::ffff:10.0.0.1",
        "2001:db8::/32",
        "::",
        "10.0.0.1-10.0.0.9",
        "fd00::1-fd00::9",
    ]);
    leaf.prop_recursive(4, 24, 4, |inner| {
        let list = |sign: &'static str| {
            prop::collection::vec(inner.clone(), 2..4)
                .prop_map(move |members| format!("({})", members.join(sign)))
        };
        prop_oneof![
            list(" & "),
            list(" | "),
            list(", "),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} except {b})")),
            inner.prop_map(|inner| format!("not {inner}")),
        ]
    })
}

fn end() -> impl Strategy<Value = String> {
    let process = one_of(&[
        "",
        "",
        "[user=www-data]",
        "[exe in (/bin/a, \"/b c\") unit=x.service]",
        "[group=1 user in (0, root)]",
        "[container in (4c01db0b339c, web) netns=/run/netns/blue]",
        "[netns=host]",
    ]);
    (selector(), process).prop_map(|(selector, process)| format!("{selector}{process}"))
}

fn flows() -> impl Strategy<Value = String> {
    let services =
        one_of(&["", " : any", " : tcp/1", " : tcp/1-9, udp/any, 47/any", " : pg, tcp/22"]);
    (end(), end(), services).prop_map(|(from, to, services)| format!("{from} -> {to}{services}"))
}

fn line() -> impl Strategy<Value = String> {
    let options = one_of(&[
        "",
        " log",
        " id=r-1 owner=\"a \\\\ b\"",
        " until 2027-01-31 existing revoke",
        " reason=\"\\\"x\\\", #\"",
    ]);
    let rule = one_of(&["allow", "deny", "refuse", "audit allow", "draft refuse"]);
    let statement = prop_oneof![
        Just(String::new()),
        one_of(&["tier admin", "mode draft", "default deny out", "inbound drop", "failsafe none"]),
        selector().prop_map(|selector| format!("name web = {selector}")),
        one_of(&["name pg = tcp/5432", "name sql = pg, udp/1", "name alias = sql"]),
        (rule, flows(), options)
            .prop_map(|(rule, flows, options)| format!("{rule} {flows}{options}")),
        flows().prop_map(|flows| format!("failsafe {flows}")),
        flows().prop_map(|flows| format!("test deny {flows}")),
    ];
    (statement, one_of(&["", "", " # why", "#", " #  \"quoted, "]))
        .prop_map(|(statement, comment)| format!("{statement}{comment}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn text_json_text_loses_nothing(lines in prop::collection::vec(line(), 0..8)) {
        let text = lines.join("\n");
        let document = read(&text);
        let formatted = format(&document);
        prop_assert_eq!(format(&read(&formatted)), formatted.clone(), "formatting settles");
        prop_assert_eq!(document.lines.iter().filter(|line| line.comment.is_some()).count(),
            read(&formatted).lines.iter().filter(|line| line.comment.is_some()).count(), "comments are kept");

        let json = to_json(&document);
        let mut report = Diagnostics::default();
        let from = from_json(json.as_bytes(), 0, &mut report);
        prop_assert!(!report.has_errors(), "{}\n{}", json, render(&report, &[("p", &from.text)]));
        prop_assert_eq!(&from.text, &formatted);
        let again: Document = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(to_json(&again), json, "the tree itself goes round, empty lines included");
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}") {
        let mut report = Diagnostics::default();
        let parsed = parse(text.as_bytes(), 0, &mut report);
        render(&report, &[("p", &text)]);
        format(&parsed.document);
    }

    #[test]
    fn words_in_any_order_are_answered(words in prop::collection::vec(one_of(&[
        "allow", "deny", "name", "test", "->", ":", "(", ")", "[", "]", "=", "!=", "!", "&", "|", ",", "any", "not", "in", "has",
        "except", "role", "web", "tcp/1", "10.0.0.0/8", "::1", "\"x\"", "until", "2027-01-31", "log", "\n", "#", "user",
    ]), 0..60)) {
        let text = words.join(" ");
        let mut report = Diagnostics::default();
        let parsed = parse(text.as_bytes(), 0, &mut report);
        let formatted = format(&parsed.document);
        prop_assert_eq!(format(&read(&formatted)), formatted);
    }
}
