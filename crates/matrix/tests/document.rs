//! The tables of the documentation are what the list of doors and the lines of each kernel make of them. With
//! `FWNET_WRITE=1` they are written.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails, its functions as well")]

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// The pages, and the tables on each.
const PAGES: [(&str, &[&str]); 2] =
    [("docs/doors.md", &["doors", "detours"]), ("docs/threat-model.md", &["kernels"])];

fn tables() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_matrix"))
        .args(["document", "--golden", concat!(env!("CARGO_MANIFEST_DIR"), "/golden")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The lines of one table.
fn table<'a>(tables: &'a str, name: &str) -> &'a str {
    let start = format!("== {name}\n");
    let from = tables.find(&start).unwrap() + start.len();
    let rest = &tables[from..];
    rest.find("== ").map_or(rest, |end| &rest[..end])
}

/// The page with its table in place of what was between the marks.
fn with(page: &str, name: &str, table: &str) -> String {
    let start = format!("<!-- {name} -->\n");
    let from = page.find(&start).unwrap() + start.len();
    let to = from + page[from..].find("<!-- end -->").unwrap();
    format!("{}{table}{}", &page[..from], &page[to..])
}

#[test]
fn the_pages_say_what_the_matrix_saw() {
    let tables = tables();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (path, names) in PAGES {
        let path = root.join(path);
        let page = fs::read_to_string(&path).unwrap();
        let made =
            names.iter().fold(page.clone(), |page, name| with(&page, name, table(&tables, name)));
        if env::var_os("FWNET_WRITE").is_some() {
            fs::write(&path, &made).unwrap();
        } else {
            assert_eq!(page, made, "{}: FWNET_WRITE=1 writes it", path.display());
        }
    }
}
