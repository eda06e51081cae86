//! Text to statements of tokens.
//!
//! A statement is a line. It goes on into the next line after `(`, `[`, `,`, `&` and `|`, and before `)` and `]`, but
//! never across an empty line nor into a line that begins with a rule's first word: a forgotten bracket spoils one
//! statement and not the rest of the document. One pass, no recursion, memory for one statement at a time.

use crate::{
    diagnostic::{Code, Diagnostic, Diagnostics, SourceIndex},
    limits::{STATEMENT_TOKENS_MAX, WORD_BYTES_MAX},
    span::Span,
};

/// What a token is; what it says is the text at its span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Word,
    Quoted,
    Arrow,
    Colon,
    Comma,
    Open,
    Close,
    OpenBracket,
    CloseBracket,
    Equals,
    Differs,
    Not,
    And,
    Or,
    /// The end of the statement.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

/// One statement's tokens and the comments in and around it.
#[derive(Debug, Default)]
pub(crate) struct Statement {
    /// Ends with [`TokenKind::End`]; nothing but that for an empty line or a comment's line.
    pub(crate) tokens: Vec<Token>,
    /// Comments at the ends of all its lines but the last.
    pub(crate) inner_comments: Vec<Span>,
    /// The comment at the end of its last line, `#` excluded.
    pub(crate) comment: Option<Span>,
    /// Whether a character or a limit was reported.
    pub(crate) damaged: bool,
}

pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    source: SourceIndex,
}

/// What the lexer stops at inside a line.
enum Stop {
    Token(Token),
    Comment(Span),
    LineEnd,
    Bad,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str, source: SourceIndex) -> Self {
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Self { text, at, source }
    }

    /// The next statement; `None` at the end of the text.
    pub(crate) fn next(&mut self, report: &mut Diagnostics) -> Option<Statement> {
        if self.at >= self.text.len() {
            return None;
        }
        let mut statement = Statement::default();
        loop {
            match self.stop(report, statement.damaged) {
                Stop::Token(token) if statement.tokens.len() < STATEMENT_TOKENS_MAX => {
                    statement.tokens.push(token)
                }
                Stop::Token(token) => {
                    if !statement.damaged {
                        let message = format!(
                            "the statement has more than {STATEMENT_TOKENS_MAX} words and signs"
                        );
                        report.push(Diagnostic::new(
                            Code::TooLarge,
                            self.source,
                            token.span,
                            message,
                        ));
                    }
                    statement.damaged = true;
                }
                Stop::Comment(span) => statement.comment = Some(span),
                Stop::Bad => statement.damaged = true,
                Stop::LineEnd => {
                    if statement.damaged || !self.goes_on(&statement) {
                        break;
                    }
                    statement.inner_comments.extend(statement.comment.take());
                }
            }
        }
        let end =
            statement.tokens.last().map_or(Span::new(self.at, self.at).end, |last| last.span.end);
        statement.tokens.push(Token { kind: TokenKind::End, span: Span { start: end, end } });
        Some(statement)
    }

    /// Whether the statement whose line has just ended goes on in the next line.
    fn goes_on(&self, statement: &Statement) -> bool {
        let Some(last) = statement.tokens.last() else { return false };
        let open = matches!(
            last.kind,
            TokenKind::Open
                | TokenKind::OpenBracket
                | TokenKind::Comma
                | TokenKind::And
                | TokenKind::Or
        );
        let rest = self.text.get(self.at..).unwrap_or_default();
        let next = rest.split('\n').next().unwrap_or_default().trim();
        if next.starts_with([')', ']']) {
            return true;
        }
        let first = next
            .split(|character: char| !character.is_ascii_alphanumeric())
            .next()
            .unwrap_or_default();
        open && !next.is_empty() && !RULE_WORDS.contains(&first)
    }

    fn stop(&mut self, report: &mut Diagnostics, quiet: bool) -> Stop {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let blanks = rest.len() - rest.trim_start_matches([' ', '\t', '\r']).len();
        self.at += blanks;
        let rest = self.text.get(self.at..).unwrap_or_default();
        let Some(first) = rest.chars().next() else { return Stop::LineEnd };
        match first {
            '\n' => {
                self.at += 1;
                Stop::LineEnd
            }
            '#' => self.comment(rest, report, quiet),
            '"' => self.quoted(rest, report, quiet),
            _ => {
                if let Some((kind, length)) = sign(rest) {
                    return Stop::Token(self.take(kind, length));
                }
                match word_length(rest) {
                    0 => {
                        self.bad(Code::Character, first.len_utf8(), described(first), report, quiet)
                    }
                    length if length > WORD_BYTES_MAX => {
                        let message = format!("a word has more than {WORD_BYTES_MAX} bytes");
                        self.bad(Code::TooLarge, length, message, report, quiet)
                    }
                    length => Stop::Token(self.take(TokenKind::Word, length)),
                }
            }
        }
    }

    fn take(&mut self, kind: TokenKind, length: usize) -> Token {
        let span = Span::new(self.at, self.at + length);
        self.at += length;
        Token { kind, span }
    }

    fn bad(
        &mut self,
        code: Code,
        length: usize,
        message: String,
        report: &mut Diagnostics,
        quiet: bool,
    ) -> Stop {
        let span = Span::new(self.at, self.at + length);
        self.at += length;
        if !quiet {
            report.push(Diagnostic::new(code, self.source, span, message));
        }
        Stop::Bad
    }

    fn comment(&mut self, rest: &str, report: &mut Diagnostics, quiet: bool) -> Stop {
        let line = rest.split('\n').next().unwrap_or_default().trim_end_matches('\r');
        if let Some(place) = line.find(forbidden) {
            let character = line[place..].chars().next().unwrap_or_default();
            self.at += place;
            let stop = self.bad(
                Code::Character,
                character.len_utf8(),
                described(character),
                report,
                quiet,
            );
            self.at += line.len() - place - character.len_utf8();
            return stop;
        }
        let span = Span::new(self.at + 1, self.at + line.trim_end().len());
        self.at += line.len();
        Stop::Comment(span)
    }

    fn quoted(&mut self, rest: &str, report: &mut Diagnostics, quiet: bool) -> Stop {
        let mut escaped = false;
        for (place, character) in rest.char_indices().skip(1) {
            match character {
                '\n' => break,
                '"' if !escaped => {
                    let length = place + 1;
                    if length > WORD_BYTES_MAX + 2 {
                        let message = format!("a quoted text has more than {WORD_BYTES_MAX} bytes");
                        return self.bad(Code::TooLarge, length, message, report, quiet);
                    }
                    return Stop::Token(self.take(TokenKind::Quoted, length));
                }
                _ if forbidden(character) => {
                    self.at += place;
                    return self.bad(
                        Code::Character,
                        character.len_utf8(),
                        described(character),
                        report,
                        quiet,
                    );
                }
                _ if escaped && character != '"' && character != '\\' => {
                    let message = "only \\\" and \\\\ are escapes".to_owned();
                    self.at += place - 1;
                    return self.bad(
                        Code::Character,
                        1 + character.len_utf8(),
                        message,
                        report,
                        quiet,
                    );
                }
                _ => escaped = character == '\\' && !escaped,
            }
        }
        let length = rest.split('\n').next().unwrap_or_default().trim_end().len();
        self.bad(
            Code::Syntax,
            length,
            "a quoted text does not end on its line".to_owned(),
            report,
            quiet,
        )
    }
}

