//! What the check says: one row for each fault, with the code that must be reported and words that must be said.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as its test does")]

use jiff::Timestamp;
use policy::{Checked, Inventory, Severity, Source, Tier, Way, check};

const INVENTORY: &str = r#"{"hosts": [
    {"id": "web-1", "names": ["www"], "addresses": ["10.0.0.1"], "labels": {"role": "web", "env": "prod"}},
    {"id": "db-1", "addresses": ["10.0.0.2"], "labels": {"role": "db", "env": "prod"}},
    {"id": "office", "addresses": ["10.0.0.3"], "labels": {"role": "a"}},
    {"id": "x", "addresses": ["10.0.0.4"], "labels": {"role": "b"}}
]}"#;

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn checked(texts: &[&str]) -> Checked {
    let inventory = Inventory::read(INVENTORY.as_bytes()).unwrap();
    let sources: Vec<Source<'_>> =
        texts.iter().map(|text| Source { name: "p", bytes: text.as_bytes() }).collect();
    check(&sources, Some(&inventory), now())
}

/// Each document with exactly the codes that it deserves, and words from what is said.
const FAULTS: &[(&str, &[&str], &str)] = &[
    // Order of words.
    ("alow any -> any", &["syntax"], "did you mean `allow`?"),
    ("allow any any", &["syntax"], "expected `->`, but found `any`"),
    ("allow any ->", &["syntax"], "expected hosts or addresses, but the line ends"),
    ("allow any -> any : tcp/1,", &["syntax"], "expected a service, but the line ends"),
    (
        "allow (any -> any\nallow any -> any : tcp/0",
        &["syntax", "port"],
        "expected `)`, but found `->`",
    ),
    ("allow any -> any :", &["syntax"], "expected a service"),
    ("allow any -> any ownr=\"x\"", &["syntax"], "did you mean `owner`?"),
    ("tier base", &["syntax"], "admin or team or baseline"),
    ("tier baselin", &["syntax"], "did you mean `baseline`?"),
    ("default allow sideways", &["syntax"], "in or out"),
    ("name any = tcp/1", &["reserved-name"], "`any` is a word of the language"),
    ("name 5x = role=a", &["syntax"], "`5x` cannot be a name"),
    ("allow role==a -> any", &["syntax"], "expected the value of a label, but found `=`"),
    ("allow any except me except x -> any", &["syntax"], "parentheses"),
    ("allow \"web 1\" -> any", &["syntax"], "host=\"...\""),
    ("allow any -> any reason=\"open", &["syntax"], "does not end on its line"),
    ("allow any -> any; x", &["character"], "`;` has no place here"),
    ("# \u{202e}evil", &["character"], "U+202E"),
    // Values.
    ("allow any -> 10.0.0.1/8", &["host-bits"], "write `10.0.0.0/8`, or the address alone"),
    ("allow any -> 10.0.0.9-10.0.0.1", &["reversed-range"], "write `10.0.0.1-10.0.0.9`"),
    ("allow any -> 10.0.0.256", &["address"], "`10.0.0.256` is not an address"),
    ("allow any -> fe80::1%eth0", &["address"], "has a zone"),
    ("allow any -> 2001:db8::/129", &["address"], "0 to 128"),
    ("allow any -> any : tcp/0", &["port"], "port 0 is not a port"),
    ("allow any -> any : tcp/70000, udp/0", &["port", "port"], "`70000` is not a port"),
    ("allow any -> any : tcp/90-80", &["reversed-range"], "write `80-90`"),
    ("allow any -> any : 443", &["service"], "`tcp/443` and `udp/443` have"),
    ("allow any -> any : tcp", &["service"], "`tcp/any`"),
    ("allow any -> any : tpc/443", &["service"], "`tpc` is not a protocol"),
    ("allow any -> any : icmp/8", &["service"], "write `icmp/any`"),
    ("allow any -> any until 2026-02-30", &["date"], "is not a day"),
    // Options.
    ("allow any -> any log log", &["repeated-option"], "`log` is given twice"),
    (
        "deny any -> any existing keep existing revoke",
        &["repeated-option"],
        "`existing` is given twice",
    ),
    ("allow any -> any existing revoke", &["contradictory-options"], "a rule that allows"),
    (
        "audit deny any -> any existing revoke",
        &["contradictory-options"],
        "audit mode revokes nothing",
    ),
    ("mode audit\ndeny any -> any existing revoke", &["no-effect"], "in a policy in audit mode"),
    ("draft deny any -> any log", &["no-effect"], "a draft decides nothing"),
    ("mode draft\naudit deny any -> any", &["no-effect"], "the weaker one holds"),
    ("allow any -> any until 2026-11-21", &["expired"], "the rule has ended"),
    ("allow any -> any until 2026-11-22", &[], ""),
    ("allow any -> any until 2026-11-22T11:59:59Z", &["expired"], "2026-11-22T11:59:59Z"),
    ("allow any -> any id=\"a b\"", &["syntax"], "an id has at most 128"),
    (
        "allow any -> any id=a\ndeny any -> me id=\"a\"",
        &["repeated-id"],
        "the id `a` is given twice",
    ),
    ("allow any[user=a user=b] -> any", &["repeated-option"], "`in (a, b)`"),
    ("allow any[] -> any", &["empty-set"], "empty brackets"),
    ("allow any[exe=nginx] -> any", &["syntax"], "`nginx` is not an absolute path"),
    ("allow any[unit=nginx] -> any", &["syntax"], "did you mean `nginx.service`?"),
    ("allow any[unit=/] -> any", &["syntax"], "leave `unit` out"),
    ("allow any[unit=/a/] -> any", &["syntax"], "no `/` at its end"),
    ("allow any[unit=/a/../b] -> any", &["syntax"], "no `..`"),
    ("allow any[unit=a/b.service] -> any", &["syntax"], "did you mean `/a/b.service`?"),
    ("allow any[container=4c01db0b339] -> any", &["syntax"], "the first 12 to all 64"),
    ("allow any[container=4C01DB0B339C] -> any", &["syntax"], "0 to 9 and a to f"),
    ("allow any[container in (web, 4c01db0b339c)] -> any", &[], ""),
    ("allow any[netns=a/b] -> any", &["syntax"], "neither the name of a network namespace"),
    ("allow any[netns in (host, blue, /run/netns/red)] -> any", &[], ""),
    ("allow any[uesr=nginx] -> any", &["syntax"], "did you mean `user`?"),
    ("allow any[user=4294967295] -> any", &["syntax"], "too large"),
    // Names.
    (
        "allow wbe -> any\nname web = role=web\nallow web -> any",
        &["undefined-name"],
        "did you mean `web`?",
    ),
    ("allow wb-1 -> any", &["undefined-name"], "did you mean `web-1`?"),
    ("allow prod -> any", &["undefined-name"], "hosts with that label are `env=prod`"),
    (
        "allow any -> any : pgs\nname pg = tcp/1\nallow me -> any : pg",
        &["undefined-name"],
        "did you mean `pg`?",
    ),
    ("name a = role=web", &["unused-name"], "`a` is defined and never used"),
    (
        "name a = role=web\nname a = role=db\nallow a -> any",
        &["repeated-name"],
        "first defined here",
    ),
    (
        "name a = b\nname b = c & me\nname c = a\nallow a -> any",
        &["recursive-name"],
        "a -> b -> c -> a",
    ),
    ("name a = a\nallow a -> any", &["recursive-name"], "`a` is defined by itself"),
    ("name pg = tcp/1\nallow pg -> any : pg", &["wrong-kind"], "names services, not hosts"),
    ("name a = role=web\nallow a -> any : a", &["wrong-kind"], "names hosts, not services"),
    ("name office = role=web\nallow office -> any", &["hidden-host"], "`host=office`"),
    ("name a = tcp/0\nallow any -> any : a", &["port"], "port 0"),
    // Labels.
    ("allow rloe=web -> any", &["unknown-label"], "did you mean `role`?"),
    ("allow env=prdo -> any", &["unknown-label"], "did you mean `prod`?"),
    ("allow host=www -> any", &["unknown-label"], "no host has the id `www`"),
    // Sets that are empty by construction.
    ("allow role=a & role=b -> any", &["empty-set"], "`role=a & role=b` can match nothing"),
    ("allow role in () -> any", &["empty-set"], "an empty list"),
    ("allow () -> any", &["empty-set"], "neither `any` nor nobody"),
    ("allow role=\"\" -> any", &["empty-set"], "is empty"),
    ("allow not any -> any", &["empty-set"], "`not any`"),
    ("allow role=a except (has role) -> any", &["empty-set"], "can match nothing"),
    ("allow 10.0.0.0/8 & 192.168.0.0/16 -> any", &["empty-set"], "can match nothing"),
    ("allow 10.0.0.0/8 except 0.0.0.0/0 -> any", &["empty-set"], "can match nothing"),
    ("allow 10.0.0.0/8 & ::/0 -> any", &["empty-set"], "can match nothing"),
    ("allow web-1 & db-1 -> any", &["empty-set"], "can match nothing"),
    (
        "name a = role=a\nname n = not a & a\nallow n -> any",
        &["empty-set"],
        "`not a & a` can match nothing",
    ),
    ("allow web-1 & www -> any", &[], ""),
    ("allow role!=a & role!=b -> any", &[], ""),
    ("allow (role=a | role=b) & not role=a -> any", &[], ""),
    ("allow (role=a | role=b) & role not in (a, b) -> any", &["empty-set"], ""),
    // Said twice.
    ("tier team\ntier admin", &["repeated-statement"], "`tier` is given twice"),
    (
        "default deny in\ndefault allow in",
        &["repeated-statement"],
        "the default of direction in is given twice",
    ),
    ("default deny in\ndefault allow out", &[], ""),
    (
        "failsafe none\nfailsafe any -> me : tcp/22",
        &["contradictory-options"],
        "none and yet has flows",
    ),
    ("allow any -> me\nallow any -> me : any", &["repeated-rule"], "the earlier one"),
    ("allow any -> me\ndeny any -> me", &[], ""),
    (
        "allow any -> 10.0.0.1\nallow any -> ::ffff:10.0.0.1",
        &["mapped-twin"],
        "`::ffff:` form are one",
    ),
    ("allow any -> 10.0.0.1, ::ffff:a00:1", &["mapped-twin"], "in the list already"),
    ("allow any -> me : tcp/1, tcp/1", &["repeated-element"], "`tcp/1` is in the list already"),
    ("allow role in (a, \"a\") -> me", &["repeated-element"], "`a` is in the list already"),
    ("test allow any -> me\ntest allow any -> me", &["repeated-test"], "an earlier one says"),
];

