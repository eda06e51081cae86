//! Who has signed, and whether what was signed is what came.

use wire::{Bundle, Envelope, Policy, Trust, limits};

use crate::fleet::{Making, key, policy, refused, root, signed, taken, trust};

const TEXT: &str = "deny any -> 192.0.2.0/24 : any\n";

#[test]
fn a_bundle_that_is_in_order_is_taken() {
    let accepted = taken(&trust(), &Making::of(&[policy("base", 3, TEXT)]).bytes());
    let [document] = accepted.documents.as_slice() else { panic!("{accepted:?}") };
    assert_eq!((document.name.as_str(), document.version), ("base", 3));
    assert_eq!(document.policy, TEXT);
    assert_eq!(document.signers, ["dora", "emil"]);
    assert_eq!(accepted.trust.marks.documents["base"].version, 3);
}

#[test]
fn every_flipped_bit_of_every_signed_byte_is_seen() {
    let bundle = Making::of(&[policy("base", 3, TEXT)]).bytes();
    let trust = trust();
    let whole = String::from_utf8(bundle.clone()).unwrap();
    let mut flipped = 0;
    for at in 0..bundle.len() {
        for bit in [0, 3, 6] {
            let mut changed = bundle.clone();
            changed[at] ^= 1 << bit;
            let Err(error) = crate::fleet::verify_at(&trust, &changed, 1) else {
                // What a host already has is not read again: the root it trusts may come damaged.
                let root = whole.find("\"timestamp\"").unwrap();
                let blank = changed[at].is_ascii_whitespace() && bundle[at].is_ascii_whitespace();
                assert!(at < root || blank, "bit {bit} of byte {at} was not seen");
                continue;
            };
            assert!(!error.is_empty());
            flipped += 1;
        }
    }
    assert!(flipped > 2 * bundle.len(), "most flips are refused");
}

#[test]
fn a_changed_payload_names_the_document_and_the_signature() {
    let mut making = Making::of(&[policy("base", 3, TEXT)]);
    let text = serde_json::to_value(&making.documents[0]).unwrap();
    let mut other =
        serde_json::to_value(Envelope::new(&policy("base", 3, "allow any -> any : any\n")))
            .unwrap();
    other["signatures"] = text["signatures"].clone();
    making = Making::with(vec![serde_json::from_value(other).unwrap()]);
    assert_eq!(
        refused(&trust(), &making.bytes()),
        "the document `base`: 0 of the 2 signatures that the role policy needs; the signature of dora, emil does not fit the content"
    );
}

#[test]
fn a_wrong_key_is_no_signature() {
    let making = Making::with(vec![signed(&policy("base", 1, TEXT), &["dora", "mallory"])]);
    assert_eq!(
        refused(&trust(), &making.bytes()),
        "the document `base`: 1 of the 2 signatures that the role policy needs; 1 signature is of a key that has no say here"
    );
    let mut making = Making::of(&[policy("base", 1, TEXT)]);
    making.stamp_by = vec!["snap"];
    assert!(refused(&trust(), &making.bytes()).starts_with("the timestamp: 0 of the 1"));
    let mut making = Making::of(&[policy("base", 1, TEXT)]);
    making.snapshot_by = vec!["clock"];
    assert!(refused(&trust(), &making.bytes()).starts_with("the snapshot: 0 of the 1"));
}

#[test]
fn one_signature_less_than_needed_is_too_few() {
    let making = Making::with(vec![signed(&policy("base", 1, TEXT), &["emil"])]);
    assert_eq!(
        refused(&trust(), &making.bytes()),
        "the document `base`: 1 of the 2 signatures that the role policy needs"
    );
    let root = serde_json::to_vec(&signed(&root(), &["ben"])).unwrap();
    let error = Trust::begin(&root).unwrap_err().to_string();
    assert_eq!(error, "root 1: 1 of the 2 signatures that the role root needs");
}

#[test]
fn one_signer_twice_is_one_signer() {
    let once = signed(&policy("base", 1, TEXT), &["dora"]);
    let mut value = serde_json::to_value(&once).unwrap();
    let signature = value["signatures"][0].clone();
    value["signatures"] = serde_json::json!([signature, signature]);
    let making = Making::with(vec![serde_json::from_value(value).unwrap()]);
    assert!(refused(&trust(), &making.bytes()).contains("1 of the 2 signatures"));
    // Signing again replaces a signature, and a root in which one key has two names is none.
    let mut again = signed(&policy("base", 1, TEXT), &["dora"]);
    again.sign(&key("dora"));
    assert_eq!(again.signatures().len(), 1);
    let mut root = root();
    root.keys[4].key = root.keys[3].key.clone();
    let root = serde_json::to_vec(&signed(&root, &["anna", "ben"])).unwrap();
    let error = Trust::begin(&root).unwrap_err().to_string();
    assert!(error.contains("the root has the key of `emil` twice"), "{error}");
}