/// First words of rules: a line that begins with one is never the rest of the statement before it.
const RULE_WORDS: [&str; 5] = ["allow", "deny", "refuse", "audit", "draft"];

/// Whether a line that begins like this is a rule.
pub(crate) fn begins_rule(line: &str) -> bool {
    let first =
        line.split(|character: char| !character.is_ascii_alphanumeric()).next().unwrap_or_default();
    RULE_WORDS.contains(&first)
}

fn sign(rest: &str) -> Option<(TokenKind, usize)> {
    // `::1` is an address, and `:` alone stands before services.
    if rest.starts_with("::") {
        return None;
    }
    let two = rest.get(..2).and_then(|two| match two {
        "->" => Some(TokenKind::Arrow),
        "!=" => Some(TokenKind::Differs),
        _ => None,
    });
    if let Some(kind) = two {
        return Some((kind, 2));
    }
    let kind = match rest.as_bytes().first()? {
        b':' => TokenKind::Colon,
        b',' => TokenKind::Comma,
        b'(' => TokenKind::Open,
        b')' => TokenKind::Close,
        b'[' => TokenKind::OpenBracket,
        b']' => TokenKind::CloseBracket,
        b'=' => TokenKind::Equals,
        b'!' => TokenKind::Not,
        b'&' => TokenKind::And,
        b'|' => TokenKind::Or,
        _ => return None,
    };
    Some((kind, 1))
}

/// Bytes of the word that `rest` begins with; 0 if it does not begin with one.
fn word_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let run = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
        .count();
    let colons = bytes.iter().take(run).filter(|&&byte| byte == b':').count();
    let with_colons = colons > 1 || is_moment(bytes);
    let mut length = 0;
    while let Some(&byte) = bytes.get(length) {
        let arrow = byte == b'-' && bytes.get(length + 1) == Some(&b'>');
        if arrow || !(is_word_byte(byte) || with_colons && matches!(byte, b':' | b'%')) {
            break;
        }
        length += 1;
    }
    // In `2001:db8::1: tcp/22` the last colon stands before the services.
    let word = bytes.get(..length).unwrap_or_default();
    if with_colons && word.ends_with(b":") && (!word.ends_with(b"::") || word.ends_with(b":::")) {
        length - 1
    } else {
        length
    }
}

/// `2027-01-31T18:00:00Z`
fn is_moment(bytes: &[u8]) -> bool {
    let shape = b"0000-00-00T00:";
    bytes.len() > shape.len()
        && shape
            .iter()
            .zip(bytes)
            .all(|(want, byte)| if *want == b'0' { byte.is_ascii_digit() } else { want == byte })
}

/// Bytes that make up words: of names, labels, hosts, paths, units, prefixes and services.
pub(crate) fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/' | b'@' | b'+')
}

/// Whether a character may not even stand in a comment: it would show something else than what is there.
pub(crate) fn forbidden(character: char) -> bool {
    (character.is_control() && character != '\t') || is_reordering(character)
}

/// Characters that make text look like it were in another order (Unicode bidirectional controls).
pub(crate) fn is_reordering(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}')
}

fn described(character: char) -> String {
    if forbidden(character) {
        format!("the character U+{:04X} has no place in a policy", u32::from(character))
    } else {
        format!("`{character}` has no place here")
    }
}
