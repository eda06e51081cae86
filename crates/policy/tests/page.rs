//! The language's page: its worked example is checked, its error is what is said, its JSON is read, and its limits and
//! words are those of the code.

#![expect(clippy::unwrap_used, reason = "a test's helpers panic as its test does")]

use jiff::Timestamp;
use policy::{Checked, Code, Inventory, Source, check, limits, run_tests};

const PAGE: &str = include_str!("../../../docs/policy.md");

/// The first block of the page in `language`.
fn block(language: &str) -> &'static str {
    let (_, from) =
        PAGE.split_once(&format!("```{language}\n")).expect("the page has such a block");
    from.split_once("```").expect("the block ends").0
}

fn checked(text: &str) -> Checked {
    let inventory = Inventory::read(block("toml").as_bytes()).unwrap();
    let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    check(&[Source { name: "shop.fwnet", bytes: text.as_bytes() }], Some(&inventory), now)
}

#[test]
fn the_shop_is_without_fault() {
    let checked = checked(block("fwnet"));
    assert_eq!(checked.render(), "");
    assert_eq!(checked.policies[0].rules().len(), 8);
    assert_eq!(checked.policies[0].tests().count(), 3);
}

#[test]
fn the_tests_in_the_shop_hold() {
    let inventory = Inventory::read(block("toml").as_bytes()).unwrap();
    let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    let results = run_tests(&checked(block("fwnet")), &inventory, now).unwrap();
    let failed: Vec<_> = results.iter().filter(|result| !result.passed).collect();
    assert_eq!((results.len(), failed.as_slice()), (3, [].as_slice()));
}

#[test]
fn the_typo_is_explained_as_the_page_says() {
    let typo = block("fwnet").replace("allow web[", "allow wbe[");
    assert_eq!(checked(&typo).render(), block("text"));
}

#[test]
fn the_json_is_a_policy() {
    let checked = checked(block("json"));
    assert_eq!(checked.render(), "");
    assert_eq!(
        checked.sources()[0].1,
        "# the application's database\nallow role=app -> db-1 : tcp/5432\n"
    );
}

#[test]
fn the_limits_are_those_of_the_code() {
    let said = [
        format!("{} MiB", limits::DOCUMENT_BYTES_MAX >> 20),
        format!(
            "{},{} words",
            limits::STATEMENT_TOKENS_MAX / 1_000,
            limits::STATEMENT_TOKENS_MAX % 1_000
        ),
        format!("{},0{} bytes", limits::WORD_BYTES_MAX / 1_000, limits::WORD_BYTES_MAX % 1_000),
        format!("{} levels", limits::NESTING_MAX),
        format!("{} errors", limits::REPORTED_MAX),
    ];
    for words in said {
        assert!(PAGE.contains(&words), "{words}");
    }
}

#[test]
fn every_code_has_a_sentence() {
    for code in Code::ALL {
        assert!(
            code.summary().ends_with('.')
                && code
                    .word()
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-' || byte == b'8')
        );
    }
}