#[test]
fn every_fault_is_named() {
    let mut wrong = String::new();
    for (text, codes, said) in FAULTS {
        let checked = checked(&[text]);
        let found: Vec<&str> = checked
            .diagnostics
            .reported()
            .iter()
            .map(|diagnostic| diagnostic.code.word())
            .collect();
        let rendered = checked.render();
        if found != *codes || !rendered.contains(said) {
            wrong += &format!("--- {text}\nexpected {codes:?} and {said:?}\n{rendered}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_caret_points_at_the_place() {
    let text =
        "name web = role=web\n\nallow web -> db-1 : tcp/5432\nallow wbe -> db-1 : tcp/5432\n";
    let expected = "\
error[undefined-name]: `wbe` is neither a name of this document nor a host
 --> p:4:7
  |
4 | allow wbe -> db-1 : tcp/5432
  |       ^^^ not known
  = help: did you mean `web`?

1 error
";
    assert_eq!(checked(&[text]).render(), expected);
    let two = "\
error[repeated-name]: `a` is defined twice
 --> p:2:6
  |
2 | name a = me
  |      ^
  ...
1 | name a = role=web
  |      - first defined here

1 error
";
    assert_eq!(checked(&["name a = role=web\nname a = me\nallow a -> any"]).render(), two);
}

#[test]
fn all_faults_of_a_document_are_found() {
    let text =
        "allow any -> 10.0.0.1/8 : tcp/0, tcp/70000\nallow nobody -> any\ntier team\ntier team";
    let checked = checked(&[text]);
    let found: Vec<&str> =
        checked.diagnostics.reported().iter().map(|diagnostic| diagnostic.code.word()).collect();
    assert_eq!(found, ["host-bits", "port", "port", "undefined-name", "repeated-statement"]);
}

#[test]
fn reports_are_capped_and_the_rest_is_counted() {
    let text = "allow nobody -> any\n".repeat(1_000);
    let checked = checked(&[&text]);
    assert_eq!(checked.diagnostics.errors(), 1_000);
    let errors = checked
        .diagnostics
        .reported()
        .iter()
        .filter(|diagnostic| diagnostic.severity() == Severity::Error);
    assert_eq!(errors.count(), policy::limits::REPORTED_MAX);
    assert!(checked.render().ends_with("1000 errors, 999 warnings\n"), "{}", checked.render());
}

#[test]
fn documents_are_checked_together() {
    let names = checked(&["name a = me\nallow a -> any", "allow a -> any"]);
    assert!(
        names.render().contains("`a` is neither a name of this document"),
        "names are known in their own document only"
    );
    let ids = checked(&["allow any -> me id=x", "deny any -> me id=x"]);
    assert!(ids.render().contains("the id `x` is given twice"));
    let same = checked(&["default deny in", "default deny in"]);
    assert!(!same.diagnostics.has_errors());
    let different = checked(&["default deny in", "default allow in"]);
    assert!(different.render().contains("twice and differently"));
}

#[test]
fn a_policy_says_what_was_written() {
    let text = "tier admin\nmode audit\ninbound drop\ndefault deny in\nname b = a\nname a = me\nallow b -> any\ndraft deny any -> any";
    let checked = checked(&[text]);
    assert!(!checked.diagnostics.has_errors(), "{}", checked.render());
    let policy = &checked.policies[0];
    assert_eq!(policy.tier, Tier::Admin);
    assert_eq!(policy.default_answer(Way::In), Some(policy::syntax::Answer::Deny));
    assert_eq!(policy.default_answer(Way::Out), None);
    let modes: Vec<&str> = policy.rules().map(|rule| rule.mode.word()).collect();
    assert_eq!(modes, ["audit", "draft"]);
    let names: Vec<&str> = policy.names_in_order().map(|name| name.name.text.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn derived_ids_stay_when_lines_move() {
    let ids = |text: &str| -> Vec<String> {
        checked(&[text]).policies[0].rules().map(|rule| rule.id.to_owned()).collect()
    };
    let first =
        ids("allow any -> me : tcp/1\ndeny any -> me : tcp/2 reason=\"x\"\nallow me -> any id=own");
    let moved = ids(
        "# moved\nallow me -> any id=own\naudit deny any -> me : tcp/2 log\n\nallow  any -> (me) : tcp/1",
    );
    assert_eq!([&first[0], &first[1], &first[2]], [&moved[2], &moved[1], &moved[0]]);
    assert!(first[0].starts_with("allow-") && first[1].starts_with("deny-") && first[2] == "own");
    let twice = checked(&["allow any -> me", "allow any -> me"]);
    let both: Vec<&str> =
        twice.policies.iter().flat_map(|policy| policy.rules()).map(|rule| rule.id).collect();
    assert_eq!(both[1], format!("{}-2", both[0]));
}
