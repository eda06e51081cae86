//! Hostile and huge documents are answered in bounded time: of a processor, because others may be at work. The limit is far
//! above what is needed (some seconds in a program that is hardly optimised) and far below what anything quadratic would take.

use std::time::Duration;

use jiff::Timestamp;
use policy::{Checked, Host, Inventory, Source, check, limits};
use rustix::time::{ClockId, clock_gettime};

const LIMIT: Duration = Duration::from_secs(20);

/// Time that this thread has had a processor.
fn worked() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("no thread works for less than no time")
}

/// Checks and renders `bytes`, in time.
fn answered(bytes: &[u8], inventory: Option<&Inventory>) -> Checked {
    let begun = worked();
    let checked = check(&[Source { name: "p", bytes }], inventory, Timestamp::UNIX_EPOCH);
    let rendered = checked.render();
    let took = worked() - begun;
    assert!(took < LIMIT, "took {took:?}");
    assert!(rendered.len() < 1 << 20, "a report of {} bytes", rendered.len());
    checked
}

fn codes(checked: &Checked) -> Vec<&'static str> {
    let mut codes: Vec<_> =
        checked.diagnostics.reported().iter().map(|diagnostic| diagnostic.code.word()).collect();
    codes.dedup();
    codes
}

/// A megabyte that looks random and is the same each time (xorshift, Marsaglia 2003).
fn noise() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..1 << 17).flat_map(|_| next()).collect()
}

#[test]
fn a_megabyte_of_noise() {
    assert_eq!(codes(&answered(&noise(), None)), ["not-utf8"]);
    let printable: Vec<u8> = noise().into_iter().map(|byte| b' ' + byte % 95).collect();
    assert!(answered(&printable, None).diagnostics.has_errors());
    let lines: Vec<u8> =
        noise().into_iter().map(|byte| if byte < 8 { b'\n' } else { b' ' + byte % 95 }).collect();
    assert!(answered(&lines, None).diagnostics.errors() > 1_000);
    let in_json: Vec<u8> = b"{".iter().copied().chain(printable).collect();
    assert_eq!(codes(&answered(&in_json, None)), ["json"]);
}

#[test]
fn a_million_of_anything() {
    for unit in [
        "(", "[", "!", "not ", ")", ",", "a,", "a&", "\"", "::", "->", "#", "a:", "has ", "x=",
        "(\n", "a,\n", "\\",
    ] {
        for start in ["", "allow ", "name x = ", "allow a -> b : ", "allow a[user in ("] {
            let text = format!("{start}{}", unit.repeat(1_000_000));
            let checked = answered(text.as_bytes(), None);
            let comment = start.is_empty() && unit == "#";
            assert_eq!(checked.diagnostics.has_errors(), !comment, "{start}{unit}...");
        }
    }
    assert_eq!(codes(&answered("{\"lines\":[".repeat(100_000).as_bytes(), None)), ["json"]);
}

#[test]
fn nesting_has_a_limit() {
    let nested = |levels: usize| {
        format!("name x = {}me{}\nallow x -> any", "(".repeat(levels), ")".repeat(levels))
    };
    let most = limits::NESTING_MAX as usize;
    assert!(!answered(nested(most).as_bytes(), None).diagnostics.has_errors());
    assert_eq!(codes(&answered(nested(most + 1).as_bytes(), None)), ["too-deep"]);
    let negated = |levels: usize| format!("allow {}me -> any", "not ".repeat(levels));
    assert_eq!(codes(&answered(negated(most + 1).as_bytes(), None)), ["too-deep"]);
}

#[test]
fn sizes_have_limits() {
    let large = vec![b'#'; limits::DOCUMENT_BYTES_MAX + 1];
    assert_eq!(codes(&answered(&large, None)), ["too-large"]);
    assert!(!answered(&large[1..], None).diagnostics.has_errors());
    let word = format!("allow any -> me owner={}", "x".repeat(limits::WORD_BYTES_MAX + 1));
    assert_eq!(codes(&answered(word.as_bytes(), None)), ["too-large"]);
    let quoted = format!("allow any -> me owner=\"{}\"", "x".repeat(limits::WORD_BYTES_MAX + 1));
    assert_eq!(codes(&answered(quoted.as_bytes(), None)), ["too-large"]);
    let tokens = format!("allow any -> {}", "me,".repeat(limits::STATEMENT_TOKENS_MAX));
    assert_eq!(codes(&answered(tokens.as_bytes(), None)), ["too-large"]);
    let checked = check(
        &vec![Source { name: "p", bytes: b"" }; limits::DOCUMENTS_MAX + 1],
        None,
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(codes(&checked), ["too-large"]);
}

#[test]
fn names_in_chains_and_circles() {
    let count = 50_000;
    let mut text: String = (1..count).map(|n| format!("name n{n} = n{}\n", n - 1)).collect();
    let circle = format!("{text}name n0 = n{}\nallow n0 -> any", count - 1);
    assert_eq!(codes(&answered(circle.as_bytes(), None)), ["recursive-name"]);
    text.push_str(&format!("name n0 = me\nallow n{} -> any", count - 1));
    assert!(!answered(text.as_bytes(), None).diagnostics.has_errors());
    // Services are told apart from selectors through the whole chain.
    let services = text
        .replace("n0 = me", "n0 = tcp/1")
        .replace("allow n", "allow any -> me : n")
        .replace(" -> any", "");
    let checked = answered(services.as_bytes(), None);
    assert!(!checked.diagnostics.has_errors(), "{}", checked.render());
}

#[test]
fn selectors_that_multiply() {
    let mut text = String::from("name n0 = role=a | role=b\n");
    for n in 1..2_000 {
        text += &format!("name n{n} = (n{0} | x{n}=1) & (n{0} | y{n}=2) & not n{0}\n", n - 1);
    }
    text += "allow n1999 -> any";
    assert!(answered(text.as_bytes(), None).diagnostics.errors() <= 2_000);
    let many: Vec<String> = (0..200).map(|n| format!("(a{n}=1 | b{n}=2 | c{n}=3)")).collect();
    let rule = format!("allow {} -> any : any\n", many.join(" & "));
    assert!(!answered(rule.repeat(300).as_bytes(), None).diagnostics.has_errors());
}

#[test]
fn unknown_names_among_many_hosts() {
    let hosts = (0..100_000).map(|n| Host {
        id: format!("host-{n:05}"),
        labels: [("role".to_owned(), format!("role-{}", n % 1_000))].into(),
        ..Host::default()
    });
    let inventory = Inventory::new(hosts.collect()).unwrap();
    let text: String =
        (0..20_000).map(|n| format!("allow hsot-{n:05} -> role=rloe-{n}\n")).collect();
    let checked = answered(text.as_bytes(), Some(&inventory));
    assert_eq!((checked.diagnostics.errors(), checked.diagnostics.warnings()), (20_000, 20_000));
}

#[test]
fn the_same_rule_many_times() {
    let text = "allow any -> me : tcp/1\n".repeat(100_000);
    let checked = answered(text.as_bytes(), None);
    assert_eq!(checked.diagnostics.warnings(), 99_999);
    let mut ids: Vec<&str> = checked.policies[0].rules().map(|rule| rule.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 100_000);
}