#[test]
fn a_payload_of_one_type_is_not_taken_for_another() {
    let mut value =
        serde_json::to_value(signed(&policy("base", 1, TEXT), &["dora", "emil"])).unwrap();
    value["payloadType"] = serde_json::json!("application/vnd.fwnet.snapshot+json");
    let envelope: Envelope = serde_json::from_value(value).unwrap();
    let error = refused(&trust(), &Making::with(vec![envelope]).bytes());
    assert!(error.contains("does not fit the content"), "{error}");
    // Signed as a snapshot in earnest, it is still no policy.
    let making = Making::of(&[policy("base", 1, TEXT)]);
    let snapshot = signed(&making.snapshot, &["dora", "emil"]);
    let error = refused(&trust(), &Making::with(vec![snapshot]).bytes());
    assert!(error.contains("it is signed as `application/vnd.fwnet.snapshot+json`"), "{error}");
}

#[test]
fn what_is_too_large_is_not_parsed() {
    let huge = vec![b'{'; limits::BUNDLE_BYTES_MAX + 1];
    assert_eq!(
        refused(&trust(), &huge),
        format!("the bundle has {} bytes, more than {}", huge.len(), limits::BUNDLE_BYTES_MAX)
    );
    let long = policy("base", 1, &"#".repeat(limits::POLICY_BYTES_MAX));
    let error = refused(&trust(), &Making::of(&[long]).bytes());
    assert!(error.starts_with("the document `broken`: it has 16777"), "{error}");
    let root = vec![b' '; 4 * limits::ROOT_BYTES_MAX + 1];
    assert!(Trust::begin(&root).unwrap_err().to_string().contains("more than 262144"));
    let many = signed(&policy("base", 1, TEXT), &["dora", "emil"]);
    let mut value = serde_json::to_value(&many).unwrap();
    let signature = value["signatures"][0].clone();
    value["signatures"] = serde_json::json!(vec![signature; limits::SIGNATURES_MAX + 1]);
    let error =
        refused(&trust(), &Making::with(vec![serde_json::from_value(value).unwrap()]).bytes());
    assert!(error.contains("it has 65 signatures, more than 64"), "{error}");
}

#[test]
fn a_field_that_nobody_knows_is_refused() {
    let mut value: serde_json::Value =
        serde_json::from_slice(&Making::of(&[policy("base", 1, TEXT)]).bytes()).unwrap();
    value["more"] = serde_json::json!(1);
    let error = refused(&trust(), value.to_string().as_bytes());
    assert!(error.contains("unknown field `more`"), "{error}");
    let mut payload = serde_json::to_value(policy("base", 1, TEXT)).unwrap();
    payload["allow"] = serde_json::json!(true);
    let payload = payload.to_string().into_bytes();
    let error = Envelope::of_bytes::<Policy>(payload).unwrap_err().to_string();
    assert!(error.contains("unknown field `allow`"), "{error}");
}

#[test]
fn the_bundle_holds_what_the_snapshot_lists_and_nothing_else() {
    let mut making = Making::of(&[policy("base", 1, TEXT), policy("more", 1, "")]);
    let extra = making.documents.pop().unwrap();
    let error = refused(&trust(), &making.clone().bytes());
    assert!(error.starts_with("the document `more` (version 1) is not in the bundle"), "{error}");
    making.documents.push(extra);
    making.snapshot.documents.pop();
    let error = refused(&trust(), &making.bytes());
    assert_eq!(error, "the bundle has 1 documents that the snapshot does not list");
    let mut making = Making::of(&[policy("base", 1, TEXT)]);
    making.snapshot.documents[0].version = 2;
    let error = refused(&trust(), &making.bytes());
    assert_eq!(error, "the document `base` is not the one that the snapshot names");
    let bundle = Making::of(&[policy("base", 1, TEXT)]).bundle();
    let other = Making::of(&[policy("base", 2, TEXT)]).bundle();
    let mixed = Bundle::new(bundle.roots, bundle.timestamp, other.snapshot, other.documents);
    let error = refused(&trust(), mixed.to_json().as_bytes());
    assert_eq!(error, "the snapshot is not the one that the timestamp names");
}
