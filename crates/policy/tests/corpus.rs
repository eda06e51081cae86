//! Every file of the fuzz corpus through what the fuzz targets run.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as its test does")]

#[path = "../../../fuzz/properties.rs"]
mod properties;

use std::{fs, path::Path};

fn each(name: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        eprintln!("{}", path.display());
        run(&fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 3, "{} is nearly empty", folder.display());
}

#[test]
fn texts() {
    each("text", properties::text);
}

#[test]
fn json_documents() {
    each("json", properties::json);
}

#[test]
fn inventories() {
    each("inventory", properties::inventory);
}
