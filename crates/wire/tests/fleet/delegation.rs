//! What others may sign, and that not a port, a bit or a spelling more gets through.

use wire::Policy;

use crate::fleet::{Making, delegation, policy, refused, signed, taken, trust};

/// The database team: who reaches its hosts from two networks, by PostgreSQL.
const SCOPE: &str = r#"{"flows": "10.0.0.0/8, role=app -> role=db : tcp/5432-5433",
    "effects": ["allow", "deny"], "rules": 3}"#;

/// A base policy that hands `db` on, and what the team wrote.
fn delegated(scope: &str, text: &str) -> Making {
    Making::with(vec![base(scope), signed(&policy("db", 1, text), &["petra"])])
}

fn base(scope: &str) -> wire::Envelope {
    let mut base = policy("base", 1, "deny any -> 192.0.2.0/24 : any\n");
    base.delegations = vec![delegation("db", &["petra"], scope)];
    signed(&base, &["dora", "emil"])
}

#[track_caller]
fn inside(scope: &str, text: &str) {
    let accepted = taken(&trust(), &delegated(scope, text).bytes());
    assert_eq!(accepted.documents[1].under, ["db"], "{text}");
}

#[track_caller]
fn outside(scope: &str, text: &str) -> String {
    let error = refused(&trust(), &delegated(scope, text).bytes());
    let start = "the document `db` is outside of the scope of the delegation `db`: ";
    error.strip_prefix(start).unwrap_or_else(|| panic!("{text}: {error}")).to_owned()
}

#[test]
fn rules_within_a_scope_are_taken() {
    for text in [
        "allow role=app -> role=db : tcp/5432\n",
        "allow 10.1.0.0/16 -> role=db & env=prod : tcp/5432, tcp/5433\n",
        "allow ::ffff:10.1.0.0/112 -> role=db : tcp/5432\n",
        "allow role=app[user=www-data] -> role=db[unit=postgresql.service] : tcp/5433\n",
        "name apps = role=app & env=prod\nname pg = tcp/5432\nallow apps -> role=db : pg\n",
        "tier team\nmode audit\ndeny role=app -> role=db & me : tcp/5432 reason=\"ours\"\n",
        "",
    ] {
        inside(SCOPE, text);
    }
}

#[test]
fn a_rule_that_escapes_by_one_port_is_named() {
    let text = "allow role=app -> role=db : tcp/5432\nallow role=app -> role=db : tcp/5432-5434\n";
    assert_eq!(
        outside(SCOPE, text),
        "line 2, `allow role=app -> role=db : tcp/5432-5434`: the scope does not hold tcp/5434"
    );
    assert!(outside(SCOPE, "allow role=app -> role=db : tcp/5431\n").ends_with("tcp/5431"));
    assert!(outside(SCOPE, "allow role=app -> role=db : udp/5432\n").ends_with("udp/5432"));
    assert!(outside(SCOPE, "allow role=app -> role=db : any\n").ends_with("0/any"));
    assert!(
        outside(SCOPE, "name pg = tcp/5432, tcp/22\nallow role=app -> role=db : pg\n")
            .ends_with("tcp/22")
    );
}

#[test]
fn a_rule_that_escapes_by_one_prefix_bit_is_named() {
    let why = outside(SCOPE, "allow 10.0.0.0/7 -> role=db : tcp/5432\n");
    assert!(why.ends_with("its FROM holds 11.0.0.0 of somebody the inventory does not know, which the scope does not"), "{why}");
    assert!(outside(SCOPE, "allow 11.0.0.0/8 -> role=db : tcp/5432\n").contains("11.0.0.0"));
    assert!(
        outside(SCOPE, "allow 9.255.255.255-10.0.0.9 -> role=db : tcp/5432\n")
            .contains("9.255.255.255")
    );
}

#[test]
fn the_mapped_form_of_an_address_is_the_address() {
    inside(SCOPE, "allow ::ffff:10.0.0.0/104 -> role=db : tcp/5432\n");
    let why = outside(SCOPE, "allow ::ffff:10.0.0.0/103 -> role=db : tcp/5432\n");
    assert!(why.contains("its FROM holds 11.0.0.0"), "{why}");
    let mapped = SCOPE.replace("10.0.0.0/8", "::ffff:10.0.0.0/104");
    inside(&mapped, "allow 10.0.0.0/8 -> role=db : tcp/5432\n");
    assert!(outside(&mapped, "allow 11.0.0.1 -> role=db : tcp/5432\n").contains("11.0.0.1"));
    assert!(outside(SCOPE, "allow ::/0 -> role=db : tcp/5432\n").contains("holds ::"));
}

