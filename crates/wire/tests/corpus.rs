//! Every file of the fuzz corpus through what the fuzz targets run.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as its test does")]

#[path = "../../../fuzz/bundles.rs"]
mod bundles;
#[path = "fleet/fleet.rs"]
#[expect(dead_code, reason = "the tests of verification use the rest")]
mod fleet;

use std::{fs, path::Path};

use fleet::{Making, delegation, policy, root, signed};

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name)
}

fn each(name: &str, run: fn(&[u8])) {
    let mut count = 0;
    for entry in fs::read_dir(folder(name)).unwrap() {
        let path = entry.unwrap().path();
        eprintln!("{}", path.display());
        run(&fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 3, "{name} is nearly empty");
}

#[test]
fn bundles() {
    each("bundle", bundles::bundle);
}

#[test]
fn envelopes() {
    each("envelope", bundles::envelope);
}

#[test]
fn documents() {
    each("documents", bundles::documents);
}

#[test]
fn scopes() {
    each("scope", bundles::scope);
}

fn seeded(seed: u8) -> wire::NamedKey {
    let key = wire::SecretKey::from_seed([seed; 32]).public();
    wire::NamedKey { name: format!("key-{seed}"), key }
}

/// The seeds, made anew by `FWNET_WRITE=1`: keys are of known names, so that they are the same each time.
#[test]
fn the_seeds_are_what_the_code_makes() {
    let text = "deny any -> 192.0.2.0/24 : any\n";
    let scope =
        r#"{"flows": "10.0.0.0/8 -> role=db : tcp/5432", "effects": ["allow"], "rules": 3}"#;
    let mut base = policy("base", 1, text);
    base.delegations = vec![delegation("db", &["petra"], scope)];
    let base = signed(&base, &["dora", "emil"]);
    let db = |text| signed(&policy("db", 1, text), &["petra"]);
    let within = Making::with(vec![base.clone(), db("allow 10.1.0.0/16 -> role=db : tcp/5432\n")]);
    let outside = Making::with(vec![base.clone(), db("allow 10.0.0.0/7 -> role=db : tcp/5432\n")]);
    let mut next = root();
    next.version = 2;
    let mut rotated = Making::of(&[policy("base", 1, text)]);
    rotated.roots.push(signed(&next, &["anna", "ben"]));
    let keys: Vec<_> = (3..=4).map(seeded).collect();
    let payloads = |db: &str, depth: u8| {
        let scope = scope.replace("\"rules\"", &format!("\"depth\": {depth}, \"rules\""));
        let hand_on = |name: &str| wire::Delegation {
            keys: keys.clone(),
            threshold: 2,
            ..delegation(name, &[], &scope)
        };
        let (mut base, mut middle) = (policy("base", 1, text), policy("db", 1, db));
        base.delegations = vec![hand_on("db")];
        if 0 < depth {
            let mut inner = hand_on("pg");
            inner.scope.depth = depth - 1;
            middle.delegations = vec![inner];
        }
        let all = [base, middle, policy("pg", 2, db)].map(|it| serde_json::to_string(&it).unwrap());
        all.join("\n---\n").into_bytes()
    };
    let json = |envelope: &wire::Envelope| serde_json::to_vec_pretty(envelope).unwrap();
    let root = signed(&root(), &["anna", "ben"]);
    let bundle = within.clone().bundle();
    for (name, bytes) in [
        ("bundle/root.json", json(&root)),
        ("bundle/one", Making::of(&[policy("base", 1, text)]).bytes()),
        ("bundle/delegated", within.bytes()),
        ("bundle/outside", outside.bytes()),
        ("bundle/rotated", rotated.bytes()),
        ("documents/within", payloads("allow 10.1.0.0/16 -> role=db : tcp/5432\n", 0)),
        ("documents/handed-on", payloads("allow 10.1.0.0/16 -> role=db & me : tcp/5432\n", 1)),
        ("documents/outside", payloads("allow any -> role=db : tcp/5432\n", 1)),
        ("documents/default", payloads("default deny in\n", 2)),
        ("envelope/root", json(&root)),
        ("envelope/policy", json(&base)),
        ("envelope/snapshot", json(&bundle.snapshot)),
        ("envelope/timestamp", json(&bundle.timestamp)),
    ] {
        let path = folder(name);
        if std::env::var_os("FWNET_WRITE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(
            fs::read(&path).ok(),
            Some(bytes),
            "fuzz/corpus/{name} is another one: FWNET_WRITE=1 cargo test -p wire --test corpus"
        );
    }
}
