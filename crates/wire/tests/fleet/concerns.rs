//! Who need not have a document, and that nobody who needs it goes without it.

use policy::Host;
use wire::{Accepted, Moment, Trust};

use crate::fleet::{Making, at, delegation, policy, refused, signed, taken, trust};

const WEB: &str = "allow role=web -> role=app : tcp/8080\n";
const DB: &str = "allow role=app -> role=db : tcp/5432\n";

fn host(role: &str) -> Host {
    Host {
        id: format!("{role}-1"),
        labels: [("role".to_owned(), role.to_owned())].into(),
        ..Host::default()
    }
}

/// As the host of a role, of which a controller says so.
fn verify(trust: &Trust, bundle: &[u8], role: &str) -> Result<Accepted, String> {
    let host = host(role);
    let moment = Moment { now: at(1), names: None, host: Some(&host) };
    trust.verify(bundle, moment).map_err(|error| error.to_string())
}

/// Without the documents of these names.
fn without(mut making: Making, names: &[&str]) -> Vec<u8> {
    let listed = making.snapshot.documents.iter().map(|it| it.name.clone());
    let mut each = listed.map(|name| !names.contains(&name.as_str()));
    making.documents.retain(|_| each.next().unwrap());
    making.bytes()
}

fn both() -> Making {
    Making::of(&[policy("db", 1, DB), policy("web", 1, WEB)])
}

#[test]
fn a_document_that_concerns_others_may_be_left_out() {
    let bundle = without(both(), &["db"]);
    let accepted = verify(&trust(), &bundle, "web").unwrap();
    assert_eq!(accepted.left_out, ["db"]);
    assert_eq!(accepted.documents.len(), 1);
    // Who sees the whole is not asked which host it is.
    let error = refused(&trust(), &bundle);
    assert!(error.starts_with("the document `db` (version 1) is not in the bundle"), "{error}");
    assert_eq!(taken(&trust(), &both().bytes()).left_out, Vec::<String>::new());
}

#[test]
fn a_document_that_is_held_back_is_refused_by_name() {
    for (role, name) in [("db", "db"), ("app", "db"), ("app", "web"), ("web", "web")] {
        let error = verify(&trust(), &without(both(), &[name]), role).unwrap_err();
        let start = format!("the document `{name}` (version 1) was held back, though it concerns");
        assert!(error.starts_with(&start), "{role}: {error}");
    }
    let everybody = Making::of(&[policy("base", 1, "default deny in\n"), policy("web", 1, WEB)]);
    let error = verify(&trust(), &without(everybody, &["base"]), "lonely").unwrap_err();
    assert!(error.ends_with("it concerns this host: `any`"), "{error}");
    // A snapshot of before this was said there.
    let mut silent = both();
    silent.snapshot.documents.iter_mut().for_each(|it| it.concerns = None);
    let error = verify(&trust(), &without(silent, &["db"]), "web").unwrap_err();
    assert!(error.contains("`db` (version 1) was held back"), "{error}");
}

#[test]
fn the_snapshot_cannot_say_less_than_the_document() {
    for concerns in ["role=db", "not any", "role in (app, web), role=db", "("] {
        let mut making = both();
        making.snapshot.documents[0].concerns = Some(concerns.to_owned());
        let bundle = making.bytes();
        for error in [refused(&trust(), &bundle), verify(&trust(), &bundle, "db").unwrap_err()] {
            let wrong =
                "the snapshot is wrong about whom the document `db` concerns: role in (app, db)";
            assert!(error == wrong || error.contains("whom `db` concerns: "), "{error}");
        }
    }
}

#[test]
fn versions_of_what_was_left_out_are_remembered() {
    let newer = |version| {
        let documents = [policy("db", version, DB), policy("web", 1, WEB)];
        Making::of(&documents).numbered(version + 1)
    };
    let known = verify(&trust(), &without(newer(5), &["db"]), "web").unwrap().trust;
    for role in ["web", "db"] {
        let error = verify(&known, &newer(4).numbered(7).bytes(), role).unwrap_err();
        assert!(error.contains("the document `db` has version 4, and version 5"), "{error}");
    }
    let mut gone = Making::of(&[policy("web", 1, WEB)]);
    gone = gone.numbered(7);
    let error = verify(&known, &gone.bytes(), "web").unwrap_err();
    assert!(error.starts_with("the document `db` (version 5) has vanished"), "{error}");
    // Once it concerns the host, it must come.
    let error = verify(&known, &without(newer(6), &["db"]), "db").unwrap_err();
    assert!(error.contains("`db` (version 6) was held back"), "{error}");
    verify(&known, &newer(6).bytes(), "db").unwrap();
}

#[test]
fn what_hands_a_document_on_comes_with_it() {
    const SCOPE: &str = r#"{"flows": "any -> role=db : any", "effects": ["allow"], "rules": 3}"#;
    let mut base = policy("base", 1, WEB);
    base.delegations = vec![delegation("db", &["petra"], SCOPE)];
    let db = signed(&policy("db", 1, DB), &["petra"]);
    let making = Making::with(vec![signed(&base, &["dora", "emil"]), db]);
    let both = without(making.clone(), &[]);
    assert_eq!(verify(&trust(), &both, "db").unwrap().documents[1].under, ["db"]);
    let error = verify(&trust(), &without(making.clone(), &["base"]), "db").unwrap_err();
    assert!(error.starts_with("the document `db`: 0 of the 2 signatures"), "{error}");
    // Neither concerns this one.
    let none = without(making, &["base", "db"]);
    assert_eq!(verify(&trust(), &none, "lonely").unwrap().left_out, ["base", "db"]);
}