#[test]
fn selectors_are_compared_by_what_they_mean() {
    let scope = r#"{"flows": "any -> role=db & env in (prod, stage) except db-9 : any", "effects": ["allow"], "rules": 9}"#;
    for good in [
        "role=db & env=prod & not db-9",
        "role=db & env=stage & has team except db-9",
        "not (role!=db | env not in (prod, stage) | db-9) & has host",
        "me & role=db & env=prod & host=db-1 except db-9",
    ] {
        inside(scope, &format!("allow any -> {good} : any\n"));
    }
    for (bad, who) in [
        ("role=db & env=prod", "called db-9"),
        ("role=db & env=test except db-9", "with env=test"),
        ("role=db & has env except db-9", "with another env"),
        ("db-9", "called db-9"),
        ("host=db-1", "with host=db-1"),
        ("me", "of the host that enforces"),
        ("any", ""),
        ("not role=web", ""),
    ] {
        let why = outside(scope, &format!("allow any -> {bad} : any\n"));
        assert!(why.contains("its TO holds ") && why.contains(who), "{bad}: {why}");
    }
}

#[test]
fn effects_tiers_ends_and_numbers_are_held_to() {
    assert!(
        outside(SCOPE, "refuse role=app -> role=db : tcp/5432\n")
            .ends_with("the scope does not allow `refuse`")
    );
    assert_eq!(outside(SCOPE, "tier admin\n"), "it is in the tier admin");
    let baseline = SCOPE.replace("\"rules\"", "\"tiers\": [\"baseline\"], \"rules\"");
    assert_eq!(
        outside(&baseline, "allow role=app -> role=db : tcp/5432\n"),
        "it is in the tier team"
    );
    inside(&baseline, "tier baseline\nallow role=app -> role=db : tcp/5432\n");
    assert_eq!(
        outside(SCOPE, "default deny in\n"),
        "line 1, `default deny in`: a default speaks of every flow"
    );
    let why = outside(SCOPE, "failsafe role=app -> role=db : tcp/5432\n");
    assert!(why.contains("the failsafe set is not the business"), "{why}");
    let rule = "allow role=app -> role=db : tcp/5432\n";
    inside(SCOPE, &rule.repeat(3));
    assert_eq!(
        outside(SCOPE, &rule.repeat(4)),
        "it has 4 rules with those it hands on, and the scope allows 3"
    );
    let until = SCOPE.replace("\"rules\"", "\"until\": \"2026-06-30\", \"rules\"");
    inside(&until, "allow role=app -> role=db : tcp/5432 until 2026-06-30\n");
    let why = outside(&until, "allow role=app -> role=db : tcp/5432 until 2026-07-01\n");
    assert!(why.ends_with("it must end by 2026-06-30, and ends 2026-07-01"), "{why}");
    assert!(outside(&until, rule).ends_with("it must end by 2026-06-30, and has no `until`"));
}

#[test]
fn a_direction_is_what_a_host_does_itself() {
    let accepting = SCOPE.replace("\"rules\"", "\"direction\": \"in\", \"rules\"");
    inside(&accepting, "allow role=app -> me & role=db : tcp/5432\n");
    let why = outside(&accepting, "allow role=app -> role=db : tcp/5432\n");
    assert!(why.contains("its TO holds"), "{why}");
    let out = r#"{"flows": "role=app -> any : tcp/443", "direction": "out", "effects": ["deny"], "rules": 1}"#;
    inside(out, "deny me & role=app -> any : tcp/443\n");
    assert!(outside(out, "deny role=app -> any : tcp/443\n").contains("its FROM holds"));
}

#[test]
fn loopback_is_this_hosts_own() {
    let own = r#"{"flows": "any -> me : any", "effects": ["allow"], "rules": 1}"#;
    inside(own, "allow any -> 127.0.0.0/8 : any\n");
    inside(own, "allow any -> ::1 : any\n");
    assert!(
        outside(own, "allow any -> 126.255.255.255-127.0.0.1 : any\n").contains("126.255.255.255")
    );
}

#[test]
fn a_document_that_cannot_be_read_is_outside() {
    assert!(outside(SCOPE, "allow role=app ->\n").starts_with("it cannot be read: "));
    assert!(
        outside(SCOPE, "name a = b\nname b = a\nallow a -> role=db : tcp/5432\n")
            .contains("the name `")
    );
    assert!(
        outside(SCOPE, "name a = role=app\nname a = any\nallow a -> role=db : tcp/5432\n")
            .contains("the name `a`")
    );
}

