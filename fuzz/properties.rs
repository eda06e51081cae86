//! What must hold for any bytes. The fuzz targets run these on new inputs; a test of crate `policy` runs them on the corpus.

use std::sync::LazyLock;

use jiff::Timestamp;
use policy::{Diagnostics, Inventory, Source, check, format, from_json, parse, to_json};

/// A policy document: it is answered, places lie in it, and if it can be read then its text and JSON forms say the same.
pub(crate) fn text(bytes: &[u8]) {
    answered(bytes);
    let mut report = Diagnostics::default();
    let document = parse(bytes, 0, &mut report).document;
    let formatted = format(&document);

    let mut again = Diagnostics::default();
    let reparsed = parse(formatted.as_bytes(), 0, &mut again).document;
    assert!(!again.has_errors(), "what is printed can be read: {formatted}");
    assert_eq!(format(&reparsed), formatted, "printing settles");
    if !report.has_errors() {
        let (before, after) = (answered(bytes), answered(formatted.as_bytes()));
        assert_eq!(before, after, "printing changes no meaning: {formatted}");
    }

    let mut found = Diagnostics::default();
    let from = from_json(to_json(&document).as_bytes(), 0, &mut found);
    assert!(!found.has_errors(), "the JSON form can be read");
    assert_eq!(from.text, formatted, "nothing is lost in JSON");
}

/// The JSON form of a policy document: it is answered, and if it can be read then it goes round.
pub(crate) fn json(bytes: &[u8]) {
    answered(bytes);
    let mut report = Diagnostics::default();
    let from = from_json(bytes, 0, &mut report);
    if !report.has_errors() {
        text(from.text.as_bytes());
    }
}

/// An inventory: it is read or refused, and what was read goes round.
pub(crate) fn inventory(bytes: &[u8]) {
    if let Ok(inventory) = Inventory::read(bytes) {
        let again =
            Inventory::read(inventory.to_json().as_bytes()).expect("what is printed can be read");
        assert_eq!(again, inventory);
    }
}

/// Checks and renders; returns how many errors and warnings there are.
fn answered(bytes: &[u8]) -> (usize, usize) {
    const INVENTORY: &str = r#"{"hosts": [
        {"id": "web-1", "addresses": ["10.0.0.1"], "labels": {"role": "web", "env": "prod"}},
        {"id": "db-1", "names": ["db"], "addresses": ["10.0.0.2", "2001:db8::2"], "labels": {"role": "db"}}
    ]}"#;
    static HOSTS: LazyLock<Inventory> = LazyLock::new(|| {
        Inventory::read(INVENTORY.as_bytes()).expect("the inventory is well-formed")
    });
    let sources = [Source { name: "p", bytes }];
    let checked = check(&sources, Some(&HOSTS), Timestamp::UNIX_EPOCH);
    checked.render();
    let (_, text) = checked.sources().first().expect("there is one source");
    for diagnostic in checked.diagnostics.reported() {
        let places = diagnostic.related.iter().map(|related| related.span).chain([diagnostic.span]);
        for span in places {
            assert!(
                span.start <= span.end && text.get(span.range()).is_some(),
                "{span:?} lies in the text of {diagnostic:?}"
            );
        }
    }
    check(&sources, None, Timestamp::UNIX_EPOCH);
    (checked.diagnostics.errors(), checked.diagnostics.warnings())
}
