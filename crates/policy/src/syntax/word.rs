//! Which words can stand bare, without quotes.

use crate::{lex::is_word_byte, limits::WORD_BYTES_MAX};

/// Whether `text` can stand without quotes where a value is expected.
pub(crate) fn is_bare(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= WORD_BYTES_MAX
        && text.bytes().all(is_word_byte)
        && !text.ends_with('-')
}

/// Whether `text` can be the id of a host that a selector names without quotes: letters, digits, `_`, `-`, `.`, not
/// beginning with a sign.
pub(crate) fn is_bare_host(text: &str) -> bool {
    is_bare(text)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// Whether `text` can be the key of a label: like a host's id, and `/` is allowed (`app.kubernetes.io/name`).
pub(crate) fn is_key(text: &str) -> bool {
    is_bare(text)
        && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/'))
}
