//! Every file of the fuzz corpus through what the fuzz targets run.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as its test does")]

#[path = "../../../fuzz/bundles.rs"]
mod bundles;
#[path = "fleet/fleet.rs"]
#[expect(dead_code, reason = "the tests of verification use the rest")]
mod fleet;
#[path = "../../../fuzz/frames.rs"]
mod frames;

use std::{fs, path::Path};

use fleet::{Making, delegation, policy, root, signed};
use wire::sync::{self, Down, Up};

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

#[test]
fn frames() {
    each("frame", frames::frame);
}

fn seeded(seed: u8) -> wire::NamedKey {
    let key = wire::SecretKey::from_seed([seed; 32]).public();
    wire::NamedKey { name: format!("key-{seed}"), key }
}

fn said_upward() -> Vec<Vec<u8>> {
    let (target, text) = (vec![7; 32], "denied by nobody");
    let hello = sync::Hello {
        program: "0.1.0".to_owned(),
        enforced: target.clone(),
        stage: sync::Stage::Trial.into(),
    };
    let want = sync::Want { digest: vec![3; 32], base: vec![2; 32], offset: 65_536 };
    let progress = sync::Progress {
        target: target.clone(),
        stage: sync::Stage::Refused.into(),
        why: text.to_owned(),
        snapshot: 12,
    };
    let beat = sync::Beat {
        target,
        denied: 3,
        allowed: 1 << 40,
        stance: sync::Stance::Lockdown.into(),
        stale_s: 60,
        failing: text.to_owned(),
    };
    let all = [Up::Hello(hello), Up::Want(want), Up::Progress(progress), Up::Beat(beat)];
    let framed = |say| sync::encode(&sync::Upward { say: Some(say) }).unwrap();
    all.into_iter().map(framed).collect()
}

fn said_downward() -> Vec<Vec<u8>> {
    let manifest = sync::Manifest { rollout: 3, confirm_within_s: 600, ..Default::default() };
    let member = sync::Member {
        id: "web-1".to_owned(),
        addresses: vec![vec![192, 0, 2, 1]],
        ..Default::default()
    };
    let target = sync::Target {
        manifest: manifest_bytes(&manifest),
        me: member_bytes(&member),
        beat_ms: 10_000,
        ..Default::default()
    };
    let part = sync::Part {
        digest: vec![3; 32],
        total: 5,
        bytes: b"piece".to_vec(),
        ..Default::default()
    };
    let later = sync::Later { after_ms: 1_500, why: "too many at once".to_owned() };
    let refused = sync::Refused { why: "removed".to_owned() };
    let all = [Down::Target(target), Down::Part(part), Down::Later(later), Down::Refused(refused)];
    let framed = |say| sync::encode(&sync::Downward { say: Some(say) }).unwrap();
    all.into_iter().map(framed).collect()
}

fn relayed() -> Vec<Vec<u8>> {
    let came = sync::Came { host: "web-1".to_owned(), certificate: vec![9; 32] };
    let carried = sync::Carried { came: vec![came], gone: vec!["web-2".to_owned()] };
    let said = sync::Said { host: "web-1".to_owned(), progress: None, beat: None };
    let assignment = sync::Assignment {
        host: "web-1".to_owned(),
        manifest: vec![4; 32],
        me: Vec::new(),
        refused: String::new(),
    };
    let assigned = sync::Assigned {
        hosts: vec![assignment],
        manifests: vec![vec![0x30, 1]],
        along: Vec::new(),
    };
    let up = |say| sync::encode(&sync::Upward { say: Some(say) }).unwrap();
    vec![
        up(Up::Carried(carried)),
        up(Up::Gathered(sync::Gathered { said: vec![said] })),
        sync::encode(&sync::Downward { say: Some(Down::Assigned(assigned)) }).unwrap(),
    ]
}

/// The message without the frame around it.
fn manifest_bytes(manifest: &sync::Manifest) -> Vec<u8> {
    sync::encode(manifest).unwrap().split_off(sync::LENGTH_BYTES)
}

fn member_bytes(member: &sync::Member) -> Vec<u8> {
    sync::encode(member).unwrap().split_off(sync::LENGTH_BYTES)
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
    let stream = |size: u8, frames: &[Vec<u8>]| [vec![size], frames.concat()].concat();
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
        ("frame/up", stream(9, &said_upward())),
        ("frame/down", stream(255, &said_downward())),
        ("frame/relayed", stream(64, &relayed())),
        ("frame/cut", stream(1, &[vec![0, 0, 0, 9, 0x12]])),
        ("frame/large", stream(3, &[vec![0, 4, 0, 1, 0, 0]])),
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
