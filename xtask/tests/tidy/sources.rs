//! What every Rust file keeps to: its opening contract, its length, where `unsafe` may be, and nothing left undone.

use super::{assert_tidy, texts};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Lines that one file may have.
const LINES_MAX: usize = 600;
/// Where `unsafe` may be.
const UNSAFE_CRATES: [&str; 2] = ["crates/ebpf/", "crates/kernel/"];

#[test]
fn every_file_opens_with_its_contract() {
    let sources = texts("rs");
    let silent = sources.iter().filter(|(_, text)| !text.starts_with("//! "));
    assert_tidy(
        &silent
            .map(|(name, _)| format!("{name} does not begin with //! and what it is for"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn no_file_is_too_long() {
    let mut complaints = Vec::new();
    for (name, text) in texts("rs") {
        let lines = text.lines().count();
        if lines > LINES_MAX && !is_test(&name) {
            complaints.push(format!("{name} has {lines} lines, {LINES_MAX} are allowed: split it"));
        }
    }
    assert_tidy(&complaints);
}

fn is_test(name: &str) -> bool {
    name.split('/').any(|part| part == "tests" || part == "tests.rs")
}

#[test]
fn unsafe_is_in_its_two_crates_and_says_why() {
    let mut complaints = Vec::new();
    for (name, text) in texts("rs") {
        let allowed = UNSAFE_CRATES.iter().any(|directory| name.starts_with(directory));
        for word in unsafe_words(tokens(&name, &text)) {
            if !allowed {
                complaints
                    .push(format!("{name}:{}: unsafe outside of {UNSAFE_CRATES:?}", word.line));
            } else if word.must_say_why && !says_why(&text, word.line) {
                complaints.push(format!(
                    "{name}:{}: unsafe without a line // SAFETY: above it",
                    word.line
                ));
            }
        }
    }
    assert_tidy(&complaints);
}

#[test]
fn nothing_is_left_undone() {
    let mut complaints = Vec::new();
    // In two pieces, so that this file does not find itself.
    let notes = [concat!("FIX", "ME"), concat!("X", "XX"), concat!("TO", "DO")];
    for (name, text) in texts("rs") {
        for (line, word) in undone(tokens(&name, &text)) {
            complaints.push(format!("{name}:{line}: {word}"));
        }
        for (number, line) in (1..).zip(text.lines()) {
            for note in line
                .split(|letter: char| !letter.is_alphanumeric())
                .filter(|word| notes.contains(word))
            {
                complaints.push(format!("{name}:{number}: {note}"));
            }
        }
    }
    assert_tidy(&complaints);
}

fn tokens(name: &str, text: &str) -> TokenStream {
    text.parse().unwrap_or_else(|error| panic!("{name} is not Rust: {error}"))
}

/// The word `unsafe`, and whether what follows is a claim (a block, an impl, an attribute) rather than a demand (a
/// function that callers must be careful with).
struct Unsafe {
    line: usize,
    must_say_why: bool,
}

fn unsafe_words(tokens: TokenStream) -> Vec<Unsafe> {
    let mut words = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match &token {
            TokenTree::Ident(word) if word == "unsafe" => {
                let must_say_why = match tokens.peek() {
                    Some(TokenTree::Group(group)) => group.delimiter() == Delimiter::Brace,
                    Some(TokenTree::Ident(next)) => next == "impl",
                    _ => false,
                };
                words.push(Unsafe { line: word.span().start().line, must_say_why });
            }
            TokenTree::Group(group) => words.append(&mut unsafe_words(group.stream())),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    words
}

/// Whether the statement with the word on `line` (from 1) has a SAFETY comment on that line, on the lines of the same
/// statement before it, or in the comment above the statement.
fn says_why(text: &str, line: usize) -> bool {
    let lines: Vec<_> = text.lines().take(line).map(str::trim).collect();
    let Some((own, above)) = lines.split_last() else { return false };
    if own.contains("SAFETY:") {
        return true;
    }
    for line in above.iter().rev() {
        if line.starts_with("//") {
            if line.contains("SAFETY:") {
                return true;
            }
        } else if line.is_empty() || line.ends_with([';', '{', '}']) {
            return false;
        }
    }
    false
}

/// Macros and attributes that stand for work not done.
fn undone(tokens: TokenStream) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match &token {
            TokenTree::Ident(word) if word == "todo" || word == "unimplemented" => {
                if matches!(tokens.peek(), Some(TokenTree::Punct(mark)) if mark.as_char() == '!') {
                    found.push((word.span().start().line, format!("{word}!")));
                }
            }
            TokenTree::Punct(mark) if mark.as_char() == '#' => {
                if let Some(TokenTree::Group(group)) = tokens.peek()
                    && matches!(group.stream().into_iter().next(), Some(TokenTree::Ident(name)) if name == "ignore")
                {
                    found.push((mark.span().start().line, "#[ignore]".into()));
                }
            }
            TokenTree::Group(group) => found.append(&mut undone(group.stream())),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    found
}

/// The checks see what they are for.
#[test]
fn the_checks_find_what_they_look_for() {
    let sample = concat!(
        "#[ignore]\nfn a() { todo!() }\n",
        "// SAFETY: said\nlet x =\n    unsafe { 1 };\nunsafe { 2 }\n",
        "/* unsafe */ fn b() -> &'static str { \"unsafe { }\" }\n",
        "unsafe fn c() {}\nunsafe impl D for E {}\n"
    );
    let found = undone(sample.parse().unwrap());
    assert_eq!(found, [(1, "#[ignore]".to_owned()), (2, concat!("to", "do!").to_owned())]);
    let words = unsafe_words(sample.parse().unwrap());
    let told: Vec<_> =
        words.iter().map(|it| (it.line, it.must_say_why, says_why(sample, it.line))).collect();
    assert_eq!(told, [(5, true, true), (6, true, false), (8, false, false), (9, true, false)]);
}