#[test]
fn the_json_form_of_a_policy_is_held_to_the_scope() {
    let mut report = policy::Diagnostics::default();
    let json = |text: &str, report: &mut policy::Diagnostics| {
        policy::to_json(&policy::parse(text.as_bytes(), 0, report).document)
    };
    inside(SCOPE, &json("allow role=app -> role=db : tcp/5432\n", &mut report));
    let why = outside(SCOPE, &json("allow role=app -> role=db : tcp/22\n", &mut report));
    assert!(why.ends_with("the scope does not hold tcp/22"), "{why}");
}

#[test]
fn only_those_it_was_handed_to_may_sign() {
    let text = "allow role=app -> role=db : tcp/5432\n";
    let making = Making::with(vec![base(SCOPE), signed(&policy("db", 1, text), &["dora"])]);
    assert_eq!(
        refused(&trust(), &making.bytes()),
        "the document `db`: 0 of the 1 signatures that the delegation `db` needs; 1 signature is of a key that has no say here"
    );
    let making = Making::with(vec![base(SCOPE), signed(&policy("web", 1, text), &["petra"])]);
    assert!(refused(&trust(), &making.bytes()).starts_with("the document `web`: 0 of the 2"));
    let making = Making::with(vec![base(SCOPE), signed(&policy("db", 1, text), &["dora", "emil"])]);
    let error = refused(&trust(), &making.bytes());
    assert!(error.starts_with("the document `db`: 0 of the 1 signatures"), "{error}");
}

/// `db`, which hands `pg` on to Quentin within `inner`.
fn handed_on(depth: u8, inner: &str, text: &str) -> Making {
    let scope = SCOPE.replace("\"rules\"", &format!("\"depth\": {depth}, \"rules\""));
    let mut db: Policy = policy("db", 1, "allow role=app -> role=db : tcp/5432\n");
    db.delegations = vec![delegation("pg", &["quentin"], inner)];
    let pg = signed(&policy("pg", 1, text), &["quentin"]);
    Making::with(vec![base(&scope), pg, signed(&db, &["petra"])])
}

#[test]
fn what_is_handed_on_stays_within_every_scope() {
    let narrow = r#"{"flows": "role=app -> role=db & env=test : tcp/5432", "effects": ["allow"], "rules": 3}"#;
    let good = "allow role=app -> role=db & env=test : tcp/5432\n";
    let accepted = taken(&trust(), &handed_on(1, narrow, good).bytes());
    assert_eq!(accepted.documents[1].under, ["db", "pg"]);
    let error =
        refused(&trust(), &handed_on(1, narrow, "allow role=app -> role=db : tcp/5432\n").bytes());
    assert!(
        error.starts_with("the document `pg` is outside of the scope of the delegation `pg`"),
        "{error}"
    );
    // Petra cannot give what she has not got.
    let wide = r#"{"flows": "any -> any : any", "effects": ["allow"], "rules": 9}"#;
    let error = refused(&trust(), &handed_on(1, wide, "allow any -> role=db : tcp/5432\n").bytes());
    assert!(
        error.starts_with("the document `pg` is outside of the scope of the delegation `db`"),
        "{error}"
    );
    let error = refused(&trust(), &handed_on(1, narrow, &good.repeat(3)).bytes());
    assert!(error.contains("delegation `db`: it has 4 rules with those it hands on"), "{error}");
}

#[test]
fn nothing_is_handed_on_more_often_than_allowed() {
    let narrow = r#"{"flows": "role=app -> role=db : tcp/5432", "effects": ["allow"], "rules": 1}"#;
    let error = refused(&trust(), &handed_on(0, narrow, "").bytes());
    assert!(
        error.starts_with("the document `db` hands on `pg`, which its own delegation"),
        "{error}"
    );
    let deeper = narrow.replace("\"rules\"", "\"depth\": 1, \"rules\"");
    let error = refused(&trust(), &handed_on(1, &deeper, "").bytes());
    assert!(error.starts_with("the document `db` hands on `pg`"), "{error}");
    taken(&trust(), &handed_on(2, &deeper, "").bytes());
}

#[test]
fn a_document_has_one_delegation() {
    let mut first = policy("base", 1, "");
    first.delegations = vec![delegation("db", &["petra"], SCOPE)];
    let mut second = policy("more", 1, "");
    second.delegations = vec![delegation("db", &["quentin"], SCOPE)];
    let by = ["dora", "emil"];
    let db = signed(&policy("db", 1, ""), &["petra", "quentin"]);
    let making = Making::with(vec![signed(&first, &by), signed(&second, &by), db]);
    assert_eq!(
        refused(&trust(), &making.bytes()),
        "the document `db` is delegated more than once, or by itself"
    );
}
