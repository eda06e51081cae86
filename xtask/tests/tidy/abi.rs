//! The ABI cannot change in silence: `abi.digest` holds its number and the digest of `abi.rs`.

use super::read;

const SOURCE: &str = "crates/verdict/src/abi.rs";
const RECORD: &str = "crates/verdict/src/abi.digest";

#[test]
fn abi_rs_is_the_one_that_was_recorded_under_its_number() {
    let source = read(SOURCE);
    let number = number(&source);
    let digest = digest(&source);
    let record = read(RECORD);
    let mut fields = record.split_ascii_whitespace();
    let recorded_number: u32 = fields.next().unwrap().parse().unwrap();
    let recorded_digest = fields.next().unwrap();

    if digest != recorded_digest {
        assert_ne!(
            number,
            recorded_number,
            "{SOURCE} changed: programs and maps of the old one must not mix with the new. Bump ABI to {}, then write \
             this line to {RECORD}:\n{} {digest}",
            number + 1,
            number + 1
        );
    }
    assert_eq!(
        (number, digest.as_str()),
        (recorded_number, recorded_digest),
        "ABI has a new number: write this line to {RECORD}:\n{number} {digest}"
    );
}

/// The value of `pub const ABI: u32`.
fn number(source: &str) -> u32 {
    let line = source
        .lines()
        .find_map(|line| line.strip_prefix("pub const ABI: u32 = "))
        .expect("abi.rs has ABI");
    line.trim_end_matches(';').parse().unwrap()
}

/// Digest of the code without comments and blank lines, which change nothing, and without the number itself.
fn digest(source: &str) -> String {
    let lines = source.lines().map(str::trim);
    let code = lines.filter(|line| {
        !line.is_empty() && !line.starts_with("//") && !line.starts_with("pub const ABI:")
    });
    blake3::hash(code.collect::<Vec<_>>().join("\n").as_bytes()).to_hex().to_string()
}

#[test]
fn the_digest_follows_code_and_nothing_else() {
    let before = "//! Doc.\npub const ABI: u32 = 1;\n\n/// A.\npub struct A { pub a: u32 }\n";
    assert_eq!(number(before), 1);
    assert_eq!(
        digest(before),
        digest("pub const ABI: u32 = 2;\n    pub struct A { pub a: u32 }\n")
    );
    assert_ne!(digest(before), digest("pub const ABI: u32 = 1;\npub struct A { pub a: u16 }\n"));
}
