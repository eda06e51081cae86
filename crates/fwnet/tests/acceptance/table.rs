//! docs/acceptance.md has a row for every line of the list, and every test it names exists.

use std::{collections::BTreeSet, fs, path::Path};

/// The sections of the list, and how many lines each has.
const SECTIONS: [(char, u32); 10] = [
    ('A', 12),
    ('B', 18),
    ('C', 16),
    ('D', 5),
    ('E', 7),
    ('F', 5),
    ('G', 3),
    ('H', 8),
    ('I', 6),
    ('J', 3),
];

/// Its rows: the line's name and the rest.
fn rows(table: &str) -> Vec<(&str, &str)> {
    table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .filter(|(name, _)| *name != "line")
        .collect()
}

/// What stands between backquotes and looks like the name of a test.
fn named(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|word| {
        word.contains('_') && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

/// The functions marked as tests in every Rust file below `directory`.
fn tests_below(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut marked = false;
            for line in text.lines().map(str::trim) {
                if line == "#[test]" {
                    marked = true;
                } else if let Some(rest) = line.strip_prefix("fn ").filter(|_| marked) {
                    found.extend(rest.split_once('(').map(|(name, _)| name.to_owned()));
                    marked = false;
                }
            }
        }
    }
}

#[test]
fn every_line_has_a_row_and_every_row_a_test_or_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = fs::read_to_string(root.join("docs/acceptance.md")).unwrap();
    let rows = rows(&table);
    let expected: Vec<String> = SECTIONS
        .into_iter()
        .flat_map(|(section, lines)| (1..=lines).map(move |line| format!("{section}{line}")))
        .collect();
    assert_eq!(rows.iter().map(|(name, _)| *name).collect::<Vec<_>>(), expected);

    let mut tests = BTreeSet::new();
    tests_below(&root.join("crates"), &mut tests);
    assert!(tests.contains("every_line_has_a_row_and_every_row_a_test_or_a_reason"));
    let mut wrong = Vec::new();
    for name in named(&table) {
        if !tests.contains(name) {
            wrong.push(format!("there is no test {name}"));
        }
    }
    for (line, rest) in &rows {
        let column = rest.rsplit_once(" | ").map_or(*rest, |(_, tests)| tests);
        if named(column).next().is_none()
            && !rest.contains("later: ")
            && !rest.contains("nothing: ")
        {
            wrong.push(format!("{line} has neither a test nor a reason"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
